//! JSON text whose letters are all Unicode.
//!
//! Go's reader puts U+FFFD in the place of bytes that are no UTF-8 and of halves of surrogate pairs; the
//! parser here refuses both. What enters are bytes that it has refused; what leaves is text that it may read.

/// The text as Go reads it; none if that makes no difference.
pub(crate) fn mended(bytes: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(std::iter::repeat_n(char::REPLACEMENT_CHARACTER, chunk.invalid().len()));
    }
    let text = without_halves(&text);
    (text.as_bytes() != bytes).then_some(text)
}

/// The text with U+FFFD for each escape that is half of a pair.
fn without_halves(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest[at..];
        let (written, size) = match (unit(escape), unit(escape.get(6..).unwrap_or_default())) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (&escape[..12], 12),
            (Some(0xd800..=0xdfff), _) => ("\\ufffd", 6),
            _ => {
                // The backslash and what it escapes, which may be another one.
                let size: usize = escape.chars().take(2).map(char::len_utf8).sum();
                (&escape[..size], size)
            }
        };
        out.push_str(written);
        rest = &escape[size..];
    }
    out.push_str(rest);
    out
}

/// The number of an escape `\uXXXX` at the beginning of a text.
fn unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_no_unicode_is_replaced() {
        for (bytes, expected) in [
            (&b"plain"[..], None),
            (br"\ud83d\ude00 \\ud800 \n", None),
            (b"a\xff\xfeb", Some("a\u{fffd}\u{fffd}b")),
            (b"\xe2\x82", Some("\u{fffd}\u{fffd}")),
            (br"\ud800", Some(r"\ufffd")),
            (br"\ud800\u0041\udc00", Some(r"\ufffd\u0041\ufffd")),
            (br"\\\uDBFFx\", Some(r"\\\ufffdx\")),
        ] {
            assert_eq!(mended(bytes).as_deref(), expected, "{bytes:?}");
        }
    }
}
