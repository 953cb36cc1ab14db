//! Clients that ask for too much, and who clients are.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::stage::{Stage, ask, get, ingress, telling};

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
        config.trusted = vec!["127.0.0.0/8".parse().unwrap()];
        config.proxy_protocol = true;
    });
    stage.rules(&[ingress("a", &[("whitelist-source-range", "1.2.3.4")], "a.com", "/", "one")]);
    stage.pods("one", &[telling("one").await]);
    for (header, start) in [
        ("PROXY TCP4 1.2.3.4 10.0.0.1 999 80\r\n", "HTTP/1.1 200"),
        ("PROXY TCP4 4.3.2.1 10.0.0.1 999 80\r\n", "HTTP/1.1 403"),
        ("", ""),
    ] {
        let mut stream = TcpStream::connect(stage.http).await.unwrap();
        let request = format!("{header}GET / HTTP/1.1\r\nhost: a.com\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with(start) && answer.is_empty() == start.is_empty(), "{header}: {answer}");
    }
}
