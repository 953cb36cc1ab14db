//! What clients may write, byte by byte.

use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::stage::{Stage, ask, get, ingress, pod, telling, whole};

const PATIENCE: Duration = Duration::from_secs(20);

/// The statuses of so many answers to what is written by one connection, which stays open.
async fn statuses(stage: &Stage, written: &str, answers: usize) -> Vec<u16> {
    let mut stream = TcpStream::connect(stage.http).await.unwrap();
    stream.write_all(written.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let found = |read: &[u8]| -> Vec<u16> {
        let text = String::from_utf8_lossy(read);
        text.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)?.parse().ok()).collect()
    };
    while found(&read).len() < answers {
        let more = tokio::time::timeout(PATIENCE, stream.read_buf(&mut read)).await;
        assert!(more.expect("an answer in time").unwrap() > 0, "closed after {:?}", found(&read));
    }
    found(&read)
}

#[tokio::test]
async fn answers_do_not_wait_for_what_comes_behind_a_request() {
    let mut stage = Stage::start(|_| {});
    stage.rules(&[ingress("a", &[], "a.com", "/", "one")]);
    stage.pods("one", &[telling("one").await]);
    let get = "GET / HTTP/1.1\r\nHost: a.com\r\n\r\n";
    let table = [
        ("POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: 2\r\n\r\nok\r\n".to_owned(), vec![200]),
        (format!("{get}GET / HT"), vec![200]),
        (format!("{get}{get}"), vec![200, 200]),
    ];
    for (written, expected) in table {
        assert_eq!(statuses(&stage, &written, expected.len()).await, expected, "{written:?}");
    }
}

#[tokio::test]
async fn requests_that_no_pod_should_see_are_told_so() {
    let mut stage = Stage::start(|_| {});
    stage.rules(&[ingress("a", &[], "", "/", "one")]);
    stage.pods("one", &[telling("one").await]);
    let many: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    let table = [
        ("POST / HTTP/1.1", "Host: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n", 400),
        ("POST / HTTP/1.1", "Host: a\r\nTransfer-Encoding: chunked, gzip\r\n", 400),
        ("POST / HTTP/1.1", "Host: a\r\nTransfer-Encoding : chunked\r\n", 400),
        ("GET / HTTP/1.1", many.as_str(), 431),
        ("GET / HTTP/1.1", "", 400),
        ("GET / HTTP/1.1", "Host: a\r\nHost: b\r\n", 400),
        ("GET / HTTP/1.1", "Host: a b\r\n", 400),
        ("GET / HTTP/1.1", "Host: a/b\r\n", 400),
        ("GET / HTTP/1.1", "Host: \u{e9}\r\n", 400),
        ("GET / HTTP/1.1", "Host: a:80\r\n", 200),
        ("GET / HTTP/1.1", "Host: [::1]:80\r\n", 200),
        ("GET / HTTP/1.1", "Host:\r\n", 200),
        ("TRACE / HTTP/1.1", "Host: a\r\n", 405),
        ("CONNECT a:80 HTTP/1.1", "Host: a:80\r\n", 405),
    ];
    for (line, headers, status) in table {
        let written = format!("{line}\r\n{headers}\r\n");
        assert_eq!(statuses(&stage, &written, 1).await, [status], "{written:?}");
    }
}

#[tokio::test]
async fn headers_in_disguise_do_not_pass() {
    let mut stage = Stage::start(|_| {});
    stage.rules(&[ingress("a", &[], "a.com", "/", "one")]);
    let names = pod(|request: Request<Incoming>| async move {
        let odd = request.headers().keys().filter(|name| name.as_str().contains('_'));
        Response::new(whole(odd.map(|name| name.as_str()).collect::<Vec<_>>().join(" ")))
    });
    stage.pods("one", &[names.await]);
    let lies = [
        ("x_real_ip", "6.6.6.6"),
        ("x-forwarded_for", "6.6.6.6"),
        ("x_forwarded_proto", "https"),
        ("x_theirs", "1"),
    ];
    let mut client = stage.client().await;
    assert_eq!(ask(&mut client, get("a.com", "/", &lies)).await, (200, "x_theirs".to_owned()));
}
