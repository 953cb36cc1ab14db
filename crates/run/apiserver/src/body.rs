//! Request and response bodies.

use std::convert::Infallible;

use bytes::Bytes;
use futures::Stream;
use futures::StreamExt;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::Frame;
use plimsoll_meta::status::Status;
use serde_json::Value;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl Error {
    pub(crate) fn new(cause: &dyn std::fmt::Display) -> Self {
        Self(cause.to_string())
    }
}

/// What a request carries.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, Error>;
/// What a response carries.
pub type ResponseBody = UnsyncBoxBody<Bytes, Error>;

/// The largest request body, as upstream's.
const LIMIT: usize = 3 * 1024 * 1024;

/// Collects a body of at most 3 MiB.
pub(crate) async fn read(body: RequestBody) -> Result<Bytes, Status> {
    match Limited::new(body, LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Status::too_large(format!("Request entity too large: limit is {LIMIT}")))
        }
        Err(error) => Err(Status::bad_request(format!("unable to read the request body: {error}"))),
    }
}

/// A body of one piece.
pub(crate) fn full(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A body that grows.
pub(crate) fn stream(pieces: impl Stream<Item = Bytes> + Send + 'static) -> ResponseBody {
    StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))).boxed_unsync()
}

/// Marks answers that are one JSON document of this server's own (not a stream, not proxied).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Document;

/// A JSON answer.
pub(crate) fn json(code: StatusCode, value: &Value) -> Response<ResponseBody> {
    encoded(code, "application/json", value.to_string())
}

/// An answer that is encoded already.
pub(crate) fn encoded(
    code: StatusCode,
    media_type: &'static str,
    bytes: impl Into<Bytes>,
) -> Response<ResponseBody> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    if media_type == "application/json" {
        response.extensions_mut().insert(Document);
    }
    response
}

/// An error as clients expect it.
pub(crate) fn failure(status: &Status) -> Response<ResponseBody> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json(code, &status.to_value());
    if let Some(seconds) = status.details["retryAfterSeconds"].as_u64() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
