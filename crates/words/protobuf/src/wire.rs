//! The wire format: tags, varints, lengths.

use crate::ProtobufError;

/// The value of one field as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    pub(crate) fn bytes(self) -> Result<&'a [u8], ProtobufError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(ProtobufError::value(format!("proto: wrong wire type {}", other.kind()))),
        }
    }

    pub(crate) fn varint(self) -> Result<u64, ProtobufError> {
        match self {
            Self::Varint(number) => Ok(number),
            other => Err(ProtobufError::value(format!("proto: wrong wire type {}", other.kind()))),
        }
    }

    pub(crate) fn double(self) -> Result<f64, ProtobufError> {
        match self {
            Self::Fixed64(bits) => Ok(f64::from_bits(bits)),
            other => Err(ProtobufError::value(format!("proto: wrong wire type {}", other.kind()))),
        }
    }

    pub(crate) fn text(self) -> Result<&'a str, ProtobufError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| ProtobufError::value("proto: invalid UTF-8"))
    }

    fn kind(self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Fixed32(_) => 5,
        }
    }
}

/// Reads fields one after the other; never beyond its bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and value; `None` at the end.
    pub(crate) fn field(&mut self) -> Result<Option<(u32, Wire<'a>)>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|&number| number > 0 && number < 1 << 29);
        let number = number.ok_or_else(|| ProtobufError::value(format!("proto: illegal tag {tag}")))?;
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => Wire::Bytes(self.length_delimited()?),
            5 => Wire::Fixed32(u32::from_le_bytes(self.array()?)),
            other => return Err(ProtobufError::value(format!("proto: illegal wire type {other}"))),
        };
        Ok(Some((number, value)))
    }

    /// The next bare varint; `None` at the end (packed numbers).
    pub(crate) fn number(&mut self) -> Result<Option<u64>, ProtobufError> {
        if self.rest.is_empty() { Ok(None) } else { self.varint().map(Some) }
    }

    fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut number = 0u64;
        for at in 0..10 {
            let byte = *self.rest.get(at).ok_or_else(cut)?;
            if at == 9 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(number);
            }
        }
        Err(ProtobufError::value("proto: integer overflow"))
    }

    fn length_delimited(&mut self) -> Result<&'a [u8], ProtobufError> {
        let length = usize::try_from(self.varint()?).map_err(|_| cut())?;
        self.take(length)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtobufError> {
        Ok(self.take(N)?.try_into().expect("took N bytes"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], ProtobufError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(cut)?;
        self.rest = rest;
        Ok(taken)
    }
}

fn cut() -> ProtobufError {
    ProtobufError::value("unexpected EOF")
}

/// Writes a message from its end to its beginning.
///
/// So the length of a nested message is known when it is due, and nothing is measured or moved
/// twice. Fields are written in descending order; [`Writer::finish`] turns the bytes around.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    reversed: Vec<u8>,
}

impl Writer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { reversed: Vec::with_capacity(bytes) }
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.reversed.reverse();
        self.reversed
    }

    /// Marks the end of a nested message, whose fields follow.
    pub(crate) fn open(&self) -> usize {
        self.reversed.len()
    }

    /// Puts length and tag before everything since `open`.
    pub(crate) fn close(&mut self, number: u32, open: usize) {
        self.varint((self.reversed.len() - open) as u64);
        self.tag(number, 2);
    }

    pub(crate) fn bytes(&mut self, number: u32, bytes: &[u8]) {
        let open = self.open();
        self.raw(bytes);
        self.close(number, open);
    }

    pub(crate) fn number(&mut self, number: u32, value: u64) {
        self.varint(value);
        self.tag(number, 0);
    }

    pub(crate) fn double(&mut self, number: u32, value: f64) {
        self.raw(&value.to_bits().to_le_bytes());
        self.tag(number, 1);
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.reversed.extend(bytes.iter().rev());
    }

    fn tag(&mut self, number: u32, kind: u8) {
        self.varint(u64::from(number) << 3 | u64::from(kind));
    }

    fn varint(&mut self, mut value: u64) {
        let mut bytes = [0; 10];
        let mut length = 0;
        loop {
            bytes[length] = (value & 0x7f) as u8 | 0x80;
            length += 1;
            value >>= 7;
            if value == 0 {
                break;
            }
        }
        bytes[length - 1] &= 0x7f;
        self.raw(&bytes[..length]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_published_bytes() {
        for (value, bytes) in [
            (0, &[0x08, 0x00][..]),
            (1, &[0x08, 0x01]),
            (300, &[0x08, 0xac, 0x02]),
            (u64::MAX, &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ] {
            let mut writer = Writer::default();
            writer.number(1, value);
            let written = writer.finish();
            assert_eq!(written, bytes);
            assert_eq!(Reader::new(&written).field(), Ok(Some((1, Wire::Varint(value)))));
        }
    }

    #[test]
    fn nested_messages_carry_their_lengths() {
        let mut writer = Writer::default();
        let outer = writer.open();
        writer.bytes(2, b"ab");
        writer.number(1, 7);
        writer.close(16, outer);
        let bytes = writer.finish();
        assert_eq!(bytes, [0x82, 0x01, 6, 0x08, 7, 0x12, 2, b'a', b'b']);
        let (number, inner) = Reader::new(&bytes).field().expect("well-formed").expect("a field");
        assert_eq!((number, inner.bytes().map(<[u8]>::len)), (16, Ok(6)));
    }

    #[test]
    fn malformed_fields_are_refused() {
        for (bytes, cause) in [
            (&[0x08][..], "unexpected EOF"),
            (&[0x0a, 5, 1], "unexpected EOF"),
            (&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], "unexpected EOF"),
            (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02], "integer overflow"),
            (&[0x00, 0x00], "illegal tag 0"),
            (&[0x0b], "illegal wire type 3"),
            (&[0x0f], "illegal wire type 7"),
            (&[0x09, 1, 2, 3], "unexpected EOF"),
            (&[0x0d, 1, 2, 3], "unexpected EOF"),
        ] {
            let error = Reader::new(bytes).field().expect_err(cause).to_string();
            assert!(error.contains(cause), "{error}");
        }
    }
}
