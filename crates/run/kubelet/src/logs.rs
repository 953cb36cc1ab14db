//! Reading containers' logs: lines `<time> <stream> <P|F> <text>`, from a window and on as they grow.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use plimsoll_podlife::rotation::{COMPRESSED, UNFINISHED};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use crate::rotation::rotated;

/// Which part of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Window {
    /// Only the last lines.
    pub(crate) tail: Option<u64>,
    /// Only what was written since.
    pub(crate) since: Option<Timestamp>,
    /// With the time before each line.
    pub(crate) timestamps: bool,
    /// At most so many bytes.
    pub(crate) limit: Option<u64>,
    /// Only this stream, `stdout` or `stderr`.
    pub(crate) stream: Option<&'static str>,
}

/// How much is read at once, in bytes.
const BLOCK: usize = 64 * 1024;

/// Sends the window of a log, and what is added to it when `ended` is given, until that is done.
pub(crate) async fn send(
    path: PathBuf,
    window: Window,
    ended: Option<impl Future<Output = ()>>,
    sender: mpsc::Sender<Bytes>,
) -> io::Result<()> {
    let watch = ended.is_some().then(|| Watch::new(&path)).transpose()?;
    let span = {
        let (path, tail) = (path.clone(), window.tail);
        tokio::task::spawn_blocking(move || span(&path, tail)).await.map_err(io::Error::other)??
    };
    // Without following, what is written meanwhile is not part of the answer: the last line is one line.
    let unread = if watch.is_some() { u64::MAX } else { span.end - span.start };
    let file = open(&path, span.start).await?;
    let mut reader = Reader { file, unread, path, text: Text::new(window), sender };
    let (Some(ended), Some(mut watch)) = (ended, watch) else {
        reader.read().await?;
        return Ok(());
    };
    tokio::pin!(ended);
    let mut last = false;
    while reader.read().await? && !last {
        // The file is read once more after the end: the last lines may have come with it.
        tokio::select! {
            () = &mut ended => last = true,
            changed = watch.changed() => changed?,
            () = reader.sender.closed() => return Ok(()),
        }
        reader.follow_rotation().await?;
    }
    Ok(())
}

async fn open(path: &Path, start: u64) -> io::Result<tokio::fs::File> {
    use tokio::io::AsyncSeekExt;
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(SeekFrom::Start(start)).await?;
    Ok(file)
}

struct Reader {
    path: PathBuf,
    file: tokio::fs::File,
    /// Bytes of the file that are still to be read.
    unread: u64,
    text: Text,
    sender: mpsc::Sender<Bytes>,
}

impl Reader {
    /// Sends all there is; false when nobody wants more.
    async fn read(&mut self) -> io::Result<bool> {
        let mut block = vec![0; BLOCK];
        loop {
            let room = usize::try_from(self.unread).unwrap_or(BLOCK).min(BLOCK);
            let count = self.file.read(&mut block[..room]).await?;
            if count == 0 {
                return Ok(true);
            }
            self.unread -= count as u64;
            let out = self.text.take(&block[..count]);
            if !out.is_empty() && self.sender.send(out).await.is_err() || self.text.full() {
                return Ok(false);
            }
        }
    }

    /// Goes on with the new file when the log was rotated.
    async fn follow_rotation(&mut self) -> io::Result<()> {
        use std::os::unix::fs::MetadataExt;
        let Ok(now) = tokio::fs::metadata(&self.path).await else { return Ok(()) };
        let old = self.file.metadata().await?;
        if now.ino() != old.ino() {
            self.read().await?;
            for between in successors(&self.path, &old)? {
                self.file = open(&between, 0).await?;
                self.read().await?;
            }
            self.file = open(&self.path, 0).await?;
        }
        Ok(())
    }
}

/// The files that a log was after it was `old` and before it is what it is: it may be rotated more than once
/// between two looks.
fn successors(path: &Path, old: &std::fs::Metadata) -> io::Result<Vec<PathBuf>> {
    use std::os::unix::fs::MetadataExt;
    let mut names = rotated(path)?;
    names.retain(|name| !name.ends_with(COMPRESSED) && !name.ends_with(UNFINISHED));
    names.sort_unstable();
    let folder = path.parent().unwrap_or(Path::new("/"));
    let later = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|meta| meta.ino() != old.ino() && meta.modified().ok() > old.modified().ok())
    };
    Ok(names.into_iter().map(|name| folder.join(name)).filter(later).collect())
}

/// Turns log lines into what users see.
struct Text {
    window: Window,
    rest: BytesMut,
    left: u64,
    /// The last piece ended its line.
    fresh: bool,
}

impl Text {
    fn new(window: Window) -> Self {
        Self { left: window.limit.unwrap_or(u64::MAX), window, rest: BytesMut::new(), fresh: true }
    }

