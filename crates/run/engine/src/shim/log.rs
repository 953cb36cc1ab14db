//! Log files as the container runtime interface has them.
//!
//! ```text
//! 2026-01-02T03:04:05.000000000Z stdout F a whole line
//! 2026-01-02T03:04:05.000000001Z stderr P the first part of a long one
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Longer lines are split into parts of this size, as other engines do.
const LINE_LIMIT: usize = 16 * 1024;

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Stdout => b" stdout ",
            Self::Stderr => b" stderr ",
        }
    }
}

/// The log file of a container.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    /// Kept between writes, so that a busy log allocates nothing.
    lines: Vec<u8>,
    /// The last line in the file has no end: there was no room for it.
    torn: bool,
}

impl Log {
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        let file = open(&path)?;
        Ok(Self { path, file, lines: Vec::new(), torn: false })
    }

    /// Opens the file anew after somebody has moved it away.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        self.torn = false;
        Ok(())
    }

    /// Writes the whole lines of `rest` followed by `chunk`, and leaves what is unfinished in `rest`.
    pub(crate) fn write(&mut self, stream: Stream, rest: &mut Vec<u8>, chunk: &[u8], now: &str) {
        self.lines.clear();
        let mut chunk = chunk;
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            let (line, after) = chunk.split_at(end);
            chunk = after.get(1..).unwrap_or_default();
            rest.extend_from_slice(line);
            self.finish(stream, rest, now);
        }
        rest.extend_from_slice(chunk);
        while rest.len() >= LINE_LIMIT {
            let part: Vec<u8> = rest.drain(..LINE_LIMIT).collect();
            self.push(stream, b"P ", &part, now);
        }
        self.flush();
    }

    /// Writes what is left without a newline at the end of the stream: part of a line that never ended, so
    /// that readers add no newline, either.
    pub(crate) fn end(&mut self, stream: Stream, rest: &mut Vec<u8>, now: &str) {
        self.lines.clear();
        for part in rest.chunks(LINE_LIMIT) {
            self.push(stream, b"P ", part, now);
        }
        rest.clear();
        self.flush();
    }

    fn finish(&mut self, stream: Stream, rest: &mut Vec<u8>, now: &str) {
        let mut parts = rest.chunks(LINE_LIMIT).peekable();
        if parts.peek().is_none() {
            self.push(stream, b"F ", b"", now);
        }
        while let Some(part) = parts.next() {
            self.push(stream, if parts.peek().is_some() { b"P " } else { b"F " }, part, now);
        }
        rest.clear();
    }

    fn push(&mut self, stream: Stream, tag: &[u8], line: &[u8], now: &str) {
        for piece in [now.as_bytes(), stream.name(), tag, line, b"\n"] {
            self.lines.extend_from_slice(piece);
        }
    }

    /// A full disk must not stop the container: what cannot be written is lost, and what comes later begins on a
    /// line of its own.
    fn flush(&mut self) {
        if self.torn && self.file.write_all(b"\n").is_err() {
            return;
        }
        self.torn = false;
        let mut left = self.lines.as_slice();
        while !left.is_empty() {
            match self.file.write(left) {
                Ok(length) if length > 0 => left = &left[length..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => {
                    let written = self.lines.len() - left.len();
                    self.torn = self.lines[..written].last().is_some_and(|last| *last != b'\n');
                    return;
                }
            }
        }
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    // The caller names a file in a folder of the container's own and need not have made that.
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let opened = OpenOptions::new().append(true).create(true).mode(0o640).open(path);
    opened.map_err(|error| io::Error::new(error.kind(), format!("log {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn lines_parts_and_the_unfinished_end() {
        let path = std::env::temp_dir().join(format!("plimsoll-log-{}", std::process::id()));
        let mut log = Log::open(path.clone()).unwrap();
        let mut rest = Vec::new();
        log.write(Stream::Stdout, &mut rest, b"one\n\ntw", "T");
        log.write(Stream::Stdout, &mut rest, b"o\nlast", "T");
        log.end(Stream::Stdout, &mut rest, "T");
        let long = [vec![b'x'; LINE_LIMIT + 3], b"\n".to_vec()].concat();
        log.write(Stream::Stderr, &mut rest, &long, "T");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let long = format!("T stderr P {}\nT stderr F xxx\n", "x".repeat(LINE_LIMIT));
        assert_eq!(text, format!("T stdout F one\nT stdout F \nT stdout F two\nT stdout P last\n{long}"));
    }
}
