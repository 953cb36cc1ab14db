//! Headers on their way to a pod and back.

use http::header::{
    CONNECTION, COOKIE, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue};
use plimsoll_route::gateway::Headers;

/// Whose request it is, in the words of headers.
pub(crate) struct Origin<'a> {
    pub(crate) client: &'a HeaderValue,
    pub(crate) host: Option<HeaderValue>,
    pub(crate) encrypted: bool,
    pub(crate) port: u16,
    /// Whether the headers of the client may be believed.
    pub(crate) trusted: bool,
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const FORWARDED_SCHEME: HeaderName = HeaderName::from_static("x-forwarded-scheme");
const SCHEME: HeaderName = HeaderName::from_static("x-scheme");

/// Headers that say whose request it is.
const TOLD: [HeaderName; 8] = [
    REQUEST_ID,
    REAL_IP,
    FORWARDED_FOR,
    FORWARDED_PROTO,
    FORWARDED_HOST,
    FORWARDED_PORT,
    FORWARDED_SCHEME,
    SCHEME,
];

/// Headers that speak of one connection only.
const OWN: [HeaderName; 7] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The protocol that a client wants to change to.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let words = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut words = words.flat_map(|value| value.split(',')).map(str::trim);
    if !words.any(|word| word.eq_ignore_ascii_case("upgrade")) {
        return None;
    }
    headers.get(UPGRADE).cloned()
}

/// Removes what speaks of one connection only.
pub(crate) fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|word| word.trim().parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &OWN {
        headers.remove(name);
    }
    // gRPC asks for trailers, which pass through.
    if headers.get(TE).is_some_and(|value| value != "trailers") {
        headers.remove(TE);
    }
}

/// Asks a pod, or tells a client, to change to a protocol.
pub(crate) fn ask_for(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Says whose request it is (ingress-nginx: `nginx.tmpl`). What a client says of itself does not count, unless it is
/// a trusted proxy.
pub(crate) fn forward(headers: &mut HeaderMap, origin: &Origin<'_>) {
    let scheme = HeaderValue::from_static(if origin.encrypted { "https" } else { "http" });
    for name in disguised(headers) {
        headers.remove(name);
    }
    // All that is added, and the host.
    headers.reserve(10);
    if !headers.contains_key(REQUEST_ID) {
        headers.insert(REQUEST_ID, request_id(rand::random()));
    }
    headers.insert(REAL_IP, origin.client.clone());
    headers.insert(FORWARDED_FOR, origin.client.clone());
    headers.insert(FORWARDED_SCHEME, scheme.clone());
    headers.insert(SCHEME, scheme.clone());
    headers.insert(FORWARDED_PROTO, scheme);
    if !(origin.trusted && headers.contains_key(FORWARDED_HOST)) {
        match &origin.host {
            Some(host) => headers.insert(FORWARDED_HOST, host.clone()),
            None => headers.remove(FORWARDED_HOST),
        };
    }
    if !(origin.trusted && headers.contains_key(FORWARDED_PORT)) {
        headers.insert(FORWARDED_PORT, HeaderValue::from(origin.port));
    }
}

/// What many servers take for one of [`TOLD`]: they read `_` and `-` in names alike, as CGI does.
fn disguised(headers: &HeaderMap) -> Vec<HeaderName> {
    let odd = headers.keys().filter(|name| name.as_str().contains('_'));
    odd.filter(|name| TOLD.iter().any(|told| *told == *name.as_str().replace('_', "-"))).cloned().collect()
}

fn request_id(number: u128) -> HeaderValue {
    let digit = |place: usize| b"0123456789abcdef"[(number >> (124 - 4 * place)) as usize & 15];
    HeaderValue::from_bytes(&std::array::from_fn::<u8, 32, _>(digit)).expect("hexadecimal digits fit")
}

/// The texts of all headers of a name.
pub(crate) fn texts<'a>(
    headers: &'a HeaderMap,
    name: HeaderName,
) -> impl DoubleEndedIterator<Item = &'a str> + use<'a> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok())
}

/// The texts of all headers of a name, as rules ask for them.
pub(crate) fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
}

/// Changes headers as a filter of a route says.
pub(crate) fn change(headers: &mut HeaderMap, change: &Headers) {
    for (more, one) in [(false, &change.set), (true, &change.add)] {
        for one in one {
            let (Ok(name), Ok(value)) = (one.name.parse::<HeaderName>(), HeaderValue::from_str(&one.value))
            else {
                continue;
            };
            match more {
                true => drop(headers.append(name, value)),
                false => drop(headers.insert(name, value)),
            }
        }
    }
    for name in &change.remove {
        headers.remove(name.as_str());
    }
}

/// Adds headers that were decided on.
pub(crate) fn extend(headers: &mut HeaderMap, more: Vec<(&'static str, String)>) {
    for (name, value) in more {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.append(name, value);
        }
    }
}

/// The text of a header.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The value of a cookie.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    plimsoll_route::canary::cookie(texts(headers, COOKIE), name)
}

/// Puts the host where HTTP/1.1 has it.
pub(crate) fn set_host(headers: &mut HeaderMap, host: Option<HeaderValue>) {
    match host {
        Some(host) => headers.insert(HOST, host),
        None => headers.remove(HOST),
    };
}

/// HTTP/2 may send each cookie in a header of its own; HTTP/1.1 has one.
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}
