//! Keys of clients are bytes; those of the store are text in which each byte is the character of its number.

use bytes::Bytes;
use plimsoll_mvcc::Span;

/// A key of the store.
pub(crate) fn text(key: &[u8]) -> String {
    key.iter().copied().map(char::from).collect()
}

/// A key of a client.
pub(crate) fn bytes(key: &str) -> Bytes {
    if key.is_ascii() {
        return Bytes::copy_from_slice(key.as_bytes());
    }
    // Nobody writes other characters than those of bytes: names of objects are ASCII.
    key.chars().map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?')).collect()
}

/// The keys from `key` on and before `end`: none, that key alone; a zero, all behind it.
pub(super) fn span(key: &[u8], end: &[u8]) -> Span {
    match end {
        [] => Span::key(&text(key)),
        [0] => Span::between(&text(key), None),
        end => Span::between(&text(key), Some(&text(end))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_come_back_and_keep_their_order() {
        let mut keys: Vec<Vec<u8>> = vec![vec![], vec![0], b"a".into(), b"a\x7f".into(), b"a\x80".into()];
        keys.extend([b"a\xff\0".to_vec(), "b\u{e9}".into(), vec![0xff], vec![0xff, 0xff]]);
        assert!(keys.is_sorted());
        let texts: Vec<_> = keys.iter().map(|key| text(key)).collect();
        assert!(texts.is_sorted());
        assert!(keys.iter().zip(&texts).all(|(key, text)| *key == bytes(text)));
        assert_eq!(span(b"a/", b"a0"), Span::Prefix("a/".into()));
        assert_eq!(span(b"\xc3", b"\xc4"), Span::Prefix("\u{c3}".into()));
    }
}
