//! Label selectors as text: `a=b,c in (d,e),!f,g`.
//!
//! What enters is a query parameter; what leaves are its conditions, or what is wrong with it in upstream's
//! words (`k8s.io/apimachinery/pkg/labels/selector.go`).

use crate::name;
use crate::selector::{Operator, Requirement};

const OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";
const BOUND: &str = "for 'Gt', 'Lt' operators, the value must be an integer";

/// Reads a selector.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut tokens = Tokens { rest: text };
    let mut requirements = Vec::new();
    loop {
        match tokens.peek() {
            Token::Word(_) | Token::Sign("!") => {
                let found = requirement(&mut tokens);
                requirements.push(found.map_err(|cause| format!("unable to parse requirement: {cause}"))?);
            }
            Token::End => return Ok(requirements),
            other => return Err(format!("found '{other}', expected: !, identifier, or 'end of string'")),
        }
        match tokens.take() {
            Token::End => return Ok(requirements),
            Token::Sign(",") => match tokens.peek() {
                Token::Word(_) | Token::Sign("!") => {}
                other => return Err(format!("found '{other}', expected: identifier after ','")),
            },
            other => return Err(format!("found '{other}', expected: ',' or 'end of string'")),
        }
    }
}

/// A piece of a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Sign(&'a str),
    End,
}

impl std::fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(text) | Self::Sign(text) => f.write_str(text),
            Self::End => Ok(()),
        }
    }
}

/// What is left of a text.
#[derive(Clone, Copy)]
struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn peek(mut self) -> Token<'a> {
        self.take()
    }

    fn take(&mut self) -> Token<'a> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let is_sign = |letter: char| "=!(),><".contains(letter);
        let is_end = |letter: char| is_sign(letter) || " \t\r\n".contains(letter);
        if self.rest.is_empty() {
            return Token::End;
        }
        let size = match ["==", "!=", "=", "!", "(", ")", ",", ">", "<"]
            .iter()
            .find(|one| self.rest.starts_with(**one))
        {
            Some(sign) => sign.len(),
            None => self.rest.find(is_end).unwrap_or(self.rest.len()),
        };
        let (token, rest) = self.rest.split_at(size);
        self.rest = rest;
        if token.starts_with(is_sign) { Token::Sign(token) } else { Token::Word(token) }
    }
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<Requirement, String> {
    let is_negated = tokens.peek() == Token::Sign("!");
    if is_negated {
        tokens.take();
    }
    let key = match tokens.take() {
        Token::Word(key) => key,
        other => return Err(format!("found '{other}', expected: identifier")),
    };
    name::is_qualified_name(key)
        .map_err(|errors| format!("<nil>: Invalid value: {key:?}: {}", errors.join("; ")))?;
    let key = key.to_owned();
    if is_negated {
        return Ok(Requirement { key, operator: Operator::DoesNotExist });
    }
    if matches!(tokens.peek(), Token::End | Token::Sign(",")) {
        return Ok(Requirement { key, operator: Operator::Exists });
    }
    let operator = match tokens.take() {
        Token::Word("in") => Operator::In(checked(&key, list(tokens)?)?),
        Token::Word("notin") => Operator::NotIn(checked(&key, list(tokens)?)?),
        Token::Sign("=" | "==") => Operator::In(checked(&key, vec![value(tokens)?])?),
        Token::Sign("!=") => Operator::NotIn(checked(&key, vec![value(tokens)?])?),
        Token::Sign(">") => Operator::GreaterThan(bound(&key, value(tokens)?)?),
        Token::Sign("<") => Operator::LessThan(bound(&key, value(tokens)?)?),
        other => return Err(format!("found '{other}', expected: {OPERATORS}")),
    };
    Ok(Requirement { key, operator })
}

/// The value of a comparison; none is the empty one.
fn value(tokens: &mut Tokens<'_>) -> Result<String, String> {
    if matches!(tokens.peek(), Token::End | Token::Sign(",")) {
        return Ok(String::new());
    }
    match tokens.take() {
        Token::Word(value) => Ok(value.to_owned()),
        other => Err(format!("found '{other}', expected: identifier")),
    }
}

/// The values of a set, sorted. What is not there between commas is the empty one.
fn list(tokens: &mut Tokens<'_>) -> Result<Vec<String>, String> {
    match tokens.take() {
        Token::Sign("(") => {}
        other => return Err(format!("found '{other}' expected: '('")),
    }
    let mut values = Vec::new();
    match tokens.peek() {
        Token::Word(_) | Token::Sign(",") => items(tokens, &mut values)?,
        Token::Sign(")") => values.push(String::new()),
        other => return Err(format!("found '{other}', expected: ',', ')' or identifier")),
    }
    tokens.take();
    values.sort_unstable();
    values.dedup();
    Ok(values)
}

