//! Answers in protobuf: what is stored and answered as JSON, turned at the very end.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::BodyExt;
use plimsoll_meta::status::Status;
use serde_json::Value;

use crate::body::{self, Document, ResponseBody};
use crate::negotiate::{self, Media};

/// What the client takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    media: Media,
    json: bool,
}

impl Accepted {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self { media: negotiate::media(headers), json: negotiate::takes_json(headers) }
    }

    /// The answer as the client prefers it; JSON where there is no other encoding and it takes that.
    pub(crate) async fn encode(self, response: Response<ResponseBody>) -> Response<ResponseBody> {
        if self.media == Media::Json || response.extensions().get::<Document>().is_none() {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        let bytes = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) => return body::failure(&Status::internal(error)),
        };
        let encoded = serde_json::from_slice::<Value>(&bytes).ok().and_then(|object| encoded(&object));
        match encoded {
            Some(bytes) => {
                let media_type = HeaderValue::from_static(plimsoll_protobuf::MEDIA_TYPE);
                parts.headers.insert(CONTENT_TYPE, media_type);
                Response::from_parts(parts, body::full(bytes))
            }
            None if self.json || !parts.status.is_success() => Response::from_parts(parts, body::full(bytes)),
            None => body::failure(&Status::not_acceptable("application/json, application/yaml")),
        }
    }
}

fn encoded(object: &Value) -> Option<Vec<u8>> {
    plimsoll_protobuf::encode(object)
        .inspect_err(|error| tracing::debug!(%error, "an answer has no protobuf form"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use http::header::ACCEPT;
    use serde_json::json;

    const PROTOBUF: &str = plimsoll_protobuf::MEDIA_TYPE;

    /// Status code, media type and decoded object of an answer.
    fn answered(accept: &str, response: Response<ResponseBody>) -> (u16, String, Value) {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().expect("header"));
        futures::executor::block_on(async {
            let response = Accepted::of(&headers).encode(response).await;
            let media_type = response.headers()[CONTENT_TYPE].to_str().expect("text").to_owned();
            let code = response.status().as_u16();
            let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
            let object = match media_type.as_str() {
                PROTOBUF => plimsoll_protobuf::decode(&bytes).expect("decodes"),
                _ => serde_json::from_slice(&bytes).expect("decodes"),
            };
            (code, media_type, object)
        })
    }

    #[test]
    fn objects_lists_and_errors_are_turned() {
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
        let bare = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
        let list = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7"}, "items": [bare]});
        for object in [map, list] {
            let response = body::json(StatusCode::CREATED, &object);
            assert_eq!(answered(PROTOBUF, response), (201, PROTOBUF.to_owned(), object));
        }
        let failure = body::failure(&Status::not_found("apps", "deployments", "web"));
        let (code, media_type, status) = answered(&format!("{PROTOBUF},application/json"), failure);
        assert_eq!((code, media_type.as_str()), (404, PROTOBUF));
        assert_eq!((&status["reason"], &status["details"]["name"]), (&json!("NotFound"), &json!("web")));
    }

    #[test]
    fn the_rest_stays_as_it_is() {
        let custom = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "a"}});
        for (accept, code) in [
            ("application/json", 200),
            ("application/json,application/vnd.kubernetes.protobuf", 200),
            ("application/vnd.kubernetes.protobuf,application/json", 200),
            (PROTOBUF, 406),
        ] {
            let answer = answered(accept, body::json(StatusCode::OK, &custom));
            assert_eq!(answer.0, code, "{accept}");
            assert!(code != 200 || answer.2 == custom);
        }
    }
}
