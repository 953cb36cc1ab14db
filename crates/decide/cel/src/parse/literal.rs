//! String and bytes literals: their end and their escapes.

use super::tree::Literal;

/// The letters before a string's quote.
#[derive(Default)]
pub(super) struct Prefix {
    pub(super) raw: bool,
    pub(super) bytes: bool,
    pub(super) length: usize,
}

/// How many code points the literal takes, and what stands between its quotes if it ends.
pub(super) fn delimited(text: &[char], raw: bool) -> (usize, Option<&[char]>) {
    let quote = text[0];
    let triple = text.len() >= 3 && text[1] == quote && text[2] == quote;
    let width = if triple { 3 } else { 1 };
    let mut at = width;
    while at < text.len() {
        let closing = text[at..].len() >= width && text[at..at + width].iter().all(|c| *c == quote);
        if closing {
            return (at + width, Some(&text[width..at]));
        }
        match text[at] {
            '\n' | '\r' if !triple => return (at, None),
            '\\' if !raw => at += 2,
            _ => at += 1,
        }
    }
    (text.len(), None)
}

/// The value of a literal's content.
pub(super) fn unescape(content: &[char], prefix: &Prefix) -> Result<Literal, String> {
    let mut text = String::new();
    let mut bytes = Vec::new();
    let mut rest = content;
    while let Some((&c, after)) = rest.split_first() {
        rest = after;
        if c == '\\' && !prefix.raw {
            let (value, numeric) = escape(&mut rest, prefix.bytes)?;
            if prefix.bytes && numeric {
                bytes.push(u8::try_from(value).map_err(|_| invalid())?);
            } else {
                let c = char::from_u32(value).ok_or_else(invalid)?;
                push(c, prefix.bytes, &mut text, &mut bytes);
            }
        } else {
            push(c, prefix.bytes, &mut text, &mut bytes);
        }
    }
    Ok(if prefix.bytes { Literal::Bytes(bytes.into()) } else { Literal::String(text.into()) })
}

fn push(c: char, as_bytes: bool, text: &mut String, bytes: &mut Vec<u8>) {
    if as_bytes {
        bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        text.push(c);
    }
}

fn invalid() -> String {
    "invalid string literal".to_owned()
}

/// Reads one escape behind its backslash: its value, and whether it was written as a number.
fn escape(rest: &mut &[char], bytes: bool) -> Result<(u32, bool), String> {
    let (&c, after) = rest.split_first().ok_or_else(invalid)?;
    *rest = after;
    let simple = match c {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => 10,
        'r' => 13,
        't' => 9,
        'v' => 11,
        '\\' | '\'' | '"' | '`' | '?' => c as u32,
        'x' | 'X' => return digits(rest, 2, 16).map(|v| (v, true)),
        'u' if !bytes => return digits(rest, 4, 16).map(|v| (v, true)),
        'U' if !bytes => return digits(rest, 8, 16).map(|v| (v, true)),
        '0'..='3' => {
            let low = digits(rest, 2, 8)?;
            return Ok(((c as u32 - '0' as u32) * 64 + low, true));
        }
        _ => return Err(invalid()),
    };
    Ok((simple, false))
}

fn digits(rest: &mut &[char], count: usize, radix: u32) -> Result<u32, String> {
    if rest.len() < count {
        return Err(invalid());
    }
    let (digits, after) = rest.split_at(count);
    *rest = after;
    digits.iter().try_fold(0u32, |sum, c| Some(sum * radix + c.to_digit(radix)?)).ok_or_else(invalid)
}
