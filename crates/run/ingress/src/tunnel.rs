//! Connections that speak another protocol after a request: those of WebSocket, say, by HTTP/1.1 (RFC 9110) or by
//! HTTP/2 (RFC 8441). Pods are asked by HTTP/1.1 either way.

use http::header::SEC_WEBSOCKET_KEY;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::body::{Answer, Arriving};
use crate::limiter::Counted;
use crate::{headers, page};

/// A client that wants to change the protocol.
pub(crate) struct Tunnel {
    /// To which.
    protocol: HeaderValue,
    client: OnUpgrade,
    version: Version,
}

/// A request of HTTP/2 for another protocol is, for the rules, the same as one of HTTP/1.1.
pub(crate) fn normalize(request: &mut Request<Incoming>) {
    if request.version() == Version::HTTP_2 && request.extensions().get::<Protocol>().is_some() {
        *request.method_mut() = Method::GET;
    }
}

impl Tunnel {
    /// Whether a request wants that.
    pub(crate) fn of(request: &mut Request<Incoming>) -> Option<Self> {
        let version = request.version();
        let protocol = match version {
            Version::HTTP_11 => headers::upgrade(request.headers())?,
            Version::HTTP_2 => {
                HeaderValue::from_str(request.extensions().get::<Protocol>()?.as_str()).ok()?
            }
            _ => return None,
        };
        Some(Self { protocol, client: hyper::upgrade::on(request), version })
    }

    /// Asks a pod for it.
    pub(crate) fn ask(&self, headers: &mut HeaderMap) {
        headers::ask_for(headers, self.protocol.clone());
        if self.version == Version::HTTP_2 && self.protocol == "websocket" {
            // HTTP/2 has no need of a key; HTTP/1.1 has.
            headers.insert(SEC_WEBSOCKET_KEY, key(rand::random()));
        }
    }

    /// The answer of a pod that does not change the protocol, as far as it does not look as if it did.
    pub(crate) fn refused(&self, status: StatusCode) -> Option<Response<Answer>> {
        (self.version == Version::HTTP_2 && status.is_success()).then(|| page::of(StatusCode::BAD_GATEWAY))
    }

    /// Both sides speak another protocol from here on.
    pub(crate) fn open(self, mut response: Response<Arriving>, counted: Option<Counted>) -> Response<Answer> {
        let (pod, client) = (hyper::upgrade::on(&mut response), self.client);
        let protocol = headers::upgrade(response.headers());
        headers::strip(response.headers_mut());
        if self.version == Version::HTTP_2 {
            *response.status_mut() = StatusCode::OK;
            response.headers_mut().remove(http::header::SEC_WEBSOCKET_ACCEPT);
        } else if let Some(protocol) = protocol {
            headers::ask_for(response.headers_mut(), protocol);
        }
        tokio::spawn(async move {
            let _counted = counted;
            let (Ok(client), Ok(pod)) = tokio::join!(client, pod) else { return };
            let (mut client, mut pod) = (TokioIo::new(client), TokioIo::new(pod));
            if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut pod).await {
                tracing::debug!(%error, "upgraded connection ended");
            }
        });
        response.map(|_| Answer::whole(bytes::Bytes::new()))
    }
}

/// 16 bytes in base 64: 22 digits, the last of which has two bits only.
fn key(number: u128) -> HeaderValue {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |place: usize| match place {
        0..=20 => DIGITS[(number >> (122 - 6 * place)) as usize & 63],
        21 => DIGITS[(number as usize & 3) << 4],
        _ => b'=',
    };
    HeaderValue::from_bytes(&std::array::from_fn::<u8, 24, _>(digit)).expect("digits fit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_16_bytes_in_base_64() {
        for (number, text) in [(0, "AAAAAAAAAAAAAAAAAAAAAA=="), (u128::MAX, "/////////////////////w==")] {
            assert_eq!(key(number), text);
        }
        assert_eq!(key(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f), "AAECAwQFBgcICQoLDA0ODw==");
    }
}
