//! Health, version and token keys.

use http::{Response, StatusCode};
use serde_json::json;

use crate::authenticate::ISSUER;
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
        (".well-known", Some("openid-configuration")) => Some(body::json(
            StatusCode::OK,
            &json!({
                "issuer": ISSUER, "jwks_uri": format!("{ISSUER}/openid/v1/jwks"), "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"],
            }),
        )),
        ("openid", Some("v1/jwks")) => {
            Some(body::encoded(StatusCode::OK, "application/jwk-set+json", api.tokens.key_set().to_string()))
        }
        _ => None,
    }
}
