//! Hooks around a container's life.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;
use plimsoll_podlife::probe::Outcome;

use crate::handler::Place;

const AGENT: &str = "kube-lifecycle/1.37";
/// Hooks that ask over the network without a grace of their own.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Runs a hook to its end; the error says why it failed.
pub(crate) async fn run(
    hook: &LifecycleHandler,
    place: &Place,
    limit: Option<Duration>,
) -> Result<(), String> {
    let limit = limit.unwrap_or(PATIENCE);
    let outcome = if let Some(action) = &hook.exec {
        place.exec(action.command.clone().unwrap_or_default(), limit).await
    } else if let Some(action) = &hook.http_get {
        place.http(action, AGENT, limit).await
    } else if let Some(action) = &hook.tcp_socket {
        place.tcp(action, limit).await
    } else if let Some(action) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(action.seconds.unsigned_abs()).min(limit)).await;
        Outcome::Success
    } else {
        Outcome::Error("the hook names no action".into())
    };
    match outcome {
        Outcome::Success => Ok(()),
        Outcome::Failure(why) | Outcome::Error(why) => Err(why),
    }
}
