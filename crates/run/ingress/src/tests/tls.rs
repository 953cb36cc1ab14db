//! Encrypted connections: certificates by name, HTTP/2.

use std::net::SocketAddr;
use std::sync::Arc;

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use plimsoll_remote::{Authorities, client_tls};
use plimsoll_route::SecretKey;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::stage::{Stage, ingress, shouting, telling, told};

type Client = http2::SendRequest<super::stage::Sent>;

/// A connection over TLS.
pub(super) async fn encrypted(
    port: SocketAddr,
    name: &str,
    protocols: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut config = client_tls(&Authorities::Anybody, None).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(port).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// An HTTP/2 client, and the certificate that it was shown.
pub(super) async fn connect(port: SocketAddr, name: &str) -> (Client, Vec<u8>) {
    let stream = encrypted(port, name, &[b"h2"]).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    (client, shown)
}

pub(super) fn secret(names: &[&str]) -> (Secret, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let bytes = |text: String| ByteString(text.into_bytes());
    let data = [("tls.crt", bytes(certificate.pem())), ("tls.key", bytes(key.serialize_pem()))];
    let data = data.map(|(name, value)| (name.to_owned(), value));
    (Secret { data: Some(data.into_iter().collect()), ..Secret::default() }, certificate.der().to_vec())
}

#[tokio::test]
async fn certificates_by_name_are_renewed_without_closing_anything() {
    let mut stage = Stage::start(|_| {});
    let mut rules = ingress("a", &[], "a.com", "/", "one");
    rules["spec"]["tls"] = json!([{"hosts": ["a.com"], "secretName": "s"}]);
    stage.rules(&[rules]);
    stage.pods("one", &[telling("one").await]);
    let key = SecretKey { namespace: "ns".to_owned(), name: "s".to_owned() };
    let ask = async |client: &mut Client| {
        let request = Request::get("https://a.com/").header("cookie", "a=1").header("cookie", "b=2");
        told(client.send_request(request.body(Empty::new().boxed()).unwrap()).await.unwrap()).await
    };
    let (_, stopgap) = connect(stage.https, "a.com").await;
    let (first, first_shown) = secret(&["a.com"]);
    stage.shared.certificates.set(&key, &first).unwrap();
    let (mut old, shown) = connect(stage.https, "a.com").await;
    assert!(shown == first_shown && shown != stopgap);
    let (status, text) = ask(&mut old).await;
    assert_eq!(status, 200);
    assert!(text.contains("host=a.com") && text.contains("x-forwarded-proto=https"), "{text}");
    assert!(text.ends_with("cookie=a=1; b=2"), "{text}");

    let (second, second_shown) = secret(&["a.com"]);
    stage.shared.certificates.set(&key, &second).unwrap();
    let mut broken = first.clone();
    broken
        .data
        .as_mut()
        .unwrap()
        .insert("tls.key".to_owned(), second.data.clone().unwrap()["tls.key"].clone());
    assert!(stage.shared.certificates.set(&key, &broken).is_err(), "the key is another one's");
    assert_eq!(connect(stage.https, "a.com").await.1, second_shown, "the broken one changed nothing");
    assert_eq!(connect(stage.https, "b.com").await.1, stopgap);
    assert_eq!(ask(&mut old).await.0, 200, "the old connection still serves");
}

#[tokio::test]
async fn websockets_pass_by_http2() {
    let mut stage = Stage::start(|_| {});
    let mut rules = ingress("a", &[], "a.com", "/socket", "socket");
    rules["spec"]["tls"] = json!([{"hosts": ["a.com"]}]);
    stage.rules(&[rules, ingress("b", &[], "a.com", "/page", "page")]);
    stage.pods("socket", &[shouting().await]);
    stage.pods("page", &[telling("page").await]);
    let (mut client, _) = connect(stage.https, "a.com").await;
    let mut ask = async |target: &str| {
        let request = Request::connect(target).extension(Protocol::from_static("websocket"));
        client.send_request(request.body(Empty::new().boxed()).unwrap()).await.unwrap()
    };
    assert_eq!(ask("https://a.com/page").await.status(), 502, "it does not change to that protocol");
    let mut response = ask("https://a.com/socket").await;
    assert_eq!(response.status(), 200);
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut word = [0; 5];
    stream.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"HELLO");
}
