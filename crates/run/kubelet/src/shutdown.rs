//! The node goes down: pods end in the order of their priorities, then the agent.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use plimsoll_client::Informer;
use plimsoll_podlife::shutdown::{Group, groups, verdict};
use plimsoll_podlife::spec::is_over;
use plimsoll_podlife::static_pod::{full_name, is_mirror};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::pressure::Order;

/// Waits for the word that the node goes down, ends its pods and then the agent.
pub(crate) async fn run(
    agent: Arc<Agent>,
    informer: Informer<Pod>,
    orders: mpsc::UnboundedSender<Order>,
    stop: CancellationToken,
) {
    let record = agent.config.data_dir.join(RECORD);
    if let Some((begun, over)) = std::fs::read_to_string(&record).ok().and_then(|text| read(&text)) {
        agent.metrics.lives.ends(begun, over);
    }
    tokio::select! {
        () = stop.cancelled() => return,
        () = agent.config.leaving.cancelled() => {}
    }
    let begun = Timestamp::now();
    let note = |over| {
        agent.metrics.lives.ends(begun, over);
        if let Err(error) = std::fs::write(&record, text(begun, over)) {
            tracing::warn!(%error, "the next agent will not know when the node went down");
        }
    };
    if !agent.config.shutdown_periods.is_empty() {
        note(None);
    }
    let mut pods = informer.list();
    pods.retain(|pod| !is_mirror(pod) && !is_over(pod));
    pods.extend(agent.statics.borrow().pods.values().cloned());
    for group in groups(&agent.config.shutdown_periods, &pods) {
        tracing::info!(
            pods = group.pods.len(),
            seconds = group.seconds,
            "pods end because the node goes down"
        );
        for pod in &group.pods {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            // Nobody takes orders when the agent ends meanwhile.
            let _ = orders.send(Order { uid, verdict: verdict(pod, group.seconds) });
        }
        let limit = Duration::from_secs(group.seconds.unsigned_abs());
        if tokio::time::timeout(limit, over(&informer, &group)).await.is_err() {
            tracing::warn!(seconds = group.seconds, "some pods did not end in time");
        }
    }
    if !agent.config.shutdown_periods.is_empty() {
        note(Some(Timestamp::now()));
    }
    stop.cancel();
}

/// The file of when the node went down last, under upstream's name
/// (kubelet: pkg/kubelet/nodeshutdown/storage.go).
const RECORD: &str = "graceful_node_shutdown_state";
/// The time that stands for none: the first second of the year 1.
const NEVER: i64 = -62_135_596_800;

fn text(begun: Timestamp, over: Option<Timestamp>) -> String {
    let over = over.unwrap_or_else(|| Timestamp::from_second(NEVER).unwrap_or(Timestamp::MIN));
    json!({"startTime": begun, "endTime": over}).to_string()
}

fn read(text: &str) -> Option<(Timestamp, Option<Timestamp>)> {
    let record: Value = serde_json::from_str(text).ok()?;
    let time = |name: &str| record[name].as_str()?.parse::<Timestamp>().ok();
    Some((time("startTime")?, time("endTime").filter(|over| over.as_second() > NEVER)))
}

/// Ends when the API knows that the pods of a group have ended.
async fn over(informer: &Informer<Pod>, group: &Group) {
    let mut deltas = informer.subscribe();
    let names: HashSet<_> = group.pods.iter().map(|pod| full_name(pod)).collect();
    loop {
        let lives =
            |name: &(String, String)| informer.get(&name.0, &name.1).is_some_and(|pod| !is_over(&pod));
        if !names.iter().any(lives) {
            return;
        }
        if deltas.recv().await.is_none() {
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_next_agent_knows_when_the_node_went_down() {
        let at = |second| Timestamp::from_second(second).unwrap();
        for (begun, over) in [(at(1000), None), (at(1000), Some(at(1010)))] {
            assert_eq!(read(&text(begun, over)), Some((begun, over)));
        }
        let expected = r#"{"endTime":"0001-01-01T00:00:00Z","startTime":"1970-01-01T00:16:40Z"}"#;
        assert_eq!(text(at(1000), None), expected);
        assert_eq!(read("{"), None);
    }
}
