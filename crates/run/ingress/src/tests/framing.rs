//! Answers of pods as they come over the wire, and connections to pods that serve again or do not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Method, Request};
use http_body_util::{BodyExt, Empty, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::stage::{Stage, ask, get, ingress};

/// An answer of a pod: the path that is asked for, what is sent, and whether the pod hangs up then.
type Line = (&'static str, &'static str, bool);

static LINES: [Line; 13] = [
    ("/length", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", false),
    (
        "/chunks",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1;x\r\nk\r\n0\r\nx-sum: 9\r\n\r\n",
        false,
    ),
    ("/open", "HTTP/1.1 200 OK\r\n\r\nok", true),
    ("/last", "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", true),
    ("/old", "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", true),
    ("/none", "HTTP/1.1 204 No Content\r\n\r\n", false),
    ("/same", "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", false),
    (
        "/hints",
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        false,
    ),
    (
        "/more",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad",
        false,
    ),
    ("/both", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", false),
    ("/other", "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", false),
    ("/words", "ok\r\n\r\n", false),
    ("/short", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok", true),
];

/// The address of a pod that answers so, and how many connections it has had.
async fn pod() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(answer(stream));
        }
    });
    (address, count)
}

async fn answer(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    while stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
        if !bytes.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let path = text.split(' ').nth(1).unwrap();
        let &(_, sent, ends) = LINES.iter().find(|line| line.0 == path).unwrap();
        let head = if text.starts_with("HEAD") { sent.find("\r\n\r\n").unwrap() + 4 } else { sent.len() };
        stream.write_all(&sent.as_bytes()[..head]).await.unwrap();
        if ends {
            return;
        }
        bytes.clear();
    }
}

#[tokio::test]
async fn answers_end_where_they_should() {
    let mut stage = Stage::start(|config| config.workers = 1);
    stage.rules(&[ingress("a", &[], "a.com", "/", "one")]);
    let (address, count) = pod().await;
    stage.pods("one", &[address]);
    let mut client = stage.client().await;
    // Method and path; status, text, and whether the connection to the pod serves again.
    let table = [
        ("GET", "/length", 200, "ok", true),
        ("GET", "/chunks", 200, "ok", true),
        ("HEAD", "/length", 200, "", true),
        ("HEAD", "/chunks", 200, "", true),
        ("POST", "/length", 200, "ok", true),
        ("GET", "/none", 204, "", true),
        ("GET", "/same", 304, "", true),
        ("GET", "/hints", 200, "ok", true),
        ("GET", "/open", 200, "ok", false),
        ("GET", "/last", 200, "ok", false),
        ("GET", "/old", 200, "ok", false),
        ("HEAD", "/open", 200, "", false),
        ("GET", "/more", 200, "ok", false),
        ("GET", "/both", 502, "", false),
        ("GET", "/other", 502, "", false),
        ("GET", "/words", 502, "", false),
        ("GET", "/length", 200, "ok", true),
    ];
    let mut connections = 1;
    for (method, path, status, text, stays) in table {
        let request = Request::builder().method(method).uri(path).header("host", "a.com");
        let (found, told) = ask(&mut client, request.body(Empty::new().boxed()).unwrap()).await;
        assert!(found == status && (status == 502 || told == text), "{method} {path}: {found} {told}");
        assert_eq!(count.load(Ordering::Relaxed), connections, "{method} {path}");
        connections += usize::from(!stays);
    }
    // What is cut off is so for the client, too.
    client.ready().await.unwrap();
    let response = client.send_request(get("a.com", "/short", &[])).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.into_body().collect().await.is_err());
}

#[tokio::test]
async fn requests_with_bodies_use_the_same_connections() {
    let mut stage = Stage::start(|config| config.workers = 1);
    stage.rules(&[ingress("a", &[], "a.com", "/", "one")]);
    let count = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    stage.pods("one", &[listener.local_addr().unwrap()]);
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                while stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
                    // Requests end with their empty body or with a word.
                    if bytes.ends_with(b"\r\n\r\n") && bytes.starts_with(b"GET") || bytes.ends_with(b"word") {
                        bytes.clear();
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                    }
                }
            });
        }
    });
    let mut client = stage.client().await;
    for method in [Method::GET, Method::POST, Method::GET, Method::PUT, Method::GET] {
        let body = if method == Method::GET { "" } else { "word" };
        let request = Request::builder().method(method).uri("/").header("host", "a.com");
        let request = request.body(Full::from(body).boxed()).unwrap();
        assert_eq!(ask(&mut client, request).await, (200, "ok".to_owned()));
    }
    assert_eq!(count.load(Ordering::Relaxed), 1);
}
