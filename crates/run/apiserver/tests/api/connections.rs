//! Connections over the network: streams that are handed on, and connections that end early.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::audit::{events, recording_with};
use crate::support::{Cluster, free_port};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A certificate of the cluster's authority and its key.
fn identity(
    cluster: &Cluster,
    name: &str,
    request: &plimsoll_pki::Request,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let issued =
        cluster.authority.ensure_issued(cluster.folder.path(), name, request).expect("a certificate");
    let chain = CertificateDer::pem_file_iter(issued.certificate).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(issued.key).expect("a key");
    (chain.collect::<Result<_, _>>().expect("certificates"), key)
}

/// An administrator's connection to the server on `address`, which speaks `protocol`.
async fn connect(cluster: &Cluster, address: SocketAddr, protocol: &[u8]) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(cluster.authority.pem().as_bytes()) {
        roots.add(certificate.expect("a certificate")).expect("an authority");
    }
    let (chain, key) = identity(cluster, "root", &plimsoll_pki::Request::client("root", &["system:masters"]));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .expect("a client");
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await.expect("a connection");
    let name = ServerName::from(address.ip());
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake")
}

/// Reads the head of a message of HTTP/1.1.
async fn head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a byte"));
    }
    String::from_utf8(head).expect("text")
}

/// A node agent that agrees to one stream and sends back what comes until the other side ends it.
async fn agent(cluster: &Cluster) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let request = plimsoll_pki::Request {
        purpose: plimsoll_pki::Purpose::Server,
        addresses: vec![std::net::Ipv4Addr::LOCALHOST.into()],
        ..plimsoll_pki::Request::client("agent-of-n", &[])
    };
    let (chain, key) = identity(cluster, "agent-of-n", &request);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a server");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.expect("a handshake");
        let asked = head(&mut stream).await;
        let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.expect("written");
        let mut part = [0; 64];
        while let Ok(length @ 1..) = stream.read(&mut part).await {
            stream.write_all(&part[..length]).await.expect("written");
        }
        asked
    });
    (address, serving)
}

