//! What is told of requests.

use super::stage::{Stage, ask, get, ingress, telling};

/// The lines of the metrics that have all these texts.
fn lines(stage: &Stage, texts: &[&str]) -> Vec<String> {
    let (_, text) = stage.shared.metrics.text("");
    let fits = |line: &&str| texts.iter().all(|text| line.contains(text));
    text.lines().filter(fits).map(str::to_owned).collect()
}

#[tokio::test]
async fn requests_are_counted_by_rule_method_and_status() {
    let mut stage = Stage::start(|_| {});
    stage.rules(&[ingress("web", &[], "a.com", "/x", "one"), ingress("empty", &[], "b.com", "/", "two")]);
    stage.pods("one", &[telling("one").await]);
    let mut client = stage.client().await;
    for (host, path, status) in
        [("a.com", "/x/1", 200), ("a.com", "/x/2", 200), ("b.com", "/", 503), ("a.com", "/", 404)]
    {
        assert_eq!(ask(&mut client, get(host, path, &[])).await.0, status, "{host}{path}");
    }
    // An answer is counted when its last byte is on the way.
    while lines(&stage, &["nginx_ingress_controller_requests{", "status=\"404\""]).is_empty() {
        tokio::task::yield_now().await;
    }
    let own = "controller_class=\"plimsoll.io/ingress\",controller_namespace=\"\",controller_pod=\"n\"";
    let series = |host: &str, ingress: &str, namespace: &str, path: &str, service: &str, status: &str| {
        format!(
            "{{{own},host=\"{host}\",ingress=\"{ingress}\",method=\"GET\",namespace=\"{namespace}\",\
             path=\"{path}\",service=\"{service}\",status=\"{status}\"}}"
        )
    };
    let mut expected = vec![
        format!("nginx_ingress_controller_requests{} 2", series("a.com", "web", "ns", "/x", "one", "200")),
        format!("nginx_ingress_controller_requests{} 1", series("b.com", "empty", "ns", "/", "two", "503")),
        format!("nginx_ingress_controller_requests{} 1", series("", "", "", "", "", "404")),
    ];
    let mut told = lines(&stage, &["nginx_ingress_controller_requests{"]);
    expected.sort();
    told.sort();
    assert_eq!(told, expected);
    let durations = lines(&stage, &["request_duration_seconds_count", "ingress=\"web\""]);
    assert!(durations.len() == 1 && durations[0].ends_with(" 2"), "{durations:?}");
    let sizes = lines(&stage, &["response_size_bucket", "ingress=\"web\"", "le=\"10\""]);
    assert!(sizes.len() == 1 && sizes[0].ends_with(" 0"), "{:?}", lines(&stage, &["response_size"]));
    assert_eq!(lines(&stage, &["process_connections{", "state=\"active\"} 1"]).len(), 1);

    // What is told of a rule ends with it, and goes on where it stays.
    stage.rules(&[ingress("web", &[("proxy-body-size", "2m")], "a.com", "/x", "one")]);
    assert_eq!(lines(&stage, &["ingress=\"empty\""]), [""; 0]);
    stage.pods("one", &[telling("one").await]);
    assert_eq!(ask(&mut client, get("a.com", "/x", &[])).await.0, 200);
    while lines(&stage, &["nginx_ingress_controller_requests{", "ingress=\"web\"", "} 3"]).is_empty() {
        tokio::task::yield_now().await;
    }
}
