//! Clients that ask for too much, and who clients are.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::stage::{Client, Stage, ask, client_over, get, ingress, pod, telling, whole};

/// A connection from an address of this machine's own.
async fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

async fn client_from(last: u8, to: SocketAddr) -> Client {
    client_over(connect_from(last, to).await).await
}

/// One address asks by eight connections all the time, and keeps requests under way that no pod answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abusive_client_takes_nothing_from_others() {
    const MOST: usize = 16;
    let mut stage = Stage::start(|config| config.limit_status = 429);
    let limits = [
        ("limit-connections", "16"),
        ("limit-rps", "100"),
        ("limit-burst-multiplier", "5"),
        ("limit-whitelist", "127.0.0.4"),
    ];
    stage.rules(&[ingress("a", &limits, "a.com", "/", "one")]);
    let slow = Arc::new(AtomicUsize::new(0));
    let counted = slow.clone();
    let answering = pod(move |request: Request<Incoming>| {
        let counted = counted.clone();
        async move {
            if request.uri().path() == "/slow" {
                counted.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<()>().await;
            }
            Response::new(whole("ok"))
        }
    });
    stage.pods("one", &[answering.await]);
    let http = stage.http;
    // Of 40 requests that nobody answers the pod gets as many as one client may have, and the others cost nobody's time.
    let mut refused = tokio::task::JoinSet::new();
    for _ in 0..40 {
        refused.spawn(async move {
            let mut client = client_from(2, http).await;
            ask(&mut client, get("a.com", "/slow", &[])).await.0
        });
    }
    for _ in MOST..40 {
        assert_eq!(refused.join_next().await.unwrap().unwrap(), 429);
    }
    while slow.load(Ordering::Relaxed) < MOST {
        tokio::task::yield_now().await;
    }
    let abuse = Arc::new(AtomicUsize::new(0));
    let mut abusers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let abuse = abuse.clone();
        abusers.spawn(async move {
            let mut client = client_from(2, http).await;
            loop {
                assert_eq!(ask(&mut client, get("a.com", "/", &[])).await.0, 429);
                abuse.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    // Another client is served every time, and between any two of its requests the abusive one is refused.
    let mut client = client_from(3, http).await;
    let mut before = 0;
    for round in 0..300 {
        while abuse.load(Ordering::Relaxed) < before + 3 {
            assert_eq!(abusers.try_join_next().map(|ended| ended.unwrap()), None::<()>);
            tokio::task::yield_now().await;
        }
        before = abuse.load(Ordering::Relaxed);
        assert_eq!(ask(&mut client, get("a.com", "/", &[])).await, (200, "ok".to_owned()), "{round}");
    }
    // Who is not limited may ask for more than anybody else.
    let mut exempt = client_from(4, http).await;
    for _ in 0..1000 {
        assert_eq!(ask(&mut exempt, get("a.com", "/", &[])).await.0, 200);
    }
    assert_eq!(slow.load(Ordering::Relaxed), MOST);
    // What was under way counts until its client gives up.
    refused.abort_all();
    while refused.join_next().await.is_some() {}
    abusers.abort_all();
    let mut client = client_from(2, http).await;
    while ask(&mut client, get("a.com", "/", &[])).await.0 != 200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_clients_storm_is_refused_and_others_are_served() {
    let mut stage = Stage::start(|config| {
        config.trusted = vec!["127.0.0.0/8".parse().unwrap()];
        config.limit_status = 429;
    });
    stage.rules(&[ingress(
        "a",
        &[("limit-rpm", "60"), ("limit-burst-multiplier", "1")],
        "a.com",
        "/",
        "one",
    )]);
    stage.pods("one", &[telling("one").await]);
    let mut client = stage.client().await;
    let began = Instant::now();
    let mut passed = 0;
    for _ in 0..1000 {
        let (status, _) = ask(&mut client, get("a.com", "/", &[("x-forwarded-for", "6.6.6.6")])).await;
        assert!(status == 200 || status == 429, "{status}");
        passed += usize::from(status == 200);
    }
    let most = 61 + began.elapsed().as_secs() as usize;
    assert!(passed >= 61 && passed <= most + 1, "{passed} of at most {most}");
    for other in ["7.7.7.7", "8.8.8.8"] {
        let (status, text) = ask(&mut client, get("a.com", "/", &[("x-forwarded-for", other)])).await;
        assert_eq!(status, 200);
        assert!(text.contains(&format!("x-forwarded-for={other} ")), "{text}");
    }
}

#[tokio::test]
async fn balancers_tell_whose_connection_they_pass_on() {
    let mut stage = Stage::start(|config| {
        config.trusted = vec!["127.0.0.1/32".parse().unwrap()];
        config.proxy_protocol = true;
    });
    stage.rules(&[ingress("a", &[("whitelist-source-range", "1.2.3.4")], "a.com", "/", "one")]);
    stage.pods("one", &[telling("one").await]);
    let told = "PROXY TCP4 1.2.3.4 10.0.0.1 999 80\r\n";
    // The last digits of who connects, what it says first, the answer.
    for (from, header, start) in [
        (1, told, "HTTP/1.1 200"),
        (1, "PROXY TCP4 4.3.2.1 10.0.0.1 999 80\r\n", "HTTP/1.1 403"),
        (1, "PROXY TCP4 1.2.3.4\r\n", ""),
        (1, "", ""),
        // Nobody else is believed, be it by this protocol or by headers.
        (2, told, "HTTP/1.1 400"),
        (2, "", "HTTP/1.1 403"),
    ] {
        let mut stream = connect_from(from, stage.http).await;
        let request =
            "GET / HTTP/1.1\r\nhost: a.com\r\nx-forwarded-for: 1.2.3.4\r\nconnection: close\r\n\r\n";
        let more = if header.contains("4.3.2.1") {
            request.replace("x-forwarded-for", "x")
        } else {
            request.to_owned()
        };
        stream.write_all(format!("{header}{more}").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let fits = answer.starts_with(start) && answer.is_empty() == start.is_empty();
        assert!(fits, "{from} {header}: {answer}");
    }
}
