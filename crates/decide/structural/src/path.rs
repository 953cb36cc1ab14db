//! Paths of field names as rules and selectable fields write them: `.spec.list['my.key']`.

use plimsoll_meta::field::Path;
use serde_json::Value;

/// The place that a path names, if the schema has it; entries of maps stand in brackets.
pub fn resolve(text: &str, props: &Value) -> Result<Path, String> {
    let mut path = Path::default();
    walk(text, props, true, &mut |name, is_field| {
        path = if is_field { path.child(name) } else { path.key(name) };
    })?;
    Ok(path)
}

/// The names on a path of fields alone, and the schema at its end.
pub(crate) fn resolve_fields<'p>(text: &str, props: &'p Value) -> Result<(Vec<String>, &'p Value), String> {
    let mut names = Vec::new();
    let end = walk(text, props, false, &mut |name, _| names.push(name.to_owned()))?;
    Ok((names, end))
}

fn walk<'p>(
    text: &str,
    props: &'p Value,
    brackets: bool,
    step: &mut dyn FnMut(&str, bool),
) -> Result<&'p Value, String> {
    let mut here = props;
    let mut tokens = tokens(text).into_iter();
    while let Some(token) = tokens.next() {
        let mut next = || tokens.next().ok_or_else(|| "unexpected end of JSON path".to_owned());
        let (name, quoted) = match token {
            "[" if !brackets => return Err("expected . but got [".to_owned()),
            "[" => {
                let token = next()?;
                let inner = token.strip_prefix('\'').and_then(|token| token.strip_suffix('\''));
                let inner = inner.ok_or_else(|| format!("expected single quoted string but got {token}"))?;
                let name = unescaped(inner)?;
                match next()? {
                    "]" => {}
                    other => return Err(format!("expected ] but got {other}")),
                }
                (name, true)
            }
            "." => {
                let name = next()?;
                if matches!(name, "." | "[" | "]") {
                    return Err(format!("unexpected {name} in JSON path"));
                }
                (name.to_owned(), false)
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        here = descend(here, &name, quoted, step)?;
    }
    Ok(here)
}

fn descend<'p>(
    props: &'p Value,
    name: &str,
    quoted: bool,
    step: &mut dyn FnMut(&str, bool),
) -> Result<&'p Value, String> {
    let unknown = || "does not refer to a valid field".to_owned();
    if let Some(properties) = props["properties"].as_object() {
        step(name, true);
        return properties.get(name).ok_or_else(unknown);
    }
    if quoted && props["additionalProperties"].is_object() {
        step(name, false);
        return Ok(&props["additionalProperties"]);
    }
    Err(unknown())
}

/// Delimiters by themselves, quoted text whole, and what is between.
fn tokens(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '.' | '[' | ']' => 1,
            '\'' => closing(rest).unwrap_or(rest.len()),
            _ => rest.find(['.', '[', ']']).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(length);
        found.push(token);
        rest = after;
    }
    found
}

/// The length of the quoted text at the beginning.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    (1..bytes.len()).find(|&at| bytes[at] == b'\'' && bytes[at - 1] != b'\\').map(|at| at + 1)
}

fn unescaped(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            out.push(char);
            continue;
        }
        let Some(escape) = chars.next() else { break };
        out.push(match escape {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\'' | '\\' => escape,
            _ => return Err(format!("invalid string literal: invalid escape char \\{escape}")),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_are_held_against_the_schema() {
        let props = json!({"properties": {"spec": {"properties": {
            "a": {"type": "string"}, "b.c": {"type": "string"},
            "map": {"additionalProperties": {"properties": {"x": {}}}}}}}});
        for (text, expected) in [
            (".spec.a", Ok("spec.a")),
            (".spec['b.c']", Ok("spec.b.c")),
            (".spec.map['k'].x", Ok("spec.map[k].x")),
            (".spec.nope", Err("does not refer to a valid field")),
            (".spec.map[k]", Err("expected single quoted string but got k")),
            (".spec.", Err("unexpected end of JSON path")),
            ("spec", Err("expected [ or . but got: spec")),
            (".spec['\\q']", Err("invalid string literal: invalid escape char \\q")),
        ] {
            let found = resolve(text, &props).map(|path| path.to_string());
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text}");
        }
        assert!(resolve_fields(".spec['a']", &props).is_err());
    }
}
