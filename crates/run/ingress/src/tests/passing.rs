//! What goes through.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
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

#[tokio::test]
async fn trailers_pass_both_ways() {
    let mut stage = Stage::start(|_| {});
    stage.rules(&[ingress("a", &[], "a.com", "/", "echo")]);
    // Says again what it is told, trailers and all.
    let echo = pod(|request: Request<Incoming>| async move {
        Response::builder().header("trailer", "x-sum").body(request.into_body().boxed()).unwrap()
    });
    stage.pods("echo", &[echo.await]);
    let sum = || HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("9"))]);
    let body = || {
        let body = StreamBody::new(futures::stream::iter([Ok(Frame::data(Bytes::from_static(b"body")))]));
        body.with_trailers(std::future::ready(Some(Ok(sum())))).boxed()
    };
    let request =
        Request::post("/").header("host", "a.com").header("te", "trailers").header("trailer", "x-sum");
    let one = stage.client().await.send_request(request.body(body()).unwrap()).await.unwrap();
    let (mut client, _) = super::tls::connect(stage.https, "a.com").await;
    let request = Request::post("https://a.com/")
        .header("te", "trailers")
        .header("trailer", "x-sum")
        .body(body())
        .unwrap();
    let two = client.send_request(request).await.unwrap();
    for response in [one, two] {
        let version = response.version();
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.trailers(), Some(&sum()), "{version:?}");
        assert_eq!(body.to_bytes(), "body");
    }
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_twice_and_nobody_waits_for_ever() {
    let mut stage = Stage::start(|_| {});
    let short = [("proxy-read-timeout", "1"), ("proxy-send-timeout", "1")];
    stage.rules(&[ingress("a", &[], "a.com", "/", "rude"), ingress("b", &short, "b.com", "/", "mute")]);
    // Reads a request and hangs up; the first one of a connection is answered.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    stage.pods("rude", &[listener.local_addr().unwrap()]);
    stage.pods("mute", &[pod(|_| std::future::pending()).await]);
    let (tell, mut asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut bytes = [0; 2048];
                for answer in [true, false] {
                    let length = stream.read(&mut bytes).await.unwrap();
                    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                    let Some((method, _)) = text.split_once(' ') else { return };
                    tell.send(method.to_owned()).unwrap();
                    if answer {
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                    }
                }
            });
        }
    });
    // Each client's connection stays with one worker, and so do those to the pod.
    let mut client = stage.client().await;
    for (method, answers, times) in [("POST", [200, 502], 2), ("GET", [200, 200], 3)] {
        for expected in answers {
            let request = Request::builder().method(method).uri("/").header("host", "a.com");
            let request = request.body(Full::new(Bytes::new()).boxed()).unwrap();
            assert_eq!(ask(&mut client, request).await.0, expected, "{method}");
        }
        for _ in 0..times {
            assert_eq!(asked.recv().await.unwrap(), method);
        }
        assert!(asked.try_recv().is_err(), "{method}");
    }
    // A pod that says nothing, and a client that stops in the middle.
    let mut client = stage.client().await;
    let mut slow = TcpStream::connect(stage.http).await.unwrap();
    slow.write_all(b"POST / HTTP/1.1\r\nhost: b.com\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
    let mut answer = [0; 12];
    let (mute, stopped) =
        tokio::join!(ask(&mut client, get("b.com", "/", &[])), slow.read_exact(&mut answer));
    stopped.unwrap();
    assert_eq!(mute.0, 504);
    assert!(
        [&b"HTTP/1.1 502"[..], b"HTTP/1.1 504"].contains(&&answer[..]),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}