/// A pod on a node whose agent is at `agent`.
async fn pod(cluster: &Cluster, agent: SocketAddr) {
    let node = json!({"metadata": {"name": "n"}});
    assert_eq!(cluster.post("/api/v1/nodes", node.clone()).await.code, 201);
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": agent.ip()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": agent.port()}}}});
    let merge = "application/merge-patch+json";
    assert_eq!(cluster.patch("/api/v1/nodes/n/status", merge, status).await.code, 200);
    let account = json!({"metadata": {"name": "default"}});
    cluster.post("/api/v1/namespaces/default/serviceaccounts", account).await;
    let spec = json!({"nodeName": "n", "containers": [{"name": "c", "image": "i"}]});
    let pod = json!({"metadata": {"name": "p"}, "spec": spec});
    assert_eq!(cluster.post("/api/v1/namespaces/default/pods", pod).await.code, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_into_a_container_is_recorded_when_it_begins_and_when_it_ends() {
    for what in ["exec", "attach"] {
        let address = free_port();
        let rules = "- {level: Metadata, resources: [{resources: [pods/exec, pods/attach]}]}\n";
        let (cluster, scratch) = recording_with(rules, |config| config.listen = vec![address]).await;
        let (at, agent) = agent(&cluster).await;
        pod(&cluster, at).await;
        let mut stream = connect(&cluster, address, b"http/1.1").await;
        let path = format!("/api/v1/namespaces/default/pods/p/{what}?stdout=1&stdin=1&command=sh");
        let asked = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             sec-websocket-protocol: v5.channel.k8s.io\r\n\r\n"
        );
        stream.write_all(asked.as_bytes()).await.expect("written");
        let answered = head(&mut stream).await;
        assert!(answered.starts_with("HTTP/1.1 101 "), "{answered}");
        stream.write_all(b"hello").await.expect("written");
        let mut echo = [0; 5];
        stream.read_exact(&mut echo).await.expect("an echo");
        assert_eq!(&echo, b"hello");
        let stages =
            || -> Vec<Value> { events(&scratch).iter().map(|event| event["stage"].clone()).collect() };
        assert_eq!(stages(), ["RequestReceived", "ResponseStarted"], "{what}");
        drop(stream);
        cluster.until(async || stages().len() > 2).await;
        let asked = tokio::time::timeout(PATIENCE, agent).await.expect("in time").expect("no panic");
        assert!(asked.contains(&format!("/{what}/default/p/c?")), "{asked}");
        let last = events(&scratch).pop().expect("an event");
        assert_eq!((&last["stage"], &last["verb"]), (&json!("ResponseComplete"), &json!("get")), "{last}");
        assert_eq!(last["responseStatus"]["code"], 101, "{last}");
        assert_eq!(last["objectRef"]["subresource"], what, "{last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn some_requests_end_their_connection_so_that_clients_spread() {
    for (chance, ends) in [(1.0, true), (0.0, false)] {
        let address = free_port();
        let cluster = Cluster::start_with(|config| {
            config.listen = vec![address];
            config.limits.goaway_chance = chance;
        })
        .await;
        let stream = connect(&cluster, address, b"h2").await;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("a connection of HTTP/2");
        let connection = tokio::spawn(connection);
        let uri = format!("https://{address}/livez");
        let mut ask = async || {
            let request = Request::get(uri.as_str()).body(Empty::<Bytes>::new()).expect("a request");
            let answer = sender.send_request(request).await?;
            assert_eq!(answer.status(), StatusCode::OK);
            Ok::<_, hyper::Error>(answer.into_body().collect().await?.to_bytes())
        };
        // The request that ends it is answered.
        assert_eq!(ask().await.expect("an answer"), "ok");
        if ends {
            let ended = tokio::time::timeout(PATIENCE, connection).await.expect("the connection ends");
            ended.expect("no panic").expect("as it should");
        } else {
            assert_eq!(ask().await.expect("another answer"), "ok");
        }
        // Who speaks HTTP/1.1 is left alone.
        let mut stream = connect(&cluster, address, b"http/1.1").await;
        for _ in 0..2 {
            let asked = format!("GET /livez HTTP/1.1\r\nhost: {address}\r\n\r\n");
            stream.write_all(asked.as_bytes()).await.expect("written");
            let answered = head(&mut stream).await;
            assert!(answered.starts_with("HTTP/1.1 200 "), "{answered}");
            let mut body = [0; 2];
            stream.read_exact(&mut body).await.expect("a body");
        }
    }
}

/// A pod `own` in the network of its node; the path of pods.
async fn own_pod(cluster: &Cluster) -> &'static str {
    let pods = "/api/v1/namespaces/default/pods";
    let own = json!({"metadata": {"name": "own"}, "spec": {
        "nodeName": "n", "hostNetwork": true, "containers": [{"name": "c", "image": "i"}]}});
    assert_eq!(cluster.post(pods, own).await.code, 201);
    let status = json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
    let merge = "application/merge-patch+json";
    assert_eq!(cluster.patch(&format!("{pods}/own/status"), merge, status).await.code, 200);
    pods
}

/// Answers one request with its first line, or with a page.
async fn say_what_was_asked(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin) {
    let asked = head(&mut stream).await;
    let line = asked.lines().next().unwrap_or_default();
    if line.contains("/page") {
        let page = "HTTP/1.1 302 Found\r\nlocation: /next?a\r\nconnection: close\r\ncontent-type: text/html; charset=utf-8\r\ncontent-length: 13\r\n\r\n<a href='/a'>";
        let page = if line.contains("/page/away") {
            page.to_owned()
        } else {
            page.replace("302 Found\r\nlocation: /next?a", "200 OK")
        };
        stream.write_all(page.as_bytes()).await.expect("written");
        return;
    }
    let answer =
        format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{line}", line.len());
    stream.write_all(answer.as_bytes()).await.expect("written");
    stream.flush().await.expect("sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_takes_any_certificate_of_a_pod_and_shows_none() {
    let cluster = Cluster::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let authority = plimsoll_pki::Authority::ensure(folder.path(), "ca", "of a pod").expect("an authority");
    let request = plimsoll_pki::Request {
        purpose: plimsoll_pki::Purpose::Server,
        dns_names: vec!["elsewhere.example".to_owned()],
        ..plimsoll_pki::Request::client("pod", &[])
    };
    let files = authority.ensure_issued(folder.path(), "pod", &request).expect("a certificate");
    // It asks for certificates and would take those of the cluster.
    let tls = plimsoll_apiserver::server_tls(&files.certificate, &files.key, cluster.authority.certificate());
    let acceptor = TlsAcceptor::from(tls.expect("TLS"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    pod(&cluster, address).await;
    let pods = own_pod(&cluster).await;
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let stream = acceptor.accept(stream).await.expect("a handshake");
        let shown = stream.get_ref().1.peer_certificates().map_or(0, <[_]>::len);
        say_what_was_asked(stream).await;
        shown
    });
    let answer = cluster.get(&format!("{pods}/https:own:{}/proxy/", address.port())).await;
    assert_eq!((answer.code, &answer.body[..]), (200, &b"GET / HTTP/1.1"[..]), "{answer:?}");
    assert_eq!(serving.await.expect("no panic"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_hands_on_any_method_to_what_is_no_part_of_the_node() {
    let cluster = Cluster::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    pod(&cluster, address).await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            say_what_was_asked(stream).await;
        }
    });
    let pods = "/api/v1/namespaces/default/pods";
    let at = |ip: &str| json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
    let merge = "application/merge-patch+json";
    let path = format!("{pods}/p:{}/proxy/x?y=1", address.port());
    for ip in ["127.0.0.1", "169.254.169.254", "fe80::1", "0.0.0.0"] {
        assert_eq!(cluster.patch(&format!("{pods}/p/status"), merge, at(ip)).await.code, 200, "{ip}");
        let refused = cluster.get(&path).await;
        assert_eq!((refused.code, refused.message().as_str()), (400, "address not allowed"), "{ip}");
    }

    own_pod(&cluster).await;
    let path = format!("{pods}/own:{}/proxy/x?y=1", address.port());
    for method in ["GET", "DELETE", "OPTIONS", "PATCH", "POST", "PUT"] {
        let method = http::Method::from_bytes(method.as_bytes()).expect("a method");
        let answer = cluster.ask(method.clone(), &path, None).await;
        let line = format!("{method} /x?y=1 HTTP/1.1");
        assert_eq!((answer.code, &answer.body[..]), (200, line.as_bytes()), "{method}");
    }
    let through = format!("{pods}/own:{}/proxy", address.port());
    let page = cluster.get(&format!("{through}/page")).await;
    assert_eq!(page.body, format!("<a href=\"{through}/a\">"), "{page:?}");
    let away = cluster.get(&format!("{through}/page/away")).await;
    assert_eq!(
        (away.code, away.headers["location"].to_str().expect("text")),
        (302, format!("{through}/next?a").as_str()),
        "{away:?}"
    );
    // What is asked without a slash at the end is a folder, for those who read.
    let bare = format!("{pods}/own:{}/proxy", address.port());
    let moved = cluster.get(&format!("{bare}?a=b")).await;
    assert_eq!(
        (moved.code, moved.headers["location"].to_str().expect("text")),
        (301, format!("{bare}/?a=b").as_str()),
        "{moved:?}"
    );
    let answer = cluster.post(&format!("{bare}?a=b"), json!({})).await;
    assert_eq!((answer.code, &answer.body[..]), (200, &b"POST /?a=b HTTP/1.1"[..]), "{answer:?}");
    let refused = cluster.ask(http::Method::OPTIONS, pods, None).await;
    assert_eq!(refused.code, 405, "{refused:?}");
}
