//! Text to steps.

use serde_json::Value;

use super::{Filter, Slice, Step};

/// Parses one expression.
pub(super) fn parse(text: &str) -> Result<Vec<Step>, String> {
    let mut parser = Parser { rest: text, steps: Vec::new() };
    while !parser.rest.is_empty() {
        parser.step()?;
    }
    Ok(parser.steps)
}

struct Parser<'t> {
    rest: &'t str,
    steps: Vec<Step>,
}

impl<'t> Parser<'t> {
    fn step(&mut self) -> Result<(), String> {
        let first = self.rest.chars().next().unwrap_or_default();
        if self.rest.starts_with("[?(") {
            return self.filter();
        }
        if let Some(rest) = self.rest.strip_prefix("..") {
            return self.recursive(rest);
        }
        match first {
            ' ' | '@' | '$' => self.rest = &self.rest[1..],
            '[' => return self.array(),
            '"' | '\'' => return self.quoted(first),
            '.' => {
                self.rest = &self.rest[1..];
                self.field();
            }
            '+' | '-' | '0'..='9' => return self.number(),
            _ if first == '_' || first.is_alphanumeric() => return self.word(),
            _ => return Err(format!("unrecognized character in action: {first:?}")),
        }
        Ok(())
    }

    fn recursive(&mut self, rest: &'t str) -> Result<(), String> {
        if self.steps.last() == Some(&Step::Recursive) {
            return Err("invalid multiple recursive descent".to_owned());
        }
        self.rest = rest;
        self.steps.push(Step::Recursive);
        if rest.starts_with(|first: char| first == '_' || first.is_alphanumeric()) {
            self.field();
        }
        Ok(())
    }

    /// A name up to the next delimiter; a backslash takes a delimiter's meaning away.
    fn field(&mut self) {
        let mut name = String::new();
        let mut chars = self.rest.char_indices();
        let mut end = self.rest.len();
        while let Some((at, char)) = chars.next() {
            match char {
                '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
                _ if is_delimiter(char) => {
                    end = at;
                    break;
                }
                _ => name.push(char),
            }
        }
        self.rest = &self.rest[end..];
        self.steps.push(if name == "*" { Step::Wildcard } else { Step::Field(name) });
    }

    fn word(&mut self) -> Result<(), String> {
        let end = self.rest.find(is_delimiter).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let value = match word {
            "true" => true,
            "false" => false,
            _ => return Err(format!("unrecognized identifier {word}")),
        };
        self.rest = rest;
        self.steps.push(Step::Literal(value.into()));
        Ok(())
    }

    fn number(&mut self) -> Result<(), String> {
        let digits = self.rest[1..].find(|char: char| char != '.' && !char.is_ascii_digit());
        let (text, rest) = self.rest.split_at(digits.map_or(self.rest.len(), |at| at + 1));
        let value = match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(whole), _) => Value::from(whole),
            (_, Ok(number)) => Value::from(number),
            _ => return Err(format!("cannot parse number {text}")),
        };
        self.rest = rest;
        self.steps.push(Step::Literal(value));
        Ok(())
    }

    fn quoted(&mut self, quote: char) -> Result<(), String> {
        let mut text = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
                _ if char == quote => {
                    self.rest = &self.rest[at + 2..];
                    self.steps.push(Step::Literal(text.into()));
                    return Ok(());
                }
                _ => text.push(char),
            }
        }
        Err("unterminated quoted string".to_owned())
    }

    fn array(&mut self) -> Result<(), String> {
        let end = self.rest.find(']').ok_or("unterminated array")?;
        let inner = &self.rest[1..end];
        self.rest = &self.rest[end + 1..];
        let parts: Vec<&str> = inner.split(',').collect();
        let step = match parts[..] {
            [one] => index(one)?,
            _ => {
                let one = |part: &&str| Ok(vec![index(part.trim_matches(' '))?]);
                Step::Union(parts.iter().map(one).collect::<Result<_, String>>()?)
            }
        };
        self.steps.push(step);
        Ok(())
    }

    fn filter(&mut self) -> Result<(), String> {
        let (inner, rest) = filter_text(&self.rest[3..])?;
        self.rest = rest;
        let compared = inner.find(['!', '<', '>', '=']).filter(|at| *at > 0);
        let filter = match compared {
            None => Filter { left: parse(inner)?, operator: String::new(), right: Vec::new() },
            Some(at) => {
                let (left, right) = inner.split_at(at);
                let end = right.find(|char| !"!<>=".contains(char)).ok_or("unfinished filter")?;
                let (operator, right) = right.split_at(end);
                Filter { left: parse(left)?, operator: operator.to_owned(), right: parse(right)? }
            }
        };
        self.steps.push(Step::Filter(filter));
        Ok(())
    }
}

/// What is in the brackets of a filter, and what follows them.
fn filter_text(text: &str) -> Result<(&str, &str), String> {
    let mut quote = None;
    for (at, char) in text.char_indices() {
        match (quote, char) {
            (None, '"' | '\'') => quote = Some(char),
            (Some(open), _) if open == char && !text[..at].ends_with('\\') => quote = None,
            (None, ')') => {
                let rest = text[at + 1..].strip_prefix(']').ok_or("unclosed array expect ]")?;
                return Ok((&text[..at], rest));
            }
            _ => {}
        }
    }
    Err("unterminated filter".to_owned())
}

/// A key in quotes, an index, or a slice.
fn index(text: &str) -> Result<Step, String> {
    if text == "*" {
        return Ok(Step::Slice(Slice::default()));
    }
    if let Some(key) = text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
        return Ok(Step::Field(key.replace('\\', "")));
    }
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 || text.is_empty() {
        return Err(format!("invalid array index {text}"));
    }
    let number = |at: usize| match parts.get(at) {
        None | Some(&"") => Ok(None),
        Some(part) => part.parse::<i64>().map(Some).map_err(|_| format!("invalid array index {text}")),
    };
    Ok(Step::Slice(Slice { start: number(0)?, end: number(1)?, step: number(2)?, one: parts.len() == 1 }))
}

fn is_delimiter(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\r' | '\n' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}')
}
