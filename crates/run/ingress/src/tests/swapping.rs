//! Rules and endpoints that change under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::stage::{Stage, ask, get, ingress, telling};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_and_no_connection_closed() {
    let mut stage = Stage::start(|_| {});
    let pods = [telling("1").await, telling("2").await, telling("3").await];
    let rules = |round: usize| {
        let mut all = vec![ingress("a", &[], "a.com", "/", "one")];
        all.extend(
            (0..20)
                .map(|other| ingress(&format!("{other}"), &[], &format!("{round}-{other}.com"), "/", "one")),
        );
        all
    };
    stage.rules(&rules(0));
    stage.pods("one", &pods);
    let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = Vec::new();
    for _ in 0..8 {
        // The clients' connections stay the same: one that closed would fail the test.
        let mut client = stage.client().await;
        let (done, answered) = (done.clone(), answered.clone());
        clients.push(tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let (status, text) = ask(&mut client, get("a.com", "/", &[])).await;
                assert_eq!(status, 200, "{text}");
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for round in 1..=100 {
        stage.rules(&rules(round));
        stage.pods("one", &[pods[round % 3], pods[(round + 1) % 3]]);
        let before = answered.load(Ordering::Relaxed);
        while answered.load(Ordering::Relaxed) < before + 8
            && !clients.iter().any(|client| client.is_finished())
        {
            tokio::task::yield_now().await;
        }
    }
    // What is gone gets nothing more.
    stage.pods("one", &pods[..1]);
    let mut client = stage.client().await;
    for _ in 0..10 {
        assert!(ask(&mut client, get("a.com", "/", &[])).await.1.starts_with("1 "));
    }
    done.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
}
