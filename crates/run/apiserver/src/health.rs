//! Health, version and token keys.

use http::header::CACHE_CONTROL;
use http::{HeaderValue, Response, StatusCode};
use serde_json::Value;

use crate::body::{self, ResponseBody};
use crate::probes;
use crate::server::Api;
use crate::stages::Asked;
use crate::version;

/// Answers a health or information path, or `None`.
pub(crate) fn answer(api: &Api, asked: &Asked) -> Option<Response<ResponseBody>> {
    let path = asked.path.trim_end_matches('/');
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    match (parts.next()?, parts.next()) {
        (path @ ("healthz" | "livez" | "readyz"), check) => Some(probes::answer(api, asked, path, check)),
        ("version", None) => Some(body::json(StatusCode::OK, &version::document())),
        (".well-known", Some("openid-configuration")) => {
            let document = api.authenticators.accounts.discovery(&api.advertise.to_string())?;
            Some(published("application/json", &document))
        }
        ("openid", Some("v1/jwks")) => {
            Some(published("application/jwk-set+json", &api.authenticators.accounts.key_set()))
        }
        _ => None,
    }
}

/// A document that others may keep for an hour.
fn published(media_type: &'static str, document: &Value) -> Response<ResponseBody> {
    let mut response = body::encoded(StatusCode::OK, media_type, document.to_string());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}
