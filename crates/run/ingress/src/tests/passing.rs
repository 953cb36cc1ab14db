//! What goes through.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::stage::{Stage, ask, get, ingress, pod, shouting, telling, told};

#[tokio::test]
async fn requests_reach_their_pods_and_say_whose_they_are() {
    let mut stage = Stage::start(|_| {});
    stage.rules(&[
        ingress("a", &[], "a.com", "/", "one"),
        ingress("b", &[("rewrite-target", "/$2")], "b.com", "/app(/|$)(.*)", "two"),
        ingress("c", &[], "c.com", "/", "nobody"),
        ingress("d", &[("whitelist-source-range", "10.0.0.0/8")], "d.com", "/", "one"),
        ingress("e", &[("force-ssl-redirect", "true")], "e.com", "/", "one"),
    ]);
    stage.pods("one", &[telling("one").await]);
    stage.pods("two", &[telling("two").await]);
    let mut client = stage.client().await;
    let usual = "x-forwarded-for=127.0.0.1 x-forwarded-proto=http x-real-ip=127.0.0.1 connection=-";
    let table = [
        ("a.com", "/x?y=1", 200, format!("one GET /x?y=1 host=a.com {usual} cookie=-")),
        ("A.com:80", "/", 200, format!("one GET / host=A.com:80 {usual} cookie=-")),
        ("b.com", "/app/z%20z?q", 200, format!("two GET /z%20z?q host=b.com {usual} cookie=-")),
        ("b.com", "/other", 404, "default backend - 404".to_owned()),
        ("x.com", "/", 404, "default backend - 404".to_owned()),
        ("c.com", "/", 503, String::new()),
        ("d.com", "/", 403, String::new()),
        ("e.com", "/p?q", 308, String::new()),
        ("a.com", "/../x", 400, String::new()),
    ];
    let lies = [("x-forwarded-for", "6.6.6.6"), ("connection", "x-secret"), ("x-secret", "1")];
    for (host, target, status, text) in table {
        let (found, told) = ask(&mut client, get(host, target, &lies)).await;
        assert_eq!(found, status, "{host}{target}: {told}");
        assert!(text.is_empty() || told == text, "{host}{target}: {told}");
    }
    client.ready().await.unwrap();
    let response = client.send_request(get("e.com", "/p?q", &[])).await.unwrap();
    let expected = format!("https://e.com:{}/p?q", stage.https.port());
    assert_eq!(response.headers()["location"], expected.as_str());
}

#[tokio::test]
async fn pods_that_cannot_be_reached_are_passed_over() {
    let mut stage = Stage::start(|_| {});
    stage.rules(&[ingress("a", &[], "a.com", "/", "one")]);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    stage.pods("one", &[closed, telling("one").await]);
    let mut client = stage.client().await;
    for _ in 0..20 {
        assert_eq!(ask(&mut client, get("a.com", "/", &[])).await.0, 200);
    }
    stage.pods("one", &[closed]);
    assert_eq!(ask(&mut client, get("a.com", "/", &[])).await.0, 502);
}

#[tokio::test]
async fn connections_that_pods_close_cost_no_request() {
    let mut stage = Stage::start(|config| config.workers = 1);
    stage.rules(&[ingress("a", &[], "a.com", "/", "rude")]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    stage.pods("rude", &[listener.local_addr().unwrap()]);
    tokio::spawn(async move {
        // Answers once without saying that it hangs up, and does so.
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 2048];
                if stream.read(&mut bytes).await.unwrap() > 0 {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                }
            });
        }
    });
    let mut client = stage.client().await;
    for _ in 0..200 {
        assert_eq!(ask(&mut client, get("a.com", "/", &[])).await, (200, "ok".to_owned()));
    }
}

