//! The `continue` token of a page: at which revision the list reads, and behind which key it goes on.
//!
//! The form is upstream's (`k8s.io/apiserver/pkg/storage/continue.go`): base64 of
//! `{"v":"meta.k8s.io/v1","rv":7,"start":"default/web\u0000"}`, the start without the prefix of the list.

use base64::DecodeError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::Value;

const VERSION: &str = "meta.k8s.io/v1";
const INVALID: &str = "continue key is not valid";

/// A token, read or to be given out.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct PageToken {
    v: String,
    rv: i64,
    start: String,
}

impl PageToken {
    /// The token of a page whose last key is `last`.
    pub fn behind(last: &str, prefix: &str, revision: i64) -> Self {
        let start = format!("{}\0", last.strip_prefix(prefix).unwrap_or(last));
        Self { v: VERSION.to_owned(), rv: revision, start }
    }

    /// Reads what a client sends.
    ///
    /// # Errors
    /// What is wrong with it, as upstream words it.
    pub fn read(text: &str) -> Result<Self, String> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|error| {
            let at = match error {
                DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol { offset: at, .. } => at,
                DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => text.len(),
            };
            format!("{INVALID}: illegal base64 data at input byte {at}")
        })?;
        let token = Self::from_json(&bytes).map_err(|cause| format!("{INVALID}: {cause}"))?;
        if token.v != VERSION {
            return Err(format!("{INVALID}: server does not recognize this encoded version {}", token.v));
        }
        if token.rv == 0 {
            return Err(format!("{INVALID}: incorrect encoded start resourceVersion (version {VERSION})"));
        }
        if token.start.is_empty() {
            return Err(format!("{INVALID}: encoded start key empty (version {VERSION})"));
        }
        // Nothing that a path could be led out of its collection with.
        let parts = token.start.strip_prefix('/').unwrap_or(&token.start).split('/');
        if parts.into_iter().any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("{INVALID}: {}", token.start));
        }
        Ok(token)
    }

    fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(bytes)
            .map_err(|error| plimsoll_document::complaint(bytes).unwrap_or_else(|| error.to_string()))?;
        let go = |value: &Value| match value {
            Value::Number(number) => format!("number {number}"),
            Value::String(_) => "string".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) | Value::Null => "object".to_owned(),
        };
        let fields = match &value {
            Value::Object(fields) => fields,
            Value::Null => return Ok(Self::default()),
            other => {
                let kind = go(other);
                return Err(format!(
                    "json: cannot unmarshal {kind} into Go value of type storage.continueToken"
                ));
            }
        };
        let wrong = |name: &str, value: &Value, wanted: &str| {
            format!(
                "json: cannot unmarshal {} into Go struct field continueToken.{name} of type {wanted}",
                go(value)
            )
        };
        let text = |name: &str| match fields.get(name) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(wrong(name, other, "string")),
        };
        let rv = match fields.get("rv") {
            None | Some(Value::Null) => 0,
            Some(number) => number.as_i64().ok_or_else(|| wrong("rv", number, "int64"))?,
        };
        Ok(Self { v: text("v")?, rv, start: text("start")? })
    }

    /// The text that clients send back.
    pub fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("three plain fields"))
    }

    /// The key behind which the page begins.
    pub fn after(&self, prefix: &str) -> String {
        let start = self.start.strip_prefix('/').unwrap_or(&self.start);
        format!("{prefix}{}", start.trim_end_matches('\0'))
    }

    /// The revision of the list; none for the newest.
    pub fn revision(&self) -> Option<i64> {
        (self.rv > 0).then_some(self.rv)
    }

    /// The token that goes on at the newest revision, wherever that leads.
    pub fn inconsistent(self) -> Self {
        Self { rv: -1, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        let token = PageToken::behind("/registry/pods/a/web", "/registry/pods/", 7);
        let read = PageToken::read(&token.encode()).expect("a token");
        assert_eq!(read, token);
        assert_eq!(read.after("/registry/pods/"), "/registry/pods/a/web");
        assert_eq!(read.revision(), Some(7));
        let late = PageToken::read(&read.inconsistent().encode()).expect("a token");
        assert_eq!((late.revision(), late.after("/x/")), (None, "/x/a/web".to_owned()));
    }

    #[test]
    fn bad_tokens_are_told_apart() {
        let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
        for (token, message) in [
            ("*".to_owned(), "continue key is not valid: illegal base64 data at input byte 0"),
            (encoded("{}"), "continue key is not valid: server does not recognize this encoded version "),
            (
                encoded(r#"{"v":"meta.k8s.io/v1","start":"a"}"#),
                "continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ),
            (
                encoded(r#"{"v":"meta.k8s.io/v1","rv":2}"#),
                "continue key is not valid: encoded start key empty (version meta.k8s.io/v1)",
            ),
            (
                encoded(r#"{"v":"meta.k8s.io/v1","rv":2,"start":"../secrets/a"}"#),
                "continue key is not valid: ../secrets/a",
            ),
        ] {
            assert_eq!(PageToken::read(&token), Err(message.to_owned()));
        }
        for (text, cause) in [
            ("hello", "invalid character 'h' looking for beginning of value"),
            ("{", "unexpected end of JSON input"),
            ("[1]", "json: cannot unmarshal array into Go value of type storage.continueToken"),
            (
                r#"{"rv":"5"}"#,
                "json: cannot unmarshal string into Go struct field continueToken.rv of type int64",
            ),
            (
                r#"{"rv":5.5}"#,
                "json: cannot unmarshal number 5.5 into Go struct field continueToken.rv of type int64",
            ),
        ] {
            assert_eq!(PageToken::read(&encoded(text)), Err(format!("continue key is not valid: {cause}")));
        }
    }
}
