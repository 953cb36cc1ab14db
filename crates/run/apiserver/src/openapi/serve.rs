//! Documents as answers: which encoding, under which tag, for how long.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, EXPIRES, HeaderName,
    LAST_MODIFIED, LOCATION, VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};

use super::Style;
use super::packed::{Encoding, Packed, unpack};
use crate::body::{self, ResponseBody};
use crate::conditional::{self, unless_known};
use crate::stages::Asked;

/// How long a document stays under the address that has its hash.
const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

/// The encoding that the client likes best, of those that there are.
pub(super) fn encoding(headers: &HeaderMap, style: Style) -> Option<Encoding> {
    let text = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut clauses: Vec<(&str, f64)> = text.split(',').filter_map(clause).collect();
    if text.trim().is_empty() {
        clauses.push(("*/*", 1.0));
    }
    clauses.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    clauses.into_iter().find_map(|(media, _)| match media.split_once('/')? {
        ("application" | "*", "json" | "*") => Some(Encoding::Json),
        ("application" | "*", kind) => {
            let generation = if style == Style::V2 { "v2" } else { "v3" };
            let rest = kind.strip_prefix("com.github.proto-openapi.spec.")?.strip_prefix(generation)?;
            matches!(rest, "@v1.0+protobuf" | ".v1.0+protobuf").then_some(Encoding::Protobuf)
        }
        _ => None,
    })
}

/// A media type with its weight.
fn clause(text: &str) -> Option<(&str, f64)> {
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().filter(|media| !media.is_empty())?;
    let weight = parts.find_map(|part| part.strip_prefix("q=")).and_then(|weight| weight.parse().ok());
    Some((media, weight.unwrap_or(1.0)))
}

/// What the answer says; `@` may not stand in a media type.
fn media_type(style: Style, encoding: Encoding) -> &'static str {
    match (encoding, style) {
        (Encoding::Json, _) => "application/json",
        (Encoding::Protobuf, Style::V2) => "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
        (Encoding::Protobuf, Style::V3) => "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
    }
}

/// The document, or that the client has it already.
pub(super) async fn document(
    asked: &Asked,
    document: &Arc<Packed>,
    encoding: Encoding,
) -> Response<ResponseBody> {
    let accepted = asked.headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let takes_gzip = accepted.unwrap_or_default().split([',', ';']).any(|one| one.trim() == "gzip");
    let bytes = match document.ready(encoding).filter(|_| takes_gzip) {
        // Nothing is sent, so nothing needs to be made.
        _ if conditional::knows(&asked.headers, &document.tag) => Bytes::new(),
        Some(ready) => ready.clone(),
        None => {
            let document = Arc::clone(document);
            let make = move || {
                let packed = document.get(encoding);
                if takes_gzip { packed.clone() } else { unpack(packed).into() }
            };
            tokio::task::spawn_blocking(make).await.expect("unpacking does not panic")
        }
    };
    let mut response = unless_known(&asked.headers, &document.tag, || {
        let mut response = Response::new(body::full(bytes));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type(document.style, encoding)));
        if takes_gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        insert(headers, LAST_MODIFIED, &date(document.made));
        response
    });
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    response
}

/// The answer at an address that has the document's hash: it will never be another.
pub(super) fn lasting(mut response: Response<ResponseBody>) -> Response<ResponseBody> {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    insert(headers, EXPIRES, &date(Timestamp::now().saturating_add(YEAR).unwrap_or(Timestamp::MAX)));
    response
}

/// The document has another hash now.
pub(super) fn moved(location: &str, document: &Packed, encoding: Encoding) -> Response<ResponseBody> {
    let mut response = empty(StatusCode::MOVED_PERMANENTLY);
    let headers = response.headers_mut();
    insert(headers, LOCATION, location);
    insert(headers, http::header::ETAG, &format!("\"{}\"", document.tag));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type(document.style, encoding)));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// No encoding that the client takes.
pub(super) fn not_acceptable() -> Response<ResponseBody> {
    let mut response = empty(StatusCode::NOT_ACCEPTABLE);
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// An answer that is nothing but its code.
pub(super) fn empty(code: StatusCode) -> Response<ResponseBody> {
    let mut response = Response::new(body::full(""));
    *response.status_mut() = code;
    response
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn date(time: Timestamp) -> String {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_encoding_that_there_is() {
        for (accept, style, expected) in [
            ("", Style::V2, Some(Encoding::Json)),
            ("*/*", Style::V3, Some(Encoding::Json)),
            ("application/json", Style::V3, Some(Encoding::Json)),
            (
                "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
                Style::V3,
                Some(Encoding::Protobuf),
            ),
            (
                "application/com.github.proto-openapi.spec.v2.v1.0+protobuf, application/json",
                Style::V2,
                Some(Encoding::Protobuf),
            ),
            (
                "application/com.github.proto-openapi.spec.v2.v1.0+protobuf;q=0.5, application/json",
                Style::V2,
                Some(Encoding::Json),
            ),
            ("application/com.github.proto-openapi.spec.v2@v1.0+protobuf", Style::V3, None),
            ("text/html", Style::V3, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().expect("a value"));
            assert_eq!(encoding(&headers, style), expected, "{accept}");
        }
    }

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(date(Timestamp::UNIX_EPOCH), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}
