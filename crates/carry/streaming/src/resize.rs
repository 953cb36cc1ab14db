//! The sizes of the client's terminal.

use serde::Deserialize;
use tokio::io::AsyncReadExt;

use crate::StreamReader;

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Lines.
    pub height: u16,
}

/// The sizes that the client sends, one JSON object after the other.
#[derive(Debug)]
pub struct Resizes {
    stream: StreamReader,
    unread: Vec<u8>,
}

/// No size is longer than this.
const LONGEST: usize = 1024;

impl Resizes {
    pub(crate) fn new(stream: StreamReader) -> Self {
        Self { stream, unread: Vec::new() }
    }

    /// The next size; none when the client closed the stream or sent nonsense. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<TerminalSize> {
        loop {
            match take(&mut self.unread) {
                Taken::Size(size) => return Some(size),
                Taken::Nonsense => return None,
                Taken::Nothing => {}
            }
            if self.stream.read_buf(&mut self.unread).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl futures::Stream<Item = TerminalSize> + Send {
        futures::stream::unfold(self, |mut resizes| async move { Some((resizes.next().await?, resizes)) })
    }
}

enum Taken {
    Size(TerminalSize),
    Nothing,
    Nonsense,
}

/// Takes the first object off the front, if it is there in full.
fn take(unread: &mut Vec<u8>) -> Taken {
    let mut objects = serde_json::Deserializer::from_slice(unread).into_iter::<TerminalSize>();
    match objects.next() {
        Some(Ok(size)) => {
            let end = objects.byte_offset();
            unread.drain(..end);
            Taken::Size(size)
        }
        Some(Err(error)) if !error.is_eof() || unread.len() > LONGEST => Taken::Nonsense,
        _ => Taken::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(parts: &[&str]) -> (Vec<(u16, u16)>, bool) {
        let (mut unread, mut sizes) = (Vec::new(), Vec::new());
        for part in parts {
            unread.extend_from_slice(part.as_bytes());
            loop {
                match take(&mut unread) {
                    Taken::Size(size) => sizes.push((size.width, size.height)),
                    Taken::Nothing => break,
                    Taken::Nonsense => return (sizes, false),
                }
            }
        }
        (sizes, true)
    }

    #[test]
    fn sizes_come_in_any_pieces() {
        for (parts, expected, sane) in [
            (vec!["{\"Width\":80,\"Height\":24}\n"], vec![(80, 24)], true),
            (
                vec!["{\"Width\":80,", "\"Height\":24}{\"Width\":1,\"Height\":2}"],
                vec![(80, 24), (1, 2)],
                true,
            ),
            (vec!["\n \n"], vec![], true),
            (vec!["{\"Width\":80}"], vec![], false),
            (vec!["{\"Width\":-1,\"Height\":24}"], vec![], false),
            (vec!["{\"Width\":70000,\"Height\":24}"], vec![], false),
            (vec!["stty"], vec![], false),
            (vec!["{\"Width\":", &" ".repeat(2000)], vec![], false),
        ] {
            assert_eq!(sizes(&parts), (expected, sane), "{parts:?}");
        }
    }
}
