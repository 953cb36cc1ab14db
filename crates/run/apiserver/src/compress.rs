//! Long answers to clients that take gzip: compressed while they are sent, as fast as gzip goes.
//!
//! As upstream (`k8s.io/apiserver/pkg/endpoints/handlers/responsewriters`): only what is read with GET,
//! only above 128 KiB, at the first level of compression.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{StreamExt, stream};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, VARY};
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body::Body;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Frame;

use crate::body::{Error, ResponseBody};

/// Shorter answers are not worth it.
const LEAST: u64 = 128 * 1024;

/// Marks answers whose length is not known beforehand but is above the least that is worth it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Long;

/// Whether a client's answers may be compressed.
pub(crate) fn is_wanted(method: &Method, headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    method == Method::GET && accepted.split(',').any(|encoding| encoding.trim() == "gzip")
}

/// The answer, compressed if it is long.
pub(crate) fn compressed(response: Response<ResponseBody>) -> Response<ResponseBody> {
    let is_long = response.extensions().get::<Long>().is_some()
        || response.body().size_hint().exact().is_some_and(|size| size > LEAST);
    if !is_long || response.headers().contains_key(CONTENT_ENCODING) || !response.status().is_success() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    let state = (BodyStream::new(body), Some(GzEncoder::new(Vec::new(), Compression::fast())));
    let pieces = stream::unfold(state, |(mut body, mut encoder)| async move {
        // Without its encoder the stream is over, and the body must not be asked again.
        while encoder.is_some() {
            let piece = match body.next().await {
                Some(Ok(frame)) => encode(encoder.as_mut()?, frame),
                Some(Err(error)) => {
                    encoder = None;
                    Err(error)
                }
                // Writing to memory does not fail.
                None => encoder.take()?.finish().map_err(|error| Error::new(&error)),
            };
            match piece {
                Ok(piece) if piece.is_empty() => {}
                piece => return Some((piece.map(|piece| Frame::data(Bytes::from(piece))), (body, encoder))),
            }
        }
        None
    });
    Response::from_parts(parts, StreamBody::new(pieces).boxed_unsync())
}

/// What comes out of the encoder when a frame goes in.
fn encode(encoder: &mut GzEncoder<Vec<u8>>, frame: Frame<Bytes>) -> Result<Vec<u8>, Error> {
    if let Ok(data) = frame.into_data() {
        // A body of one long piece goes in little by little, too.
        encoder.write_all(&data).map_err(|error| Error::new(&error))?;
    }
    Ok(std::mem::take(encoder.get_mut()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    use flate2::read::GzDecoder;

    use crate::body;

    fn sent(response: Response<ResponseBody>) -> (HeaderMap, Vec<u8>) {
        let (parts, body) = response.into_parts();
        let bytes = futures::executor::block_on(body.collect()).expect("a whole body").to_bytes();
        (parts.headers, bytes.to_vec())
    }

    #[test]
    fn long_answers_shrink_and_come_back() {
        let text = "all work and no play ".repeat(10_000);
        let (headers, bytes) =
            sent(compressed(body::encoded(http::StatusCode::OK, "application/json", text.clone())));
        assert_eq!(
            (&headers[CONTENT_ENCODING], &headers[VARY]),
            (&"gzip".parse().expect("a value"), &"Accept-Encoding".parse().expect("a value"))
        );
        assert!(bytes.len() < text.len() / 20, "{}", bytes.len());
        let mut found = String::new();
        GzDecoder::new(&bytes[..]).read_to_string(&mut found).expect("gzip");
        assert_eq!(found, text);
    }

    #[test]
    fn other_answers_stay_as_they_are() {
        let text = "x".repeat(200_000);
        for (code, text) in [(200, "short"), (404, text.as_str())] {
            let code = http::StatusCode::from_u16(code).expect("a code");
            let (headers, bytes) = sent(compressed(body::encoded(code, "application/json", text.to_owned())));
            assert_eq!((headers.get(CONTENT_ENCODING), bytes), (None, text.as_bytes().to_vec()));
        }
        for (method, accepted, wanted) in [
            (Method::GET, "deflate, gzip", true),
            (Method::POST, "gzip", false),
            (Method::GET, "identity", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, accepted.parse().expect("a value"));
            assert_eq!(is_wanted(&method, &headers), wanted, "{accepted}");
        }
    }
}
