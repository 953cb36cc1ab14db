//! Compressed header blocks.

use flate2::{Decompress, FlushDecompress, Status};

use super::dictionary::{CHECKSUM, DICTIONARY};
use super::frame::SpdyError;

/// How long the headers of a stream may be.
const LONGEST: usize = 16 << 10;
/// How many headers a stream may have.
const MOST: u32 = 64;

/// Names in lower case, and their values.
pub(super) type Headers = Vec<(String, String)>;

/// Reads the header blocks of one connection, which are one zlib stream.
pub(super) struct HeaderReader {
    zlib: Decompress,
}

impl Default for HeaderReader {
    fn default() -> Self {
        Self { zlib: Decompress::new(true) }
    }
}

impl HeaderReader {
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Headers, SpdyError> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut plain = Vec::with_capacity(LONGEST);
        loop {
            let before = self.zlib.total_in();
            let result = self.zlib.decompress_vec(block, &mut plain, FlushDecompress::Sync);
            let used = usize::try_from(self.zlib.total_in() - before).map_err(|_| SpdyError::Compression)?;
            block = block.get(used..).ok_or(SpdyError::Compression)?;
            match result {
                Err(error) if error.needs_dictionary() == Some(CHECKSUM) => {
                    self.zlib.set_dictionary(&DICTIONARY).map_err(|_| SpdyError::Compression)?;
                }
                Err(_) | Ok(Status::StreamEnd) => return Err(SpdyError::Compression),
                Ok(_) if plain.len() == plain.capacity() => return Err(SpdyError::TooLong("headers")),
                Ok(_) if block.is_empty() || used == 0 => return Ok(plain),
                Ok(_) => {}
            }
        }
    }
}

fn parse(mut plain: &[u8]) -> Result<Headers, SpdyError> {
    let count = number(&mut plain)?;
    if count > MOST {
        return Err(SpdyError::TooLong("headers"));
    }
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut plain)?.to_lowercase();
        let value = text(&mut plain)?;
        if name.is_empty() || headers.iter().any(|(known, _)| *known == name) {
            return Err(SpdyError::Malformed("headers"));
        }
        headers.push((name, value));
    }
    if plain.is_empty() { Ok(headers) } else { Err(SpdyError::Malformed("headers")) }
}

fn number(plain: &mut &[u8]) -> Result<u32, SpdyError> {
    let (number, rest) = plain.split_first_chunk::<4>().ok_or(SpdyError::Malformed("headers"))?;
    *plain = rest;
    Ok(u32::from_be_bytes(*number))
}

fn text(plain: &mut &[u8]) -> Result<String, SpdyError> {
    let length = usize::try_from(number(plain)?).map_err(|_| SpdyError::Malformed("headers"))?;
    let (text, rest) = plain.split_at_checked(length).ok_or(SpdyError::Malformed("headers"))?;
    *plain = rest;
    String::from_utf8(text.to_vec()).map_err(|_| SpdyError::Malformed("headers"))
}

/// Writes the header blocks of one connection. Our replies have no headers, so each block is the same
/// and needs no compressor: the number 0 as a stored deflate block, and an empty one, at which readers
/// hand out what they have (as after a sync flush).
#[derive(Default)]
pub(super) struct EmptyHeaders {
    begun: bool,
}

impl EmptyHeaders {
    pub(super) fn write(&mut self, to: &mut Vec<u8>) {
        if !self.begun {
            self.begun = true;
            // zlib: deflate with a window of 32 KiB, preset dictionary, default level.
            to.extend_from_slice(&[0x78, 0xbb]);
            to.extend_from_slice(&CHECKSUM.to_be_bytes());
        }
        to.extend_from_slice(&[0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0]);
        to.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(super) mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;

    /// A client's side.
    pub(in crate::spdy) struct HeaderWriter {
        zlib: Compress,
    }

    impl HeaderWriter {
        pub(in crate::spdy) fn new() -> Self {
            let mut zlib = Compress::new(Compression::best(), true);
            zlib.set_dictionary(&DICTIONARY).unwrap();
            Self { zlib }
        }

        pub(in crate::spdy) fn write(&mut self, headers: &[(&str, &str)]) -> Vec<u8> {
            self.compress(&plain(headers))
        }

        pub(in crate::spdy) fn compress(&mut self, plain: &[u8]) -> Vec<u8> {
            let mut block = Vec::with_capacity(64 + 2 * plain.len());
            self.zlib.compress_vec(plain, &mut block, FlushCompress::Sync).unwrap();
            block
        }
    }

    fn plain(headers: &[(&str, &str)]) -> Vec<u8> {
        let number = |length: usize| u32::try_from(length).unwrap().to_be_bytes();
        let mut plain = number(headers.len()).to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&number(text.len()));
            plain.extend_from_slice(text.as_bytes());
        }
        plain
    }

    #[test]
    fn blocks_of_one_connection_read_as_written() {
        let (mut writer, mut reader) = (HeaderWriter::new(), HeaderReader::default());
        for headers in [&[("streamtype", "error"), ("port", "80")][..], &[("streamtype", "data")], &[]] {
            let read = reader.read(&writer.write(headers)).unwrap();
            assert!(read.iter().map(|(name, value)| (&**name, &**value)).eq(headers.iter().copied()));
        }
    }

    #[test]
    fn our_empty_blocks_are_zlib() {
        let (mut writer, mut reader) = (EmptyHeaders::default(), HeaderReader::default());
        for _ in 0..3 {
            let mut block = Vec::new();
            writer.write(&mut block);
            assert_eq!(reader.read(&block).unwrap(), []);
        }
    }

    #[test]
    fn malformed_blocks_are_refused() {
        let long = "x".repeat(20 << 10);
        let many: Vec<String> = (0..65).map(|number| number.to_string()).collect();
        let many: Vec<_> = many.iter().map(|name| (&**name, "")).collect();
        for (what, block) in [
            ("bomb", plain(&[("a", &long)])),
            ("number", plain(&many)),
            ("repeated", plain(&[("a", "1"), ("a", "2")])),
            ("nameless", plain(&[("", "1")])),
            ("short", plain(&[("a", "1")])[..9].to_vec()),
            ("long", [plain(&[("a", "1")]), vec![0]].concat()),
            ("length", vec![0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, b'a']),
            ("count", vec![0xff, 0xff, 0xff, 0xff]),
            ("text", vec![0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0, 0, 0, 0]),
            ("nothing", vec![]),
        ] {
            let compressed = HeaderWriter::new().compress(&block);
            assert!(HeaderReader::default().read(&compressed).is_err(), "{what}");
        }
        assert!(HeaderReader::default().read(&[0xff; 40]).is_err(), "not zlib");
        let mut other = Compress::new(Compression::best(), true);
        other.set_dictionary(b"another dictionary").unwrap();
        let mut block = Vec::with_capacity(64);
        other.compress_vec(&[0; 4], &mut block, FlushCompress::Sync).unwrap();
        assert!(HeaderReader::default().read(&block).is_err(), "another dictionary");
    }
}
