//! `/statusz` and `/flagz`: what this server is and how it was started, for people (component-base: zpages, v1.37).

use std::sync::OnceLock;
use std::time::Instant;

use http::header::ACCEPT;
use http::{HeaderMap, Response, StatusCode};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::body::{self, ResponseBody};
use crate::server::Api;
use crate::stages::Asked;
use crate::version::VERSION;

const TEXT: &str = "text/plain; charset=utf-8";
const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n";
/// Where else to look.
const ENDPOINTS: [&str; 12] = [
    "/.well-known",
    "/api",
    "/apis",
    "/debug",
    "/flagz",
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi",
    "/openid",
    "/readyz",
    "/version",
];

/// How and when this server was started.
#[derive(Debug)]
pub(crate) struct Start {
    time: Timestamp,
    since: Instant,
    /// Names and values of the program's flags, once they are told.
    flags: OnceLock<Vec<(String, String)>>,
}

impl Start {
    /// Now.
    pub(crate) fn now() -> Self {
        Self { time: Timestamp::now(), since: Instant::now(), flags: OnceLock::new() }
    }

    /// With these flags.
    pub(crate) fn with(&self, mut flags: Vec<(String, String)>) {
        flags.sort();
        // They are told once.
        let _ = self.flags.set(flags);
    }
}

/// Answers one of the two paths, or `None`.
pub(crate) fn answer(api: &Api, asked: &Asked) -> Option<Response<ResponseBody>> {
    let text = match asked.path.as_str() {
        "/statusz" => status(&api.start),
        "/flagz" => flags(&api.start),
        _ => return None,
    };
    Some(match takes_text(&asked.headers) {
        true => body::encoded(StatusCode::OK, TEXT, text),
        false => body::encoded(
            StatusCode::NOT_ACCEPTABLE,
            TEXT,
            "media type not acceptable, must be: text/plain\n",
        ),
    })
}

fn status(start: &Start) -> String {
    let time = start.time.to_zoned(TimeZone::UTC).strftime("%a %b %e %H:%M:%S UTC %Y").to_string();
    let up = start.since.elapsed().as_secs();
    let binary = VERSION.trim_start_matches('v').split('+').next().unwrap_or_default();
    let emulated = binary.rsplit_once('.').map_or(binary, |(minor, _)| minor);
    format!(
        "\nkube-apiserver statusz\n{WARNING}\nStarted: {time}\nUp: {} hr {:02} min {:02} sec\nBinary version: {binary}\nEmulation version: {emulated}\nUseful Endpoints:  {}\n",
        up / 3600,
        up / 60 % 60,
        up % 60,
        ENDPOINTS.join(" ")
    )
}

fn flags(start: &Start) -> String {
    let all = start.flags.get().into_iter().flatten();
    let lines: String = all.map(|(name, value)| format!("{name}={value}\n")).collect();
    format!("\nkube-apiserver flags\n{WARNING}\n{lines}")
}

/// Whoever names no media type takes any.
fn takes_text(headers: &HeaderMap) -> bool {
    let mut wanted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if wanted.peek().is_none() {
        return true;
    }
    let mut types = wanted.flat_map(|value| value.split(','));
    types.any(|one| {
        let media_type = one.split(';').next().unwrap_or_default().trim();
        matches!(media_type, "" | "*/*" | "text/*" | "text/plain")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_listed_by_name() {
        let flag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let start = Start::now();
        start.with(vec![flag("listen", "127.0.0.1:6443"), flag("goaway-chance", "0")]);
        let text = flags(&start);
        assert!(text.starts_with("\nkube-apiserver flags\nWarning: "), "{text}");
        assert!(text.ends_with("\n\ngoaway-chance=0\nlisten=127.0.0.1:6443\n"), "{text}");
    }

    #[test]
    fn only_text_is_offered() {
        for (accept, expected) in [
            (None, true),
            (Some("application/json, */*"), true),
            (Some("text/plain;q=1"), true),
            (Some("application/json"), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(accept.map(|text| (ACCEPT, text.parse().expect("a header"))));
            assert_eq!(takes_text(&headers), expected, "{accept:?}");
        }
    }
}
