//! What Prometheus is told.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::*;

#[test]
fn figures_are_told() {
    on_a_machine(|| async {
        let asked = Arc::new(AtomicUsize::new(0));
        upstream(asked.clone()).await;
        let machine = start("nameserver 127.0.0.20\n", true).await;
        for name in ["www.example.org.", "www.example.org.", "none.default.svc.cluster.local."] {
            ask(name).await;
        }
        let get = async |path: &str| {
            let mut stream = TcpStream::connect(METRICS).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        };
        assert!(get("/ready").await.ends_with("OK") && get("/health").await.ends_with("OK"));
        let text = get("/metrics").await;
        for line in [
            "coredns_dns_responses_total{rcode=\"NXDOMAIN\",plugin=\"kubernetes\",server=\"dns://:53\",zone=\".\",view=\"\"} 1",
            "coredns_dns_responses_total{rcode=\"NOERROR\",plugin=\"forward\",server=\"dns://:53\",zone=\".\",view=\"\"} 2",
            "coredns_cache_hits_total{type=\"success\",server=\"dns://:53\",zones=\".\",view=\"\"} 1",
            "coredns_cache_requests_total{server=\"dns://:53\",zones=\".\",view=\"\"} 2",
            "coredns_dns_do_requests_total{server=\"dns://:53\",zone=\".\",view=\"\"} 0",
            "coredns_panics_total 0",
            "coredns_cache_misses_total{server=\"dns://:53\",zones=\".\",view=\"\"} 1",
            "coredns_proxy_request_duration_seconds_count{proxy_name=\"forward\",to=\"127.0.0.20:53\",rcode=\"NOERROR\"} 1",
        ] {
            let mut wanted: Vec<&str> = line.split(['{', '}', ',']).collect();
            wanted.sort_unstable();
            let found = text.lines().any(|told| {
                let mut told: Vec<&str> = told.split(['{', '}', ',']).collect();
                told.sort_unstable();
                told == wanted
            });
            assert!(found, "{line} is not in\n{text}");
        }
        machine.stop.cancel();
    });
}
