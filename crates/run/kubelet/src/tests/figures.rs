//! What the port without authentication tells of volumes, and what it does not.

use std::sync::OnceLock;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Rig;
use super::volumes::provided;

/// A port that was free a moment ago.
fn port() -> u16 {
    static PORT: OnceLock<u16> = OnceLock::new();
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    *PORT.get_or_init(free)
}

/// Status and body of an answer.
async fn get(path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port())).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: n1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn how_full_a_claim_is() {
    let configure = |config: &mut crate::Config| {
        config.read_only = Some(([127, 0, 0, 1], port()).into());
        config.volume_health = true;
    };
    let Some(rig) = Rig::with("figures", configure).await else { return };
    let (_driver, _serving) = provided(&rig, json!({})).await;
    let (status, metrics) = get("/metrics").await;
    assert_eq!(status, 200);
    let labels = "{namespace=\"ns\",persistentvolumeclaim=\"data\"}";
    for line in [
        format!("kubelet_volume_stats_available_bytes{labels} 70\n"),
        format!("kubelet_volume_stats_capacity_bytes{labels} 100\n"),
        format!("kubelet_volume_stats_used_bytes{labels} 30\n"),
        format!("kubelet_volume_stats_health_status_abnormal{labels} 1\n"),
    ] {
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
    let (_, pods) = get("/pods").await;
    let pods: Value = serde_json::from_str(&pods).unwrap();
    assert_eq!(pods["items"][0]["metadata"]["name"], "web");
    for path in ["/configz", "/logs/", "/exec/ns/web/c", "/containerLogs/ns/web/c"] {
        assert_eq!(get(path).await.0, 404, "{path}");
    }
    rig.end().await;
}
