//! Variables and quotes in arguments of instructions.

use crate::error::Result;

use super::lines::wrong;

/// Where variables come from.
pub(crate) trait Scope {
    /// The value of a variable, if it is set.
    fn get(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Scope for F {
    fn get(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// Replaces variables and takes quotes away; the result is one word.
pub(crate) fn expand(text: &str, scope: &dyn Scope, escape: char, line: usize) -> Result<String> {
    let mut lexer = Lexer { rest: text, scope, escape, line, split: false, words: Vec::new(), word: None };
    lexer.run(None)?;
    Ok(lexer.word.unwrap_or_default())
}

/// Like [`expand`], and splits at blanks that are not quoted, also those in values.
pub(crate) fn expand_words(text: &str, scope: &dyn Scope, escape: char, line: usize) -> Result<Vec<String>> {
    let mut lexer = Lexer { rest: text, scope, escape, line, split: true, words: Vec::new(), word: None };
    lexer.run(None)?;
    lexer.end_word();
    Ok(lexer.words)
}

struct Lexer<'a> {
    rest: &'a str,
    scope: &'a dyn Scope,
    escape: char,
    line: usize,
    split: bool,
    words: Vec<String>,
    word: Option<String>,
}

impl Lexer<'_> {
    /// Reads up to the closing character, or to the end.
    fn run(&mut self, until: Option<char>) -> Result<()> {
        loop {
            let Some(c) = self.next() else {
                return match until {
                    Some(_) => Err(wrong(self.line, "syntax error: missing } in substitution")),
                    None => Ok(()),
                };
            };
            match c {
                _ if Some(c) == until => return Ok(()),
                '\'' => self.single_quoted()?,
                '"' => self.double_quoted()?,
                '$' => {
                    let value = self.variable()?;
                    self.push_split(&value);
                }
                _ if c == self.escape => match self.next() {
                    Some(escaped) => self.push(escaped),
                    // At the very end it stands for itself.
                    None => self.push(c),
                },
                _ if self.split && c.is_whitespace() => self.end_word(),
                _ => self.push(c),
            }
        }
    }

    fn single_quoted(&mut self) -> Result<()> {
        self.word.get_or_insert_default();
        loop {
            match self.next() {
                Some('\'') => return Ok(()),
                Some(c) => self.push(c),
                None => {
                    return Err(wrong(self.line, "unexpected end of statement while looking for matching '"));
                }
            }
        }
    }

    fn double_quoted(&mut self) -> Result<()> {
        self.word.get_or_insert_default();
        loop {
            match self.next() {
                Some('"') => return Ok(()),
                Some('$') => {
                    let value = self.variable()?;
                    value.chars().for_each(|c| self.push(c));
                }
                Some(c) if c == self.escape => match self.next() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => self.push(next),
                    Some(next) => {
                        self.push(c);
                        self.push(next);
                    }
                    None => {}
                },
                Some(c) => self.push(c),
                None => {
                    return Err(wrong(
                        self.line,
                        "unexpected end of statement while looking for matching \"",
                    ));
                }
            }
        }
    }

    /// What stands for the variable after a `$`.
    fn variable(&mut self) -> Result<String> {
        let Some(first) = self.rest.chars().next() else { return Ok("$".into()) };
        if first == '{' {
            self.next();
            return self.braced();
        }
        let length = name_length(self.rest);
        if length == 0 {
            return Ok("$".into());
        }
        let (name, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(self.scope.get(name).unwrap_or_default())
    }

    /// `${name}`, `${name:-word}`, `${name:+word}`, `${name:?message}` and the forms without colon.
    fn braced(&mut self) -> Result<String> {
        let length = name_length(self.rest);
        let (name, rest) = self.rest.split_at(length);
        if name.is_empty() {
            return Err(wrong(self.line, "syntax error: bad substitution"));
        }
        self.rest = rest;
        let value = self.scope.get(name);
        let colon = self.rest.starts_with(':');
        if colon {
            self.next();
        }
        let set = value.as_ref().is_some_and(|value| !colon || !value.is_empty());
        let operator = self.next();
        if operator == Some('}') && !colon {
            return Ok(value.unwrap_or_default());
        }
        match operator {
            Some('-') => {
                let word = self.word_until_brace()?;
                Ok(if set { value.unwrap_or_default() } else { word })
            }
            Some('+') => {
                let word = self.word_until_brace()?;
                Ok(if set { word } else { String::new() })
            }
            Some('?') => {
                let word = self.word_until_brace()?;
                let message = if word.is_empty() { "is not allowed to be unset".into() } else { word };
                if set {
                    Ok(value.unwrap_or_default())
                } else {
                    Err(wrong(self.line, &format!("{name}: {message}")))
                }
            }
            None => Err(wrong(self.line, "syntax error: missing } in substitution")),
            Some(other) => Err(wrong(self.line, &format!("unsupported modifier ({other}) in substitution"))),
        }
    }

    fn word_until_brace(&mut self) -> Result<String> {
        let mut inner = Lexer { words: Vec::new(), word: None, split: false, ..*self };
        inner.run(Some('}'))?;
        self.rest = inner.rest;
        Ok(inner.word.unwrap_or_default())
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn push(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn push_split(&mut self, value: &str) {
        for c in value.chars() {
            if self.split && c.is_whitespace() { self.end_word() } else { self.push(c) }
        }
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }
}

/// A name, the digits of a positional parameter or a special character.
fn name_length(text: &str) -> usize {
    let run = |wanted: fn(char) -> bool| text.find(|c: char| !wanted(c)).unwrap_or(text.len());
    match text.chars().next() {
        Some(c) if c.is_ascii_alphabetic() || c == '_' => run(|c| c.is_ascii_alphanumeric() || c == '_'),
        Some(c) if c.is_ascii_digit() => run(|c| c.is_ascii_digit()),
        Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => 1,
        _ => 0,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn scope(name: &str) -> Option<String> {
        match name {
            "x" => Some("value".into()),
            "y" => Some("two words".into()),
            "empty" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn replaces_variables() {
        let rows = [
            ("plain", "plain"),
            ("$x", "value"),
            ("a${x}b", "avalueb"),
            ("$x/$x.txt", "value/value.txt"),
            ("$nope|", "|"),
            ("${nope:-or}", "or"),
            ("${x:-or}", "value"),
            ("${empty:-or}", "or"),
            ("${empty-or}", ""),
            ("${nope-or}", "or"),
            ("${x:+then}", "then"),
            ("${empty:+then}", ""),
            ("${empty+then}", "then"),
            ("${nope:-${x}-$x}", "value-value"),
            ("${nope:-'$x'}", "$x"),
            ("${x:?must be set}", "value"),
            ("'$x'", "$x"),
            ("\"$x\"", "value"),
            ("\\$x", "$x"),
            ("\"\\$x \\\" \\n\"", "$x \" \\n"),
            ("a\\ b", "a b"),
            ("'a'\"b\"c", "abc"),
            ("cost $", "cost $"),
            ("$%", "$%"),
            ("$1$@x", "x"),
            ("end\\", "end\\"),
            ("${y}", "two words"),
        ];
        for (text, want) in rows {
            assert_eq!(expand(text, &scope, '\\', 1).unwrap(), want, "{text}");
        }
        assert_eq!(expand("C:\\dir`$x", &scope, '`', 1).unwrap(), "C:\\dir$x");
    }

    #[test]
    fn splits_words() {
        for (text, want) in [
            ("a b  c", vec!["a", "b", "c"]),
            ("$y", vec!["two", "words"]),
            ("\"$y\" z", vec!["two words", "z"]),
            ("'' a", vec!["", "a"]),
            ("$nope", vec![]),
        ] {
            assert_eq!(expand_words(text, &scope, '\\', 1).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn refuses_malformed_text() {
        for (text, want) in [
            ("'open", "matching '"),
            ("\"open", "matching \""),
            ("${x", "missing }"),
            ("${}", "bad substitution"),
            ("${x:-a", "missing }"),
            ("${x:}", "unsupported modifier (})"),
            ("${x%a}", "unsupported modifier (%)"),
            ("${nope:?must be set}", "nope: must be set"),
            ("${nope?}", "nope: is not allowed to be unset"),
        ] {
            let error = expand(text, &scope, '\\', 7).unwrap_err().to_string();
            assert!(error.contains(want) && error.contains("line 7"), "{text}: {error}");
        }
    }
}