    fn full(&self) -> bool {
        self.left == 0
    }

    fn take(&mut self, block: &[u8]) -> Bytes {
        self.rest.extend_from_slice(block);
        let mut out = BytesMut::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line = self.rest.split_to(end + 1);
            self.line(&line, &mut out);
        }
        let size = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        out.truncate(size);
        self.left -= size as u64;
        out.freeze()
    }

    fn line(&mut self, line: &[u8], out: &mut BytesMut) {
        let Some(entry) = Entry::parse(line) else { return };
        if self.window.stream.is_some_and(|stream| stream.as_bytes() != entry.stream) {
            return;
        }
        if let Some(since) = self.window.since
            && entry.at().is_none_or(|at| at < since)
        {
            return;
        }
        if self.window.timestamps && self.fresh {
            out.extend_from_slice(entry.time);
            out.extend_from_slice(b" ");
        }
        out.extend_from_slice(entry.text);
        self.fresh = entry.whole;
        if entry.whole {
            out.extend_from_slice(b"\n");
        }
    }
}

struct Entry<'a> {
    time: &'a [u8],
    stream: &'a [u8],
    whole: bool,
    text: &'a [u8],
}

impl<'a> Entry<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.strip_suffix(b"\n").unwrap_or(line).splitn(4, |byte| *byte == b' ');
        let (time, stream, tags) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = tags.split(|byte| *byte == b':').next() != Some(b"P");
        Some(Self { time, stream, whole, text: parts.next().unwrap_or_default() })
    }

    fn at(&self) -> Option<Timestamp> {
        std::str::from_utf8(self.time).ok()?.parse().ok()
    }
}

/// The bytes of a file as it is now, or of its last lines.
fn span(path: &Path, tail: Option<u64>) -> io::Result<Range<u64>> {
    let mut file = std::fs::File::open(path)?;
    let size = file.seek(SeekFrom::End(0))?;
    let start = match tail {
        Some(lines) => tail_offset(&mut file, size, lines)?,
        None => 0,
    };
    Ok(start..size)
}

