//! Names of fields that are not identifiers of the language (apiserver: pkg/cel/escaping.go).

use plimsoll_meta::expression::is_keyword;

/// A word that no field has, escaped as keywords are.
const NEVER: &str = "__never__";

const PARTS: [(&str, &str); 4] =
    [("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

/// The name under which expressions reach the field `name`; none if there is no such name.
pub fn escape(name: &str) -> Option<String> {
    if is_escaped_whole(name) {
        return Some(format!("__{name}__"));
    }
    let first = name.chars().next()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
    if first.is_ascii_digit() || !name.chars().all(allowed) {
        return None;
    }
    let mut escaped = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        match PARTS.iter().find(|(part, _)| rest.starts_with(part)) {
            Some((part, code)) => {
                escaped.push_str(code);
                rest = &rest[part.len()..];
            }
            None => {
                escaped.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    Some(escaped)
}

fn is_escaped_whole(word: &str) -> bool {
    is_keyword(word) || word == NEVER
}

/// The field's name again; none if `escaped` is no escaped name.
pub fn unescape(escaped: &str) -> Option<String> {
    if let Some(word) = escaped.strip_prefix("__").and_then(|e| e.strip_suffix("__"))
        && is_escaped_whole(word)
    {
        return Some(word.to_owned());
    }
    let mut name = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(c) = rest.chars().next() {
        match PARTS.iter().find(|(_, code)| rest.starts_with(code)) {
            Some((part, code)) => {
                name.push_str(part);
                rest = &rest[code.len()..];
            }
            None if rest.starts_with("__") => return None,
            None => {
                name.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    Some(name)
}
