//! `/healthz`, `/livez`, `/readyz`, `/version`, token keys and metrics.

use http::{Response, StatusCode};
use serde_json::json;

use crate::authenticate::ISSUER;
use crate::body::{self, ResponseBody};
use crate::server::Api;
use crate::stages::Asked;
use crate::version;

/// Answers a health or information path, or `None`.
pub(crate) fn answer(api: &Api, asked: &Asked) -> Option<Response<ResponseBody>> {
    let path = asked.path.trim_end_matches('/');
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    match (parts.next()?, parts.next()) {
        ("healthz" | "livez" | "readyz", check) => Some(health(api, asked, check)),
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

/// The checks by name; all of them hold once the server serves, but for the store.
fn checks(api: &Api) -> [(&'static str, bool); 2] {
    [("ping", true), ("etcd", api.store.is_healthy())]
}

fn health(api: &Api, asked: &Asked, only: Option<&str>) -> Response<ResponseBody> {
    let kind = asked.path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let excluded: Vec<&str> = asked.query.all("exclude").collect();
    let checks: Vec<(&str, bool)> = checks(api)
        .into_iter()
        .filter(|(name, _)| only.is_none_or(|only| only == *name) && !excluded.contains(name))
        .collect();
    if only.is_some() && checks.is_empty() {
        return body::failure(&plimsoll_meta::status::Status::no_such_path());
    }
    let good = checks.iter().all(|(_, good)| *good);
    let mut text = String::new();
    if asked.query.has("verbose") || !good {
        for (name, good) in &checks {
            text.push_str(&if *good {
                format!("[+]{name} ok\n")
            } else {
                format!("[-]{name} failed: reason withheld\n")
            });
        }
        for name in &excluded {
            text.push_str(&format!("[+]{name} excluded: ok\n"));
        }
        text.push_str(&format!("{kind} check {}\n", if good { "passed" } else { "failed" }));
    } else {
        text.push_str("ok");
    }
    let code = if good { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    body::encoded(code, "text/plain; charset=utf-8", text)
}