#[tokio::test]
async fn bodies_stream_both_ways_and_have_limits() {
    let mut stage = Stage::start(|_| {});
    stage.rules(&[ingress("a", &[("proxy-body-size", "1k")], "a.com", "/", "echo")]);
    let echo =
        pod(|request: Request<Incoming>| async move { Response::new(request.into_body().boxed()) }).await;
    stage.pods("echo", &[echo]);
    let mut client = stage.client().await;
    let (sender, mut receiver) = mpsc::channel::<Bytes>(1);
    let pieces = futures_of(move |context| {
        receiver.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    });
    let request = Request::post("/").header("host", "a.com").body(StreamBody::new(pieces).boxed()).unwrap();
    sender.send(Bytes::from_static(b"one")).await.unwrap();
    let mut answer = client.send_request(request).await.unwrap().into_body();
    for piece in ["one", "two", "three"] {
        if piece != "one" {
            sender.send(Bytes::from_static(piece.as_bytes())).await.unwrap();
        }
        let frame = answer.frame().await.unwrap().unwrap();
        assert_eq!(frame.data_ref().unwrap(), piece.as_bytes());
    }
    sender.send(vec![0; 2000].into()).await.unwrap();
    assert!(answer.frame().await.unwrap().is_err(), "more than the rules allow");

    let mut client = stage.client().await;
    for (length, status) in [(1024, 200), (1025, 413)] {
        let body = Full::new(Bytes::from(vec![b'x'; length])).boxed();
        let request = Request::post("/").header("host", "a.com").body(body).unwrap();
        let (found, text) = ask(&mut client, request).await;
        assert_eq!(found, status);
        assert!(status != 200 || text.len() == length);
        client = stage.client().await;
    }
}

/// A stream of a function that polls.
fn futures_of<T>(
    poll: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Send + Sync + Unpin + 'static,
) -> impl futures::Stream<Item = T> + Send + Sync + 'static {
    let mut poll = poll;
    futures::stream::poll_fn(move |context| poll(context))
}

#[tokio::test]
async fn other_protocols_pass_after_an_upgrade() {
    let mut stage = Stage::start(|_| {});
    stage.rules(&[ingress("a", &[("limit-connections", "1")], "a.com", "/", "socket")]);
    stage.pods("socket", &[shouting().await]);
    let mut client = stage.client().await;
    let ask_for = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
    let mut response = client.send_request(get("a.com", "/", &ask_for)).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["upgrade"]),
        (101, &"websocket".parse().unwrap())
    );
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let refused = stage.client().await.send_request(get("a.com", "/", &ask_for)).await.unwrap();
    assert_eq!(told(refused).await.0, 503, "it counts as long as it lasts");
    stream.write_all(b"hello").await.unwrap();
    let mut word = [0; 5];
    stream.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"HELLO");
}

#[tokio::test]
async fn clients_stay_with_their_pod_by_cookie_and_canaries_get_their_part() {
    let mut stage = Stage::start(|_| {});
    let canary = [("canary", "true"), ("canary-by-header", "x-new")];
    stage.rules(&[
        ingress("a", &[("affinity", "cookie"), ("session-cookie-name", "stay")], "a.com", "/", "many"),
        ingress("b", &[], "b.com", "/", "old"),
        ingress("c", &canary, "b.com", "/", "new"),
    ]);
    stage.pods("many", &[telling("1").await, telling("2").await, telling("3").await]);
    stage.pods("old", &[telling("old").await]);
    stage.pods("new", &[telling("new").await]);
    let mut client = stage.client().await;
    let first = client.send_request(get("a.com", "/", &[])).await.unwrap();
    let cookie = first.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("stay=") && cookie.ends_with("; Path=/; HttpOnly"), "{cookie}");
    let name = told(first).await.1[..1].to_owned();
    let pair = cookie.split(';').next().unwrap();
    for _ in 0..9 {
        client.ready().await.unwrap();
        let next = client.send_request(get("a.com", "/", &[("cookie", pair)])).await.unwrap();
        assert!(!next.headers().contains_key("set-cookie"));
        assert!(told(next).await.1.starts_with(&name));
    }
    for (says, pod) in [("always", "new "), ("never", "old "), ("?", "old ")] {
        let (_, text) = ask(&mut client, get("b.com", "/", &[("x-new", says)])).await;
        assert!(text.starts_with(pod), "{says}: {text}");
    }
}
