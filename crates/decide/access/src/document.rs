//! Reading configuration documents and reviews.

use plimsoll_meta::field::FieldError;
use serde_json::Value;

/// The texts of a list; nothing for anything else.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A text field, if it is there and not empty.
pub(crate) fn text(value: &Value, field: &str) -> Option<String> {
    value[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The elements of a list field.
pub(crate) fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The first key that is none of the known ones.
pub(crate) fn unknown<'a>(value: &'a Value, known: &[&str]) -> Option<&'a str> {
    value.as_object()?.keys().map(String::as_str).find(|key| !known.contains(key))
}

/// Refuses fields that nobody knows; `path` is where the value stands, empty for the document.
pub(crate) fn known_only(value: &Value, path: &str, fields: &[&str]) -> Result<(), String> {
    match unknown(value, fields) {
        Some(field) if path.is_empty() => Err(format!("unknown field {field:?}")),
        Some(field) => Err(format!("unknown field \"{path}.{field}\"")),
        None => Ok(()),
    }
}

/// Errors as Go prints several of them.
pub(crate) fn aggregate(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in errors.iter().map(ToString::to_string) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match &texts[..] {
        [one] => one.clone(),
        all => format!("[{}]", all.join(", ")),
    }
}

/// Seconds of a duration such as `5m`, `30s` or `1h30m`; `None` when it is no duration.
pub fn seconds(text: &str) -> Option<f64> {
    plimsoll_meta::duration::parse(text).ok().map(|duration| duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, expected) in [
            ("5m", Some(300.0)),
            ("30s", Some(30.0)),
            ("1h30m", Some(5400.0)),
            ("500ms", Some(0.5)),
            ("0", Some(0.0)),
            ("", None),
            ("5", None),
            ("5x", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
