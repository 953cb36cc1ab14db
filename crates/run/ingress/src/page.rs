//! Answers of the ingress itself.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Response, StatusCode};

use crate::body::Answer;

/// A page that says what is wrong, as short as nginx' pages.
pub(crate) fn of(status: StatusCode) -> Response<Answer> {
    let reason = match status {
        // nginx' words.
        StatusCode::SERVICE_UNAVAILABLE => "Service Temporarily Unavailable",
        StatusCode::GATEWAY_TIMEOUT => "Gateway Time-out",
        StatusCode::PAYLOAD_TOO_LARGE => "Request Entity Too Large",
        other => other.canonical_reason().unwrap_or("Error"),
    };
    let title = format!("{} {reason}", status.as_u16());
    let text = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n</body>\r\n</html>\r\n"
    );
    answer(status, "text/html", text.into())
}

/// What is answered where no rule fits.
pub(crate) fn nobody() -> Response<Answer> {
    answer(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", Bytes::from_static(b"default backend - 404"))
}

/// The same request is to come elsewhere.
pub(crate) fn redirect(status: StatusCode, location: &str) -> Response<Answer> {
    let mut response = of(status);
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// Nothing but headers.
pub(crate) fn empty() -> Response<Answer> {
    let mut response = Response::new(Answer::whole(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn answer(status: StatusCode, kind: &'static str, text: Bytes) -> Response<Answer> {
    let mut response = Response::new(Answer::whole(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The same to a client that speaks gRPC, which looks for a status of its own (as gRPC's "HTTP to gRPC Status Code Mapping").
pub(crate) fn for_grpc(status: StatusCode) -> Response<Answer> {
    let code: u8 = match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    };
    let mut response = empty();
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(u16::from(code)));
    if let Some(reason) = status.canonical_reason() {
        headers.insert("grpc-message", HeaderValue::from_static(reason));
    }
    response
}
