//! Servers that answer, fail and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::support::*;

#[test]
fn the_same_question_is_asked_once() {
    on_a_machine(|| async {
        let asked = Arc::new(AtomicUsize::new(0));
        upstream(asked.clone()).await;
        let machine = start("nameserver 127.0.0.20\n", true).await;
        let storm = (0..100).map(|_| ask("storm.example.org."));
        let replies = futures::future::join_all(storm).await;
        assert!(replies.iter().all(|reply| reply == "NoError 192.0.2.7"));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        let storm = (0..500).map(|n| async move { ask(&format!("h{n}.example.org.")).await });
        let replies = futures::future::join_all(storm).await;
        assert!(replies.iter().all(|reply| reply == "NoError 192.0.2.7"));
        machine.stop.cancel();
    });
}

#[test]
fn without_anybody_to_ask_failure_is_told_at_once() {
    on_a_machine(|| async {
        let machine = start("search example.org\n", true).await;
        let start = Instant::now();
        assert_eq!(ask("www.example.org.").await, "ServFail");
        assert_eq!(ask("9.9.9.10.in-addr.arpa.").await, "NXDomain");
        assert!(start.elapsed() < Duration::from_secs(1));
        machine.stop.cancel();
    });
}

#[test]
fn a_server_that_fails_is_asked_last() {
    on_a_machine(|| async {
        let asked = Arc::new(AtomicUsize::new(0));
        // Nobody reads at the first.
        let _silent = std::net::UdpSocket::bind("127.0.0.22:53").unwrap();
        upstream(asked.clone()).await;
        let corefile = ". {\n forward . 127.0.0.22 127.0.0.20 {\n policy sequential\n max_fails 1\n }\n}\n";
        let machine = start_with("", Api { answers: true, corefile: Some(corefile) }).await;
        eventually("127.0.0.1", "a.example.org.", "NoError 192.0.2.7").await;
        let start = Instant::now();
        assert_eq!(ask("b.example.org.").await, "NoError 192.0.2.7");
        assert!(start.elapsed() < Duration::from_millis(900), "the silent server is not waited for again");
        machine.stop.cancel();
    });
}

#[test]
fn what_was_known_is_told_when_nobody_answers() {
    on_a_machine(|| async {
        let asked = Arc::new(AtomicUsize::new(0));
        let upstream = upstream_at(UPSTREAM, asked.clone()).await;
        let corefile = ". {\n forward . 127.0.0.20 {\n max_fails 1\n }\n cache 1 {\n serve_stale\n }\n}\n";
        let machine = start_with("", Api { answers: true, corefile: Some(corefile) }).await;
        eventually("127.0.0.1", "a.example.org.", "NoError 192.0.2.7").await;
        // The second for which it counts as fresh goes by while the server is away.
        upstream.abort();
        eventually("127.0.0.1", "b.example.org.", "ServFail").await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(ask("a.example.org.").await, "NoError 192.0.2.7");
        upstream_at("127.0.0.20:53", asked.clone()).await;
        eventually("127.0.0.1", "b.example.org.", "NoError 192.0.2.7").await;
        machine.stop.cancel();
    });
}