/// Where the last `lines` lines of a file of this size begin.
fn tail_offset(file: &mut std::fs::File, size: u64, lines: u64) -> io::Result<u64> {
    if lines == 0 {
        return Ok(size);
    }
    let mut block = vec![0; BLOCK];
    let (mut end, mut found) = (size, 0);
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let part = &mut block[..usize::try_from(end - start).map_err(io::Error::other)?];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        for (index, byte) in part.iter().enumerate().rev() {
            let at = start + index as u64;
            // The newline at the very end belongs to the last line.
            if *byte == b'\n' && at + 1 != size {
                found += 1;
                if found == lines {
                    return Ok(at + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

/// The text of the last lines of a log, at most so many bytes of it.
pub(crate) fn last_lines(path: &Path, bytes: usize, lines: usize) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let start = span(path, Some(lines as u64))?.start;
        let mut file = std::fs::File::open(path)?;
        file.seek(SeekFrom::Start(start))?;
        let mut raw = Vec::new();
        file.take(4 * BLOCK as u64).read_to_end(&mut raw)?;
        Ok(raw)
    };
    let text = Text::new(Window::default()).take(&read().unwrap_or_default());
    let from = text.len().saturating_sub(bytes);
    String::from_utf8_lossy(&text[from..]).into_owned()
}

/// Tells when a file has grown or was replaced.
struct Watch {
    /// The kernel's events as a stream of bytes; what they say does not matter, only that they come.
    events: pipe::Receiver,
}

impl Watch {
    fn new(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(path, AddWatchFlags::IN_MODIFY)?;
        if let Some(folder) = path.parent() {
            let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_MODIFY;
            inotify.add_watch(folder, flags)?;
        }
        Ok(Self { events: pipe::Receiver::from_owned_fd_unchecked(OwnedFd::from(inotify))? })
    }

    async fn changed(&mut self) -> io::Result<()> {
        let mut events = [0; 4096];
        self.events.read(&mut events).await.map(drop)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::io::Write;
    use tokio::sync::oneshot;

    const LOG: &str = "2026-01-01T00:00:01.5Z stdout F one\n\
                       2026-01-01T00:00:02Z stderr F two\n\
                       2026-01-01T00:00:03Z stdout P thr\n\
                       2026-01-01T00:00:03Z stdout F ee\n\
                       2026-01-01T00:00:04Z stdout F \n";

    async fn window(window: Window) -> String {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let (sender, mut receiver) = mpsc::channel(100);
        send(path, window, None::<std::future::Ready<()>>, sender).await.unwrap();
        let mut text = String::new();
        while let Some(bytes) = receiver.recv().await {
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        text
    }

    #[tokio::test]
    async fn windows() {
        let whole = Window::default();
        let cases = [
            (whole.clone(), "one\ntwo\nthree\n\n"),
            (Window { tail: Some(0), ..whole.clone() }, ""),
            (Window { tail: Some(1), ..whole.clone() }, "\n"),
            (Window { tail: Some(4), ..whole.clone() }, "two\nthree\n\n"),
            (Window { tail: Some(99), ..whole.clone() }, "one\ntwo\nthree\n\n"),
            (Window { limit: Some(5), ..whole.clone() }, "one\nt"),
            (Window { stream: Some("stderr"), ..whole.clone() }, "two\n"),
            (Window { since: Some("2026-01-01T00:00:03Z".parse().unwrap()), ..whole.clone() }, "three\n\n"),
            (
                Window { timestamps: true, ..whole },
                "2026-01-01T00:00:01.5Z one\n2026-01-01T00:00:02Z two\n2026-01-01T00:00:03Z three\n2026-01-01T00:00:04Z \n",
            ),
        ];
        for (asked, expected) in cases {
            assert_eq!(window(asked.clone()).await, expected, "{asked:?}");
        }
    }

    #[tokio::test]
    async fn following_sees_growth_and_rotation_until_the_end() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("0.log");
        std::fs::write(&path, "2026-01-01T00:00:01Z stdout F one\n").unwrap();
        let (sender, mut receiver) = mpsc::channel(100);
        let (end, ended) = oneshot::channel::<()>();
        let ended = async { drop(ended.await) };
        let task = tokio::spawn(send(path.clone(), Window::default(), Some(ended), sender));
        assert_eq!(receiver.recv().await.unwrap(), "one\n");
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"2026-01-01T00:00:02Z stdout F two\n").unwrap();
        assert_eq!(receiver.recv().await.unwrap(), "two\n");
        std::fs::rename(&path, temp.path().join("0.log.1")).unwrap();
        std::fs::write(&path, "2026-01-01T00:00:03Z stdout F three\n").unwrap();
        assert_eq!(receiver.recv().await.unwrap(), "three\n");
        end.send(()).unwrap();
        task.await.unwrap().unwrap();
        assert_eq!(receiver.recv().await, None);
    }

    #[tokio::test]
    async fn what_is_written_while_a_log_is_read_is_left_out() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("0.log");
        let line = "2026-01-01T00:00:01Z stdout F one\n";
        std::fs::write(&path, line.repeat(10_000)).unwrap();
        let (sender, mut receiver) = mpsc::channel(1);
        let asked = Window::default();
        let task = tokio::spawn(send(path.clone(), asked, None::<std::future::Ready<()>>, sender));
        let mut seen = receiver.recv().await.unwrap().len();
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(line.repeat(10_000).as_bytes()).unwrap();
        while let Some(bytes) = receiver.recv().await {
            seen += bytes.len();
        }
        task.await.unwrap().unwrap();
        assert_eq!(seen, 10_000 * "one\n".len());
    }

    #[test]
    fn what_a_log_was_between_two_looks() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("0.log");
        let write = |name: &str, age: u64| {
            let path = temp.path().join(name);
            std::fs::write(&path, "").unwrap();
            let time = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            path.metadata().unwrap()
        };
        write("0.log", 0);
        write("0.log.20260101-000001.gz", 5);
        write("0.log.20260101-000002", 40);
        let old = write("0.log.20260101-000003", 30);
        write("0.log.20260101-000004", 20);
        write("0.log.20260101-000004.001", 10);
        write("0.log.20260101-000004.001.tmp", 1);
        let names: Vec<_> = successors(&path, &old).unwrap();
        let expected = ["0.log.20260101-000004", "0.log.20260101-000004.001"];
        assert_eq!(names, expected.map(|name| temp.path().join(name)));
    }

    #[test]
    fn tails_of_large_files_begin_at_a_line() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("x");
        let line = "x".repeat(99);
        std::fs::write(&path, format!("{line}\n").repeat(5000)).unwrap();
        for lines in [1, 700, 4999] {
            assert_eq!(span(&path, Some(lines)).unwrap(), (5000 - lines) * 100..500_000);
        }
        assert_eq!(span(&path, Some(5000)).unwrap().start, 0);
    }

    #[test]
    fn last_words_from_a_log() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("x");
        std::fs::write(&path, LOG).unwrap();
        assert_eq!(last_lines(&path, 100, 80), "one\ntwo\nthree\n\n");
        assert_eq!(last_lines(&path, 4, 80), "ee\n\n");
        assert_eq!(last_lines(Path::new("/nowhere"), 4, 80), "");
    }
}
