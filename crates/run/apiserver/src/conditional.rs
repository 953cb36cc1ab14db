//! Answers that clients keep: under a tag, and with 304 for those who have the answer of that tag.

use http::header::{ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::body::{self, ResponseBody};

/// The answer with its tag; nothing but 304 if the request's headers name that tag.
pub(crate) fn unless_known(
    headers: &HeaderMap,
    tag: &str,
    answer: impl FnOnce() -> Response<ResponseBody>,
) -> Response<ResponseBody> {
    let mut response = if knows(headers, tag) {
        let mut response = Response::new(body::full(""));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        answer()
    };
    response.headers_mut().extend(HeaderValue::from_str(&format!("\"{tag}\"")).ok().map(|tag| (ETAG, tag)));
    response
}

/// Whether a request names the tag among those it has (RFC 9110, compared weakly).
pub(crate) fn knows(headers: &HeaderMap, tag: &str) -> bool {
    let tag = format!("\"{tag}\"");
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_it_is_not_sent_it() {
        for (known, code) in
            [("\"a\"", 304), ("\"b\", W/\"a\"", 304), ("*", 304), ("\"b\"", 200), ("a", 200), ("", 200)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, known.parse().expect("a value"));
            let response = unless_known(&headers, "a", || Response::new(body::full("text")));
            assert_eq!(response.status().as_u16(), code, "{known}");
            assert_eq!(response.headers()[ETAG], "\"a\"");
        }
    }
}
