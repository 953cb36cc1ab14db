//! Watches as messages over WebSocket, for clients that cannot read a body while it grows.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::StreamExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::{Cluster, free_port};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Asks for messages as an administrator, over TLS.
async fn connect(
    cluster: &Cluster,
    address: SocketAddr,
    path: &str,
    protocol: Option<&'static str>,
) -> Result<WebSocketStream<TlsStream<TcpStream>>, Error> {
    let request = plimsoll_pki::Request::client("admin", &["system:masters"]);
    let own = cluster.authority.ensure_issued(cluster.folder.path(), "admin", &request).expect("issued");
    let mut roots = rustls::RootCertStore::empty();
    let trusted = CertificateDer::from_pem_slice(cluster.authority.pem().as_bytes()).expect("a certificate");
    roots.add(trusted).expect("trusted");
    let chain = CertificateDer::pem_file_iter(&own.certificate).expect("a file");
    let key = PrivateKeyDer::from_pem_file(&own.key).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.map(|one| one.expect("a certificate")).collect(), key)
        .expect("a client");
    let stream = TcpStream::connect(address).await.expect("connected");
    let name = ServerName::from(address.ip());
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await.expect("TLS");
    let mut request = format!("ws://{address}{path}").into_client_request().expect("a request");
    if let Some(protocol) = protocol {
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse().expect("a header"));
    }
    tokio_tungstenite::client_async(request, stream).await.map(|(socket, _)| socket)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_sends_each_event_as_text() {
    let port = free_port();
    let cluster = Cluster::start_with(|config| config.listen = vec![port]).await;
    cluster.post(MAPS, json!({"metadata": {"name": "first"}})).await;
    let watch = format!("{MAPS}?watch=1&fieldSelector=metadata.name!%3Dkube-root-ca.crt&timeoutSeconds=");
    let mut socket = connect(&cluster, port, &format!("{watch}60"), None).await.expect("a connection");
    let mut event = async || -> Value {
        let message = socket.next().await.expect("a message").expect("whole");
        assert!(message.is_text(), "{message:?}");
        serde_json::from_str(message.to_text().expect("text")).expect("JSON")
    };
    assert_eq!(event().await["object"]["metadata"]["name"], "first");
    cluster.post(MAPS, json!({"metadata": {"name": "second"}})).await;
    let second = event().await;
    assert_eq!((&second["type"], &second["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("second")));

    let ends =
        connect(&cluster, port, &format!("{watch}1"), Some("binary.k8s.io")).await.expect("a connection");
    let said: Vec<Message> = ends.map(|message| message.expect("whole")).collect().await;
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[2].is_close(), "the end of a watch closes its connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_message_is_refused_as_for_others() {
    let port = free_port();
    let cluster = Cluster::start_with(|config| config.listen = vec![port]).await;
    for (path, protocol, code) in [
        (format!("{MAPS}?watch=1"), Some("v4.channel.k8s.io"), 400),
        (format!("{MAPS}?watch=1&labelSelector=!!"), None, 400),
        ("/api/v1/namespaces/default/pods/none/log".to_owned(), None, 404),
    ] {
        match connect(&cluster, port, &path, protocol).await {
            Err(Error::Http(response)) => assert_eq!(response.status().as_u16(), code, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
    }
}
