//! What the client offers, and the response that takes it up.

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Response, StatusCode};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::Refusal;

const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const WEBSOCKET_PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");
const WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const WEBSOCKET_VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");
const WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// What a request wants to become.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// SPDY/3.1 with one of these stream protocols, best first.
    Spdy(Vec<String>),
    /// A WebSocket with one of these subprotocols, best first.
    WebSocket {
        /// What the response must prove to have seen.
        key: Vec<u8>,
        protocols: Vec<String>,
    },
}

impl Offer {
    /// Reads the headers of a request.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        let upgrades = words(headers, &UPGRADE);
        let has = |words: &[String], wanted: &str| words.iter().any(|word| word.eq_ignore_ascii_case(wanted));
        if !has(&words(headers, &CONNECTION), "upgrade") {
            return Err(Refusal::bad("missing header \"Connection: Upgrade\""));
        }
        if has(&upgrades, "websocket") {
            return websocket(headers);
        }
        if !has(&upgrades, "SPDY/3.1") {
            return Err(Refusal::bad(format!("upgrade to {upgrades:?} is not known")));
        }
        match words(headers, &STREAM_PROTOCOL) {
            protocols if protocols.is_empty() => Err(Refusal::bad("X-Stream-Protocol-Version is required")),
            protocols => Ok(Self::Spdy(protocols)),
        }
    }

    /// Takes the client's first protocol that is known, and makes the response.
    pub(crate) fn take<T: Copy>(
        &self,
        spdy: &[(&'static str, T)],
        websocket: &[(&'static str, T)],
    ) -> Taken<T> {
        match self {
            Self::Spdy(offered) => {
                let (name, protocol) = choose(offered, spdy)?;
                let mut response = switching("SPDY/3.1");
                response.headers_mut().insert(STREAM_PROTOCOL, HeaderValue::from_static(name));
                Ok((response, protocol))
            }
            Self::WebSocket { key, protocols } => {
                let nothing = [String::new()];
                // A client without a wish gets the oldest protocol, whose name is empty.
                let offered = if protocols.is_empty() { &nothing[..] } else { protocols };
                let (name, protocol) = choose(offered, websocket)?;
                let mut response = switching("websocket");
                let accept = HeaderValue::try_from(derive_accept_key(key)).expect("base64 fits a header");
                response.headers_mut().insert(WEBSOCKET_ACCEPT, accept);
                if !name.is_empty() {
                    response.headers_mut().insert(WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
                }
                Ok((response, protocol))
            }
        }
    }
}

/// The response and the protocol chosen.
type Taken<T> = Result<(Response<()>, T), Refusal>;

fn choose<T: Copy>(offered: &[String], known: &[(&'static str, T)]) -> Result<(&'static str, T), Refusal> {
    let found = offered.iter().find_map(|wish| known.iter().find(|(name, _)| name == wish));
    found.copied().ok_or_else(|| Refusal::no_protocol(offered, known.iter().map(|(name, _)| *name).collect()))
}

fn switching(to: &'static str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(to));
    response
}

fn websocket(headers: &HeaderMap) -> Result<Offer, Refusal> {
    let key = headers.get(WEBSOCKET_KEY).map(|key| key.as_bytes().to_vec());
    match (key, headers.get(WEBSOCKET_VERSION).map(HeaderValue::as_bytes)) {
        (_, version) if version != Some(b"13") => Err(Refusal::bad("Sec-WebSocket-Version must be 13")),
        (None, _) => Err(Refusal::bad("Sec-WebSocket-Key is required")),
        (Some(key), _) => Ok(Offer::WebSocket { key, protocols: words(headers, &WEBSOCKET_PROTOCOL) }),
    }
}

/// The words of a header that may come several times, each a list.
fn words(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let words = values.flat_map(|value| value.split(',')).map(str::trim);
    words.filter(|word| !word.is_empty()).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    const SPDY: (&str, &str) = ("upgrade", "SPDY/3.1");
    const WEBSOCKET: (&str, &str) = ("upgrade", "websocket");
    const CONNECTION: (&str, &str) = ("connection", "Upgrade");
    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const VERSION: (&str, &str) = ("sec-websocket-version", "13");

    #[test]
    fn offers_are_read_from_headers() {
        let spdy = |protocols: &[&str]| Ok(protocols.iter().map(|name| (*name).to_owned()).collect());
        for (lines, expected) in [
            (vec![CONNECTION, SPDY, ("x-stream-protocol-version", "v4, v3")], spdy(&["v4", "v3"])),
            (
                vec![
                    CONNECTION,
                    SPDY,
                    ("x-stream-protocol-version", "v4"),
                    ("x-stream-protocol-version", "v3"),
                ],
                spdy(&["v4", "v3"]),
            ),
            (
                vec![("connection", "keep-alive, upgrade"), SPDY, ("x-stream-protocol-version", "v4")],
                spdy(&["v4"]),
            ),
            (vec![SPDY], Err("missing header \"Connection: Upgrade\"")),
            (vec![CONNECTION], Err("upgrade to [] is not known")),
            (vec![CONNECTION, ("upgrade", "h2c")], Err("upgrade to [\"h2c\"] is not known")),
            (vec![CONNECTION, SPDY], Err("X-Stream-Protocol-Version is required")),
            (vec![CONNECTION, WEBSOCKET, KEY], Err("Sec-WebSocket-Version must be 13")),
            (vec![CONNECTION, WEBSOCKET, VERSION], Err("Sec-WebSocket-Key is required")),
        ] {
            let found = Offer::read(&headers(&lines)).map_err(|refusal| refusal.message);
            assert_eq!(found, expected.map(Offer::Spdy).map_err(str::to_owned), "{lines:?}");
        }
    }

    #[test]
    fn the_clients_order_decides() {
        let known = [("new", 2), ("old", 1)];
        let take = |offer: Offer| offer.take(&known, &[("new", 2), ("", 0)]);
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (response, chosen) = take(Offer::Spdy(names(&["odd", "old", "new"]))).unwrap();
        assert_eq!((chosen, &response.headers()[STREAM_PROTOCOL]), (1, &HeaderValue::from_static("old")));
        let refusal = take(Offer::Spdy(names(&["odd"]))).unwrap_err();
        assert_eq!((refusal.status, refusal.response().headers().len()), (StatusCode::FORBIDDEN, 2));
        let key = KEY.1.as_bytes().to_vec();
        let (response, chosen) = take(Offer::WebSocket { key: key.clone(), protocols: Vec::new() }).unwrap();
        assert_eq!(chosen, 0);
        assert_eq!(response.headers()[WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!response.headers().contains_key(WEBSOCKET_PROTOCOL));
        assert!(take(Offer::WebSocket { key, protocols: names(&["old"]) }).is_err());
    }
}