/// Everything before the closing parenthesis.
fn items(tokens: &mut Tokens<'_>, values: &mut Vec<String>) -> Result<(), String> {
    loop {
        match tokens.take() {
            Token::Word(value) => {
                values.push(value.to_owned());
                match tokens.peek() {
                    Token::Sign(",") => {}
                    Token::Sign(")") => return Ok(()),
                    other => return Err(format!("found '{other}', expected: ',' or ')'")),
                }
            }
            Token::Sign(",") => {
                if values.is_empty() {
                    values.push(String::new());
                }
                match tokens.peek() {
                    Token::Sign(")") => {
                        values.push(String::new());
                        return Ok(());
                    }
                    Token::Sign(",") => {
                        tokens.take();
                        values.push(String::new());
                    }
                    _ => {}
                }
            }
            other => return Err(format!("found '{other}', expected: ',', or identifier")),
        }
    }
}

fn bound(key: &str, value: String) -> Result<i64, String> {
    let number = value.parse::<i64>();
    checked(key, vec![value.clone()])?;
    number.map_err(|_| format!("values[0]: Invalid value: {value:?}: {BOUND}"))
}

fn checked(key: &str, values: Vec<String>) -> Result<Vec<String>, String> {
    let mut wrong = Vec::new();
    for (at, value) in values.iter().enumerate() {
        if let Err(errors) = name::is_label_value(value) {
            wrong.push(format!("values[{at}][{key}]: Invalid value: {value:?}: {}", errors.join("; ")));
        }
    }
    match wrong.as_slice() {
        [] => Ok(values),
        [one] => Err(one.clone()),
        several => Err(format!("[{}]", several.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read_with_what_is_not_there() {
        for (text, values) in [
            ("a in (b)", vec!["b"]),
            ("a in ( c , b,b )", vec!["b", "c"]),
            ("a in ()", vec![""]),
            ("a in (b,,c)", vec!["", "b", "c"]),
            ("a in (,b)", vec!["", "b"]),
            ("a in (in,notin)", vec!["in", "notin"]),
            ("a=in", vec!["in"]),
            ("a=", vec![""]),
        ] {
            let values = values.into_iter().map(str::to_owned).collect();
            let expected = Requirement { key: "a".to_owned(), operator: Operator::In(values) };
            assert_eq!(parse(text), Ok(vec![expected]), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_in_upstreams_words() {
        let unable = "unable to parse requirement: ";
        for (text, message) in [
            ("a===b", format!("{unable}found '=', expected: identifier")),
            ("a in (", format!("{unable}found '', expected: ',', ')' or identifier")),
            ("a in b", format!("{unable}found 'b' expected: '('")),
            ("a in (b", format!("{unable}found '', expected: ',' or ')'")),
            ("a in (b) c", "found 'c', expected: ',' or 'end of string'".to_owned()),
            ("a,,b", "found ',', expected: identifier after ','".to_owned()),
            ("a,", "found '', expected: identifier after ','".to_owned()),
            ("!", format!("{unable}found '', expected: identifier")),
            ("a!", format!("{unable}found '!', expected: {OPERATORS}")),
            ("a b", format!("{unable}found 'b', expected: {OPERATORS}")),
            ("a=b=c", "found '=', expected: ',' or 'end of string'".to_owned()),
            ("!a=b", "found '=', expected: ',' or 'end of string'".to_owned()),
            ("(a)", "found '(', expected: !, identifier, or 'end of string'".to_owned()),
            ("=", "found '=', expected: !, identifier, or 'end of string'".to_owned()),
            ("a=bad value", "found 'value', expected: ',' or 'end of string'".to_owned()),
            ("a>1.5", format!("{unable}values[0]: Invalid value: \"1.5\": {BOUND}")),
        ] {
            assert_eq!(parse(text), Err(message), "{text}");
        }
        let message = parse("a=-b").expect_err("no label value");
        assert!(
            message.starts_with(
                "unable to parse requirement: values[0][a]: Invalid value: \"-b\": a valid label"
            )
        );
        let message = parse("-a=b").expect_err("no label key");
        assert!(
            message.starts_with("unable to parse requirement: <nil>: Invalid value: \"-a\": name part must")
        );
    }
}
