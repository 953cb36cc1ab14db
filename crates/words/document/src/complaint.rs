//! What is wrong with a text that is no JSON, in the words of Go's `encoding/json`.
//!
//! What enters are bytes that a parser has refused already; what leaves is where a reader of Go's stops.
//! It costs a pass over the text, and is asked only when something is wrong.

/// How deep Go reads.
const DEPTH: usize = 10_000;
const END: &str = "unexpected end of JSON input";

/// The complaint; none about text that is JSON.
#[must_use]
pub fn complaint(bytes: &[u8]) -> Option<String> {
    let mut scanner = Scanner { rest: bytes };
    scanner.document().err()
}

struct Scanner<'a> {
    rest: &'a [u8],
}

type Scanned = Result<(), String>;

impl Scanner<'_> {
    fn document(&mut self) -> Scanned {
        self.values()?;
        self.skip_space();
        match self.rest.first() {
            None => Ok(()),
            Some(letter) => Err(at(*letter, "after top-level value")),
        }
    }

    /// A value with all that is in it. What is open is kept in a list, not on the stack.
    fn values(&mut self) -> Scanned {
        let mut open: Vec<u8> = Vec::new();
        loop {
            // Where a value must begin.
            self.skip_space();
            match self.need()? {
                b'{' | b'[' if open.len() == DEPTH => return Err("exceeded max depth".to_owned()),
                b'{' => {
                    self.step();
                    self.skip_space();
                    if self.need()? == b'}' {
                        self.step();
                    } else {
                        open.push(b'{');
                        self.key()?;
                        continue;
                    }
                }
                b'[' => {
                    self.step();
                    self.skip_space();
                    if self.need()? == b']' {
                        self.step();
                    } else {
                        open.push(b'[');
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            // Behind a value.
            loop {
                let Some(inside) = open.last() else { return Ok(()) };
                self.skip_space();
                match (*inside, self.need()?) {
                    (b'{', b'}') | (b'[', b']') => {
                        self.step();
                        open.pop();
                    }
                    (b'{', b',') => {
                        self.step();
                        self.skip_space();
                        self.key()?;
                        break;
                    }
                    (b'[', b',') => {
                        self.step();
                        break;
                    }
                    (b'{', letter) => return Err(at(letter, "after object key:value pair")),
                    (_, letter) => return Err(at(letter, "after array element")),
                }
            }
        }
    }

    /// A key and its colon.
    fn key(&mut self) -> Scanned {
        match self.need()? {
            b'"' => self.string()?,
            letter => return Err(at(letter, "looking for beginning of object key string")),
        }
        self.skip_space();
        match self.need()? {
            b':' => {
                self.step();
                Ok(())
            }
            letter => Err(at(letter, "after object key")),
        }
    }

    fn scalar(&mut self) -> Scanned {
        match self.need()? {
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            letter => Err(at(letter, "looking for beginning of value")),
        }
    }

    fn string(&mut self) -> Scanned {
        self.step();
        loop {
            match self.take()? {
                b'"' => return Ok(()),
                b'\\' => match self.take()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let letter = self.take()?;
                            if !letter.is_ascii_hexdigit() {
                                return Err(at(letter, "in \\u hexadecimal character escape"));
                            }
                        }
                    }
                    letter => return Err(at(letter, "in string escape code")),
                },
                letter if letter < 0x20 => return Err(at(letter, "in string literal")),
                _ => {}
            }
        }
    }

    fn number(&mut self) -> Scanned {
        if self.rest.first() == Some(&b'-') {
            self.step();
            let letter = self.need()?;
            if !letter.is_ascii_digit() {
                return Err(at(letter, "in numeric literal"));
            }
        }
        match self.take()? {
            b'0' => {}
            _ => self.digits(),
        }
        if self.rest.first() == Some(&b'.') {
            self.step();
            self.digit("after decimal point in numeric literal")?;
        }
        if matches!(self.rest.first(), Some(b'e' | b'E')) {
            self.step();
            if matches!(self.need()?, b'+' | b'-') {
                self.step();
            }
            self.digit("in exponent of numeric literal")?;
        }
        Ok(())
    }

    /// At least one digit.
    fn digit(&mut self, place: &str) -> Scanned {
        let letter = self.need()?;
        if !letter.is_ascii_digit() {
            return Err(at(letter, place));
        }
        self.digits();
        Ok(())
    }

    fn digits(&mut self) {
        let many = self.rest.iter().take_while(|letter| letter.is_ascii_digit()).count();
        self.rest = &self.rest[many..];
    }

    fn literal(&mut self, word: &str) -> Scanned {
        for wanted in word.bytes() {
            let letter = self.take()?;
            if letter != wanted {
                let wanted = char::from(wanted);
                return Err(at(letter, &format!("in literal {word} (expecting '{wanted}')")));
            }
        }
        Ok(())
    }

    fn skip_space(&mut self) {
        let many =
            self.rest.iter().take_while(|letter| matches!(letter, b' ' | b'\t' | b'\r' | b'\n')).count();
        self.rest = &self.rest[many..];
    }

    fn need(&self) -> Result<u8, String> {
        self.rest.first().copied().ok_or_else(|| END.to_owned())
    }

    fn take(&mut self) -> Result<u8, String> {
        let letter = self.need()?;
        self.step();
        Ok(letter)
    }

    fn step(&mut self) {
        self.rest = self.rest.get(1..).unwrap_or_default();
    }
}

