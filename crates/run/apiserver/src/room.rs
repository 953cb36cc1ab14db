//! Tells people, by an Event, that writes were refused because the state filled its quota, and are accepted again.
//!
//! While they are refused, no Event can be written either; the log and the metrics tell of it then.

use std::sync::Arc;

use jiff::Timestamp;
use plimsoll_store::Alarm;
use serde_json::json;
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;

use crate::bootstrap;
use crate::identity::random_suffix;
use crate::server::Api;
use crate::user::User;

/// Follows the store until `shutdown`.
pub(crate) async fn run(api: Arc<Api>, shutdown: CancellationToken) {
    let mut alarm = api.store.alarm();
    while becomes(&mut alarm, Alarm::NoSpace, &shutdown).await {
        let since = Timestamp::now();
        if becomes(&mut alarm, Alarm::None, &shutdown).await {
            tell(&api, since).await;
        }
    }
}

/// Waits for a state of the alarm; false when there is nothing more to wait for.
async fn becomes(alarm: &mut Receiver<Alarm>, state: Alarm, shutdown: &CancellationToken) -> bool {
    let reached = shutdown.run_until_cancelled(alarm.wait_for(|alarm| *alarm == state)).await;
    matches!(reached, Some(Ok(_)))
}

async fn tell(api: &Api, since: Timestamp) {
    let user = User::authenticated("system:apiserver", &["system:masters"]);
    let now = Timestamp::now();
    let took = now.duration_since(since).as_millis();
    let about = json!({"apiVersion": "v1", "kind": "Namespace", "name": "kube-system"});
    let event = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": "default", "name": format!("state-store-{}", random_suffix())},
        "involvedObject": about,
        "type": "Warning",
        "reason": "StoreSpaceRecovered",
        "message": format!(
            "The state filled its quota and writes were refused for {took} ms; \
             history was compacted and there is room again. See --quota-backend-bytes."
        ),
        "source": {"component": "kube-apiserver"},
        "firstTimestamp": format!("{since:.0}"),
        "lastTimestamp": format!("{now:.0}"),
        "count": 1,
    });
    if let Err(status) = bootstrap::put(api, &user, &event).await {
        tracing::warn!(error = %status, "event of the store's recovery was not written");
    }
}
