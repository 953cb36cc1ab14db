//! Clients that have a cookie.

use std::net::SocketAddr;

use plimsoll_route::affinity::mark;
use tokio::net::TcpListener;

use super::stage::{Client, Stage, ask, get, ingress, telling};

const COOKIE: [(&str, &str); 2] = [("affinity", "cookie"), ("session-cookie-name", "stay")];

/// The cookie that names a pod of a Service.
fn cookie(pod: SocketAddr, service: &str) -> String {
    format!("stay={}", mark(pod, &format!("ns/{service}")))
}

#[tokio::test]
async fn clients_stay_on_their_side_of_a_canary() {
    let mut stage = Stage::start(|_| {});
    let canary = [("canary", "true"), ("canary-by-header", "x-new")];
    let legacy = [&canary[..], &[("affinity-canary-behavior", "legacy")]].concat();
    stage.rules(&[
        ingress("a", &COOKIE, "a.com", "/", "old"),
        ingress("b", &canary, "a.com", "/", "new"),
        ingress("c", &COOKIE, "c.com", "/", "old"),
        ingress("d", &legacy, "c.com", "/", "new"),
    ]);
    let (old, new) = (telling("old").await, telling("new").await);
    stage.pods("old", &[old]);
    stage.pods("new", &[new]);
    let mut client = stage.client().await;
    // Host, cookie, what the header of the canary says, the pod.
    let table = [
        ("a.com", cookie(old, "old"), "always", "old "),
        ("a.com", cookie(new, "new"), "never", "new "),
        ("a.com", "stay=unknown".to_owned(), "always", "new "),
        ("c.com", cookie(old, "old"), "always", "new "),
        ("c.com", cookie(new, "new"), "never", "old "),
    ];
    for (host, cookie, says, pod) in table {
        let headers = [("cookie", cookie.as_str()), ("x-new", says)];
        let (_, text) = ask(&mut client, get(host, "/", &headers)).await;
        assert!(text.starts_with(pod), "{host} {cookie} {says}: {text}");
    }
}

/// Which cookie a client that has this one is told.
async fn told_cookie(client: &mut Client, host: &str, cookie: &str) -> Option<String> {
    client.ready().await.unwrap();
    let answer = client.send_request(get(host, "/", &[("cookie", cookie)])).await.unwrap();
    assert_eq!(answer.status(), 200, "another pod answers");
    let told = answer.headers().get("set-cookie")?.to_str().unwrap();
    Some(told.split(';').next().unwrap().to_owned())
}

#[tokio::test]
async fn clients_come_back_to_a_pod_that_cannot_be_reached_or_change() {
    let mut stage = Stage::start(|_| {});
    let changing = [&COOKIE[..], &[("session-cookie-change-on-failure", "true")]].concat();
    stage.rules(&[ingress("a", &COOKIE, "a.com", "/", "web"), ingress("b", &changing, "b.com", "/", "web")]);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let alive = telling("alive").await;
    stage.pods("web", &[closed, alive]);
    let mut client = stage.client().await;
    let theirs = cookie(closed, "web");
    for _ in 0..3 {
        assert_eq!(told_cookie(&mut client, "a.com", &theirs).await, None);
        assert_eq!(told_cookie(&mut client, "b.com", &theirs).await, Some(cookie(alive, "web")));
    }
    stage.pods("web", &[alive]);
    assert_eq!(told_cookie(&mut client, "a.com", &theirs).await, Some(cookie(alive, "web")), "it is gone");
}