fn at(letter: u8, place: &str) -> String {
    let shown = match letter {
        b'\'' => "\\'".to_owned(),
        b'\\' => "\\\\".to_owned(),
        b'\n' => "\\n".to_owned(),
        b'\r' => "\\r".to_owned(),
        b'\t' => "\\t".to_owned(),
        0x07 => "\\a".to_owned(),
        0x08 => "\\b".to_owned(),
        0x0b => "\\v".to_owned(),
        0x0c => "\\f".to_owned(),
        0..=0x1f | 0x7f => format!("\\x{letter:02x}"),
        0x80..=0xa0 | 0xad => format!("\\u{letter:04x}"),
        _ => char::from(letter).to_string(),
    };
    format!("invalid character '{shown}' {place}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_gos() {
        for (text, message) in [
            (" ", "unexpected end of JSON input"),
            ("{\"a\":", "unexpected end of JSON input"),
            ("\"a", "unexpected end of JSON input"),
            ("-", "unexpected end of JSON input"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("{}{}", "invalid character '{' after top-level value"),
            ("garbage", "invalid character 'g' looking for beginning of value"),
            ("\u{1f}", "invalid character '\\x1f' looking for beginning of value"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("{'a':1}", "invalid character '\\'' looking for beginning of object key string"),
            ("{\"a\":{},}", "invalid character '}' looking for beginning of object key string"),
            ("{\"a\" {}}", "invalid character '{' after object key"),
            ("{\"a\":01}", "invalid character '1' after object key:value pair"),
            ("[1 2]", "invalid character '2' after array element"),
            ("\"\u{1}\"", "invalid character '\\x01' in string literal"),
            ("\"\\q\"", "invalid character 'q' in string escape code"),
            ("\"\\u12x\"", "invalid character 'x' in \\u hexadecimal character escape"),
            ("{\"a\":-}", "invalid character '}' in numeric literal"),
            ("{\"a\":1.}", "invalid character '}' after decimal point in numeric literal"),
            ("1e+x", "invalid character 'x' in exponent of numeric literal"),
            ("{\"a\":tru}", "invalid character '}' in literal true (expecting 'e')"),
        ] {
            assert_eq!(complaint(text.as_bytes()).as_deref(), Some(message), "{text}");
        }
        assert_eq!(
            complaint(b"\xef\xbb\xbf{}").as_deref(),
            Some("invalid character 'ï' looking for beginning of value")
        );
        let deep = "[".repeat(20_000);
        assert_eq!(complaint(deep.as_bytes()).as_deref(), Some("exceeded max depth"));
        for text in ["{}", "[[],{\"a\":[1,-0.5e3,\"\\u00e4\"]},null]", " true "] {
            assert_eq!(complaint(text.as_bytes()), None, "{text}");
        }
    }
}
