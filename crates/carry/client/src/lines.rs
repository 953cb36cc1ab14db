//! Cutting a watch's body into its lines.

use bytes::{Buf, Bytes, BytesMut};

/// Collects chunks and gives whole lines. A chunk that holds whole lines is never copied.
#[derive(Default)]
pub(crate) struct Lines {
    /// The beginning of a line whose end has not come yet.
    partial: BytesMut,
    /// Where to go on looking for its end.
    rest: Bytes,
}

impl Lines {
    /// Adds a chunk. All lines of the chunk before must have been taken.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        debug_assert!(self.rest.is_empty(), "lines are taken before the next chunk");
        self.rest = chunk;
    }

    /// The next whole line, without its end.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') else {
            self.partial.extend_from_slice(&self.rest);
            self.rest = Bytes::new();
            return None;
        };
        let line = self.rest.split_to(end);
        self.rest.advance(1);
        if self.partial.is_empty() {
            return Some(line);
        }
        self.partial.extend_from_slice(&line);
        Some(self.partial.split().freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_the_chunks_are_cut() {
        let cases: [(&[&str], &[&str]); 5] = [
            (&["a\nb\n"], &["a", "b"]),
            (&["a", "b\n"], &["ab"]),
            (&["a\nb", "c", "\nd\n"], &["a", "bc", "d"]),
            (&["\n"], &[""]),
            (&["no end"], &[]),
        ];
        for (chunks, expected) in cases {
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for chunk in chunks {
                lines.push(Bytes::from_static(chunk.as_bytes()));
                while let Some(line) = lines.next() {
                    got.push(String::from_utf8_lossy(&line).into_owned());
                }
            }
            assert_eq!(got, expected, "{chunks:?}");
        }
    }
}
