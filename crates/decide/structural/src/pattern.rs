//! Patterns in the syntax of Go's `regexp`, as far as it and Rust's agree.
//!
//! What enters is the text of a pattern; what leaves is the pattern, or what is wrong with it in Go's words
//! (`regexp/syntax`). The few that only Rust refuses are told in Rust's.

use regex::Regex;
use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{self, Ast, ErrorKind, RepetitionKind, RepetitionRange, Span};

/// Go repeats nothing more often.
const MOST: u32 = 1000;

/// Compiles a pattern.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn compiled(text: &str) -> Result<Regex, String> {
    let parsed = Parser::new().parse(text).map_err(|error| in_words(&error, text))?;
    ast::visit(&parsed, Strict { text })?;
    Regex::new(text).map_err(|error| {
        let shown = error.to_string();
        let why = shown.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        match why.starts_with("Unicode property") {
            true => format!("invalid character class range: `{}`", property(text)),
            false => why,
        }
    })
}

fn in_words(error: &ast::Error, text: &str) -> String {
    let part = |span: &Span| text.get(span.start.offset..span.end.offset).unwrap_or_default();
    let (found, start) = (part(error.span()), error.span().start.offset);
    let operator =
        || text.get(start..).and_then(|rest| rest.chars().next()).map(String::from).unwrap_or_default();
    match error.kind() {
        ErrorKind::GroupUnclosed => format!("missing closing ): `{text}`"),
        ErrorKind::GroupUnopened => format!("unexpected ): `{text}`"),
        ErrorKind::ClassUnclosed => format!("missing closing ]: `{}`", text.get(start..).unwrap_or_default()),
        ErrorKind::ClassRangeInvalid => format!("invalid character class range: `{found}`"),
        ErrorKind::RepetitionMissing => format!("missing argument to repetition operator: `{}`", operator()),
        ErrorKind::RepetitionCountInvalid => format!("invalid repeat count: `{}`", braces(text, start)),
        ErrorKind::EscapeUnexpectedEof => "trailing backslash at end of expression: ``".to_owned(),
        ErrorKind::EscapeUnrecognized | ErrorKind::UnsupportedBackreference => {
            format!("invalid escape sequence: `{found}`")
        }
        ErrorKind::UnsupportedLookAround => format!("invalid or unsupported Perl syntax: `{found}`"),
        ErrorKind::FlagUnrecognized => {
            let group = text.get(..start).and_then(|before| before.rfind("(?")).unwrap_or(start);
            let shown = text.get(group..error.span().end.offset).unwrap_or_default();
            format!("invalid or unsupported Perl syntax: `{shown}`")
        }
        ErrorKind::GroupNameUnexpectedEof | ErrorKind::GroupNameEmpty | ErrorKind::GroupNameInvalid => {
            let group = text.get(..start).and_then(|before| before.rfind("(?")).unwrap_or(0);
            format!("invalid named capture: `{}`", text.get(group..).unwrap_or_default())
        }
        other => other.to_string(),
    }
}

/// The braces around a place.
fn braces(text: &str, place: usize) -> &str {
    let start = text.get(..=place).and_then(|before| before.rfind('{')).unwrap_or(place);
    let end = text.get(start..).and_then(|rest| rest.find('}')).map_or(text.len(), |end| start + end + 1);
    text.get(start..end).unwrap_or_default()
}

/// The first property of letters that a pattern names.
fn property(text: &str) -> &str {
    let start = text.find("\\p").or_else(|| text.find("\\P")).unwrap_or_default();
    let rest = &text[start..];
    let size = match rest.get(2..3) {
        Some("{") => rest.find('}').map_or(rest.len(), |end| end + 1),
        _ => rest.chars().take(3).map(char::len_utf8).sum(),
    };
    &rest[..size]
}

/// What Rust reads and Go does not.
struct Strict<'a> {
    text: &'a str,
}

impl ast::Visitor for Strict<'_> {
    type Output = ();
    type Err = String;

    fn finish(self) -> Result<(), String> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), String> {
        let Ast::Repetition(repetition) = ast else { return Ok(()) };
        let part = |start: usize, end: usize| self.text.get(start..end).unwrap_or_default();
        if let Ast::Repetition(inner) = &*repetition.ast {
            let operators = part(inner.op.span.start.offset, repetition.op.span.end.offset);
            return Err(format!("invalid nested repetition operator: `{operators}`"));
        }
        let most = match &repetition.op.kind {
            RepetitionKind::Range(
                RepetitionRange::Exactly(most)
                | RepetitionRange::AtLeast(most)
                | RepetitionRange::Bounded(_, most),
            ) => *most,
            RepetitionKind::ZeroOrOne | RepetitionKind::ZeroOrMore | RepetitionKind::OneOrMore => 0,
        };
        if most > MOST {
            let span = &repetition.op.span;
            return Err(format!("invalid repeat count: `{}`", part(span.start.offset, span.end.offset)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_gos() {
        for (text, message) in [
            ("(", "missing closing ): `(`"),
            (")", "unexpected ): `)`"),
            ("x[a", "missing closing ]: `[a`"),
            ("a{2,1}", "invalid repeat count: `{2,1}`"),
            ("a{1001}", "invalid repeat count: `{1001}`"),
            ("*", "missing argument to repetition operator: `*`"),
            ("a|+", "missing argument to repetition operator: `+`"),
            ("a**", "invalid nested repetition operator: `**`"),
            ("x{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
            (r"\q", r"invalid escape sequence: `\q`"),
            (r"\1", r"invalid escape sequence: `\1`"),
            (r"a\", "trailing backslash at end of expression: ``"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("(?=x)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?z)", "invalid or unsupported Perl syntax: `(?z`"),
            ("(?P<n", "invalid named capture: `(?P<n`"),
            (r"\pX", r"invalid character class range: `\pX`"),
        ] {
            assert_eq!(compiled(text).map(|_| ()), Err(message.to_owned()), "{text}");
        }
        for text in ["^a+$", "(a*)*", "a{1000}", "(?i)x", r"\d+\.\pL", "[[:alpha:]-]+?"] {
            assert!(compiled(text).is_ok(), "{text}");
        }
    }
}
