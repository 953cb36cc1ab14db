//! Clients that mean no good, or have gone to sleep: they are left, memory stays bounded, others are served.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Version};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;

use crate::support::{Cluster, admin, free_port};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// How long these tests wait for what must happen.
const LONG: Duration = Duration::from_secs(60);

/// A server on `address` that soon loses its patience.
async fn hasty(address: SocketAddr) -> Cluster {
    Cluster::start_with(|config| {
        config.listen = vec![address];
        config.limits.patience = Duration::from_millis(300);
        config.limits.request_timeout = Duration::from_secs(1);
    })
    .await
}

/// A connection of an administrator, over which that protocol is spoken.
async fn connect(cluster: &Cluster, stream: TcpStream, protocol: &str) -> TlsStream<TcpStream> {
    let folder = cluster.folder.path();
    let request = plimsoll_pki::Request::client("root", &["system:masters"]);
    let files = cluster.authority.ensure_issued(folder, "root", &request).expect("a certificate");
    let chain = CertificateDer::pem_file_iter(&files.certificate).expect("a file");
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("a chain");
    let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(cluster.authority.pem().as_bytes()) {
        roots.add(certificate.expect("PEM")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .expect("a certificate");
    tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let name = ServerName::try_from("localhost").expect("a name");
    tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await.expect("a handshake")
}

async fn tcp(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("a connection")
}

/// Everything until the server hangs up, which it must.
async fn rest(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    // How it hangs up is its affair.
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("the server hangs up");
    bytes
}

/// Writes byte after byte until the server has had enough.
async fn dribble(stream: TlsStream<TcpStream>) -> String {
    let (mut reading, mut writing) = tokio::io::split(stream);
    let writer = tokio::spawn(async move {
        while writing.write_all(b"x").await.is_ok() && writing.flush().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let answer = rest(&mut reading).await;
    writer.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(path: &str) -> Request<()> {
    let uri = format!("https://localhost{path}");
    Request::builder().version(Version::HTTP_2).uri(uri).body(()).expect("a request")
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_dribble_are_left() {
    let address = free_port();
    let cluster = hasty(address).await;
    let silent = async { rest(&mut tcp(address).await).await };
    let no_preface = async { rest(&mut connect(&cluster, tcp(address).await, "h2").await).await };
    let head = async {
        let mut stream = connect(&cluster, tcp(address).await, "http/1.1").await;
        stream.write_all(b"GET /version HTTP/1.1\r\nhost: x\r\nx-long: ").await.expect("written");
        dribble(stream).await
    };
    let body = async {
        let mut stream = connect(&cluster, tcp(address).await, "http/1.1").await;
        let head = format!("POST {MAPS} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("written");
        dribble(stream).await
    };
    let (silent, no_preface, head, body) = tokio::join!(silent, no_preface, head, body);
    assert!(silent.is_empty() && head.is_empty(), "{silent:?} {head}");
    assert!(!String::from_utf8_lossy(&no_preface).contains("HTTP"), "{no_preface:?}");
    assert!(body.starts_with("HTTP/1.1 504"), "{body}");
    assert!(body.contains("request did not complete within the allotted timeout"), "{body}");
    assert_eq!(cluster.get("/version").await.code, 200);
}

/// Objects that no socket's buffer holds.
async fn fill(cluster: &Cluster) {
    for number in 0..16 {
        let map = json!({"metadata": {"name": format!("m{number}")}, "data": {"k": "x".repeat(900_000)}});
        assert_eq!(cluster.post(MAPS, map).await.code, 201);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_and_watches_that_nobody_takes_end_their_connection() {
    let address = free_port();
    let cluster = hasty(address).await;
    fill(&cluster).await;
    for path in [MAPS.to_owned(), format!("{MAPS}?watch=1")] {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("set");
        let stream = socket.connect(address).await.expect("a connection");
        let mut plain = connect(&cluster, stream, "http/1.1").await;
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        plain.write_all(head.as_bytes()).await.expect("written");
        // Takes the head of the answer, then sleeps longer than the server's patience.
        plain.read_exact(&mut [0; 100]).await.expect("an answer");
        tokio::time::sleep(Duration::from_secs(2)).await;
        let taken = rest(&mut plain).await.len();
        assert!(taken < 14_000_000, "{path}: {taken} bytes came in spite of it");

        let stream = connect(&cluster, tcp(address).await, "h2").await;
        let mut builder = h2::client::Builder::new();
        let (mut client, connection) =
            builder.initial_window_size(1000).handshake::<_, Bytes>(stream).await.expect("a connection");
        let connection = tokio::spawn(connection);
        let answer = client.send_request(get(&path), true).expect("sent").0.await.expect("an answer");
        assert_eq!(answer.status(), 200);
        // Nothing that came is taken: the stream gets no more room.
        let ended = tokio::time::timeout(LONG, connection).await;
        assert!(ended.is_ok(), "{path}: the connection stays");
        assert_eq!(cluster.get("/version").await.code, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_nobody_reads_harms_no_other() {
    let address = free_port();
    let cluster = hasty(address).await;
    let stream = connect(&cluster, tcp(address).await, "h2").await;
    let (client, connection) = h2::client::handshake(stream).await.expect("a connection");
    let connection = tokio::spawn(connection);
    let mut asleep = Vec::new();
    for _ in 0..20 {
        let mut client = client.clone().ready().await.expect("room");
        let path = format!("{MAPS}?watch=1&resourceVersion=1");
        let answer = client.send_request(get(&path), true).expect("sent").0.await.expect("an answer");
        assert_eq!(answer.status(), 200);
        asleep.push(answer);
    }
    let path = format!("{MAPS}?watch=1&timeoutSeconds=30");
    let awake = cluster.open(admin(), Method::GET, &path, &[], None).await.into_body();
    let reader = tokio::spawn(async move {
        use http_body_util::BodyExt;
        let (mut awake, mut text) = (awake, Vec::new());
        while text.windows(7).filter(|part| part == b"\"ADDED\"").count() < 16 {
            let piece = awake.frame().await.expect("more").expect("a piece");
            text.extend(piece.into_data().expect("data"));
        }
    });
    fill(&cluster).await;
    tokio::time::timeout(LONG, reader).await.expect("in time").expect("every event");
    assert!(tokio::time::timeout(LONG, connection).await.is_ok(), "sleepers are left");
    drop(asleep);
}

/// Resident memory of this process, in KiB.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
    line.split_whitespace().nth(1).and_then(|size| size.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_watches_cost_little() {
    const CONNECTIONS: usize = 10;
    const WATCHES: usize = 1000;
    let address = free_port();
    let cluster = Cluster::start_with(|config| config.listen = vec![address]).await;
    let version = cluster.get(MAPS).await.json()["metadata"]["resourceVersion"].as_str().map(str::to_owned);
    let path = format!("{MAPS}?watch=1&resourceVersion={}", version.expect("a version"));
    let before = resident();
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let stream = connect(&cluster, tcp(address).await, "h2").await;
        // Room for an event of each watch, as the clients of operators give it.
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(1 << 24);
        let (client, connection) = builder.handshake::<_, Bytes>(stream).await.expect("a connection");
        tokio::spawn(connection);
        for _ in 0..WATCHES {
            let (client, request) = (client.clone(), get(&path));
            opening.spawn(async move {
                let mut client = client.ready().await.expect("room");
                let answer = client.send_request(request, true).expect("sent").0.await.expect("an answer");
                assert_eq!(answer.status(), 200);
                answer.into_body()
            });
        }
    }
    let watches = opening.join_all().await;
    let each = (resident() - before) / watches.len();
    // Both ends of each are in this process.
    assert!(each < 32, "{each} KiB for each watch");
    let begun = Instant::now();
    assert_eq!(cluster.get(MAPS).await.code, 200);
    assert!(begun.elapsed() < Duration::from_secs(1), "others are answered meanwhile");
    assert_eq!(cluster.post(MAPS, json!({"metadata": {"name": "seen"}})).await.code, 201);
    for mut watch in watches {
        let mut event = Vec::new();
        while event.last() != Some(&b'\n') {
            let piece = tokio::time::timeout(LONG, watch.data()).await.expect("in time");
            let piece = piece.expect("an event").expect("a piece");
            watch.flow_control().release_capacity(piece.len()).expect("room");
            event.extend(piece);
        }
        assert!(event.starts_with(b"{\"type\":\"ADDED\""), "{event:?}");
    }
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Kinds of frames and the error codes they carry.
fn errors(mut bytes: &[u8]) -> Vec<(u8, u32)> {
    let mut found = Vec::new();
    while bytes.len() >= 9 {
        let length = usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]);
        let kind = bytes[3];
        let Some(payload) = bytes.get(9..9 + length) else { break };
        let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("four bytes"));
        match kind {
            RST_STREAM => found.push((kind, code(0))),
            GOAWAY => found.push((kind, code(4))),
            _ => {}
        }
        bytes = &bytes[9 + length..];
    }
    found
}

/// A connection that has agreed on nothing yet; `method` and `path` are coded for its first requests.
async fn raw(cluster: &Cluster, address: SocketAddr) -> TlsStream<TcpStream> {
    let mut stream = connect(cluster, tcp(address).await, "h2").await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("written");
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.expect("written");
    stream
}

/// The head of a request, each field as a literal: `:method`, `:scheme: https`, `:path`, `:authority`.
fn head(method: u8, path: &str) -> Vec<u8> {
    let mut block = vec![method, 0x87, 0x04, u8::try_from(path.len()).expect("a short path")];
    block.extend(path.as_bytes());
    block.extend(b"\x01\x01x");
    block
}

#[tokio::test(flavor = "multi_thread")]
async fn abuse_of_streams_ends_the_connection_that_does_it() {
    let address = free_port();
    let cluster = hasty(address).await;
    // Requests that are taken back at once, each costing the server a beginning.
    let mut stream = raw(&cluster, address).await;
    let mut flood = Vec::new();
    for id in (1..4000).step_by(2) {
        flood.extend(frame(HEADERS, END_STREAM | END_HEADERS, id, &head(0x82, MAPS)));
        flood.extend(frame(RST_STREAM, 0, id, &8u32.to_be_bytes()));
    }
    // The server may hang up before it has read all.
    let _ = stream.write_all(&flood).await;
    let answers = errors(&rest(&mut stream).await);
    let calm = 11;
    assert!(answers.contains(&(GOAWAY, calm)) || answers.is_empty(), "{answers:?}");

    // More requests at once than were agreed on.
    let mut stream = raw(&cluster, address).await;
    let mut flood = Vec::new();
    for id in (1..2200).step_by(2) {
        flood.extend(frame(HEADERS, END_HEADERS, id, &head(0x83, MAPS)));
    }
    stream.write_all(&flood).await.expect("written");
    let answers = errors(&rest(&mut stream).await);
    let refused = answers.iter().filter(|answer| **answer == (RST_STREAM, 7)).count();
    assert!(refused == 100 || answers.contains(&(GOAWAY, calm)), "{refused} {answers:?}");

    // A head without end.
    for (size, is_served) in [(100_000, true), (1_000_000, false)] {
        let stream = connect(&cluster, tcp(address).await, "h2").await;
        let (mut client, connection) = h2::client::handshake(stream).await.expect("a connection");
        tokio::spawn(connection);
        let mut request = get("/version");
        request.headers_mut().insert("x-long", "x".repeat(size).parse().expect("a value"));
        let answer = client.send_request(request, true).expect("sent").0.await;
        assert_eq!(answer.is_ok_and(|answer| answer.status() == 200), is_served, "{size}");
    }
    assert_eq!(cluster.get("/version").await.code, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn huge_maps_are_answered_or_refused() {
    let cluster = Cluster::start().await;
    let labels = |count: usize| -> serde_json::Map<_, _> {
        (0..count).map(|number| (format!("k{number}"), json!("v"))).collect()
    };
    let map = |count: usize| json!({"metadata": {"name": "big", "labels": labels(count)}});
    assert_eq!(cluster.post(MAPS, map(50_000)).await.code, 201);
    assert_eq!(
        cluster.patch(&format!("{MAPS}/big"), "application/merge-patch+json", map(60_000)).await.code,
        200
    );
    let refused = cluster.post(MAPS, map(400_000)).await;
    assert_eq!(
        (refused.code, refused.message().as_str()),
        (413, "Request entity too large: limit is 3145728")
    );
    let owned = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"},
        "data": labels(30_000)});
    let path = format!("{MAPS}/applied?fieldManager=m");
    let applied = cluster.patch(&path, "application/apply-patch+yaml", owned).await;
    assert_eq!(applied.code, 201);
}
