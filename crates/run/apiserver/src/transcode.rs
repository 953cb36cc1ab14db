//! YAML and CBOR at the edge: inside, everything is JSON.
//!
//! Bodies in CBOR become JSON before anything else sees them; answers become what the client prefers
//! after everything else is done (protobuf has a way of its own, see [`crate::protobuf`]).

use bytes::Bytes;
use futures::StreamExt;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Frame;
use plimsoll_meta::status::Status;
use serde_json::Value;

use crate::body::{self, Document, Error, RequestBody, ResponseBody};
use crate::features::{Features, Gate};
use plimsoll_document::cbor;

const YAML: &str = "application/yaml";

/// Marks the events of a watch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Events;

/// The encoding that a client prefers to JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preferred {
    /// None, or one that is not made here.
    Other,
    Yaml,
    Cbor,
}

impl Preferred {
    /// The encoding of the answer to a request.
    pub(crate) fn of(headers: &HeaderMap, features: Features) -> Self {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let known = accept.split(',').map(|choice| choice.split(';').next().unwrap_or_default().trim());
        let mut known = known.filter_map(|media| match media {
            YAML => Some(Self::Yaml),
            cbor::MEDIA_TYPE | cbor::SEQUENCE_MEDIA_TYPE => (features.cbor == Gate::On).then_some(Self::Cbor),
            "application/json" | "*/*" | "application/*" | plimsoll_protobuf::MEDIA_TYPE => Some(Self::Other),
            _ => None,
        });
        known.next().unwrap_or(Self::Other)
    }

    /// The answer in that encoding.
    pub(crate) async fn encode(self, response: Response<ResponseBody>) -> Response<ResponseBody> {
        let is_stream = response.extensions().get::<Events>().is_some();
        let is_document = response.extensions().get::<Document>().is_some();
        match self {
            Self::Cbor if is_stream => sequence(response),
            Self::Yaml if is_stream => body::failure(&Status::not_acceptable(
                "application/json, application/vnd.kubernetes.protobuf;stream=watch",
            )),
            Self::Yaml | Self::Cbor if is_document => self.document(response).await,
            _ => response,
        }
    }

    async fn document(self, response: Response<ResponseBody>) -> Response<ResponseBody> {
        let (mut parts, body) = response.into_parts();
        let bytes = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) => return body::failure(&Status::internal(error)),
        };
        let value: Value = match serde_json::from_slice(&bytes) {
            Ok(value) => value,
            Err(error) => return body::failure(&Status::internal(error)),
        };
        let (media_type, bytes) = match self {
            Self::Cbor => (cbor::MEDIA_TYPE, Ok(cbor::encode(&value))),
            _ => (YAML, serde_saphyr::to_string(&value).map(String::into_bytes)),
        };
        match bytes {
            Ok(bytes) => {
                parts.headers.remove(CONTENT_LENGTH);
                parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
                Response::from_parts(parts, body::full(bytes))
            }
            Err(error) => body::failure(&Status::internal(error)),
        }
    }
}

/// A watch whose events, each a line of JSON, become documents one after the other.
fn sequence(response: Response<ResponseBody>) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(cbor::SEQUENCE_MEDIA_TYPE));
    let pieces = BodyStream::new(body).map(|frame| frame.and_then(|frame| events(&frame)));
    Response::from_parts(parts, StreamBody::new(pieces).boxed_unsync())
}

/// The pieces of a watch's body hold whole events.
fn events(frame: &Frame<Bytes>) -> Result<Frame<Bytes>, Error> {
    let mut out = Vec::new();
    let lines = frame.data_ref().map(|data| data.split(|byte| *byte == b'\n')).into_iter().flatten();
    for line in lines.filter(|line| !line.is_empty()) {
        let event: Value = serde_json::from_slice(line).map_err(|error| Error::new(&error))?;
        out.extend(cbor::encode_event(&event));
    }
    Ok(Frame::data(out.into()))
}

/// The request as JSON, if it is in CBOR and that is on; and with JSON among what it accepts.
pub(crate) async fn request(
    request: Request<RequestBody>,
    features: Features,
) -> Result<Request<RequestBody>, Status> {
    if features.cbor == Gate::Off {
        return Ok(request);
    }
    let (mut parts, body) = request.into_parts();
    if let Some(accept) = parts.headers.get(ACCEPT).and_then(|value| value.to_str().ok()) {
        let accept = accept.replace(cbor::SEQUENCE_MEDIA_TYPE, "application/json");
        if let Ok(accept) = HeaderValue::from_str(&accept.replace(cbor::MEDIA_TYPE, "application/json")) {
            parts.headers.insert(ACCEPT, accept);
        }
    }
    let media_type = match crate::decode::media_type(&parts.headers) {
        cbor::MEDIA_TYPE => "application/json",
        // JSON is YAML, too.
        cbor::APPLY_MEDIA_TYPE => "application/apply-patch+yaml",
        _ => return Ok(Request::from_parts(parts, body)),
    };
    let bytes = body::read(body).await?;
    let json = match bytes.is_empty() {
        true => Vec::new(),
        false => cbor::decode(&bytes).map_err(Status::bad_request)?.to_string().into_bytes(),
    };
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    let body = http_body_util::Full::new(Bytes::from(json)).map_err(|never| match never {}).boxed_unsync();
    Ok(Request::from_parts(parts, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_encoding_is_preferred() {
        let on = Features { cbor: Gate::On };
        for (accept, features, expected) in [
            ("application/yaml", Features::default(), Preferred::Yaml),
            ("application/json, application/yaml", Features::default(), Preferred::Other),
            ("text/html, application/yaml;q=0.9", Features::default(), Preferred::Yaml),
            ("application/cbor, application/yaml", Features::default(), Preferred::Yaml),
            ("application/cbor, application/json", on, Preferred::Cbor),
            ("application/cbor-seq", on, Preferred::Cbor),
            ("", on, Preferred::Other),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().expect("a value"));
            assert_eq!(Preferred::of(&headers, features), expected, "{accept}");
        }
    }
}
