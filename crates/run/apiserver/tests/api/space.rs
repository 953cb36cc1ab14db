//! A state that fills its quota.

use serde_json::json;

use crate::support::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(number: usize) -> serde_json::Value {
    json!({"metadata": {"name": format!("big-{number}")}, "data": {"text": "x".repeat(500_000)}})
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_refused_in_etcds_words_until_deletions_make_room() {
    let cluster = Cluster::start_with(|config| config.quota = 6 << 20).await;
    let mut made = 0;
    let refused = loop {
        let answer = cluster.post(MAPS, map(made)).await;
        if answer.code != 201 {
            break answer;
        }
        made += 1;
    };
    assert_eq!((refused.code, made > 5), (500, true));
    let status = refused.json();
    assert_eq!(status["message"], "etcdserver: mvcc: database space exceeded");
    assert_eq!((&status["reason"], &status["status"]), (&json!(null), &json!("Failure")));
    assert_eq!(cluster.get(&format!("{MAPS}/big-0")).await.code, 200);
    for number in 0..4 {
        assert_eq!(cluster.delete(&format!("{MAPS}/big-{number}")).await.code, 200);
    }
    cluster.until(async || cluster.post(MAPS, map(made)).await.code == 201).await;
    let events = "/api/v1/namespaces/default/events?fieldSelector=reason%3DStoreSpaceRecovered";
    cluster
        .until(async || {
            cluster.get(events).await.json()["items"].as_array().is_some_and(|items| !items.is_empty())
        })
        .await;
    let told = String::from_utf8(cluster.get("/metrics").await.body.to_vec()).expect("text");
    assert!(
        told.lines()
            .any(|line| line.starts_with("plimsoll_store_recoveries_total ") && !line.ends_with(" 0"))
    );
    assert!(told.contains("plimsoll_store_no_space 0"));
}
