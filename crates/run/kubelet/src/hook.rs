//! Hooks around a container's life (kubelet: pkg/kubelet/lifecycle/handlers.go).
//!
//! What enters is a hook and the pod it belongs to. What leaves is nothing, or the message that a container's
//! status shows. An answer counts whatever its status is: the hook was told.

use std::time::Duration;

use k8s_openapi::api::core::v1::{HTTPGetAction, LifecycleHandler, Pod};
use plimsoll_podlife::Event;
use plimsoll_podlife::probe::Outcome;

use crate::agent::Agent;
use crate::engine::text;
use crate::handler::{PLAIN_ANSWER, Place};

const AGENT: &str = "kube-lifecycle/1.37";
/// Requests have no time limit of their own; the longest grace ends them.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Runs a hook to its end; the error says why it failed.
pub(crate) async fn run(
    hook: &LifecycleHandler,
    place: &Place,
    agent: &Agent,
    pod: &Pod,
) -> Result<(), String> {
    let of = format!("for Container \"{}\" in Pod \"{}\" failed", place.container.name, name(pod));
    if let Some(action) = &hook.exec {
        let command = action.command.clone().unwrap_or_default();
        let shown = command.join(" ");
        let failed = |error: String, message: String| {
            format!("Exec lifecycle hook ([{shown}]) {of} - error: {error}, message: {message:?}")
        };
        return match place.engine.exec(&place.id, command.clone(), Duration::ZERO).await {
            Ok(executed) if executed.code == 0 => Ok(()),
            Ok(executed) => {
                let errors = String::from_utf8_lossy(&executed.stderr);
                let error = format!("command '{shown}' exited with {}: {errors}", executed.code);
                Err(failed(error, executed.output(usize::MAX)))
            }
            Err(status) => Err(failed(text(&status), String::new())),
        };
    }
    if let Some(action) = &hook.http_get {
        let path = action.path.as_deref().unwrap_or_default();
        let told = http(action, place).await;
        let told = told.map_err(|why| format!("HTTP lifecycle hook ({path}) {of} - error: {why}"))?;
        told.iter().for_each(|event| agent.tell(pod, event));
        return Ok(());
    }
    if let Some(action) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(action.seconds.unsigned_abs())).await;
        return Ok(());
    }
    // `tcpSocket` is in the API and has never worked.
    Err("Cannot run handler: invalid handler".to_owned())
}

/// Asks; what users are told comes back when the hook only answers without TLS.
async fn http(action: &HTTPGetAction, place: &Place) -> Result<Option<Event>, String> {
    let why = match place.get(action, AGENT, PATIENCE).await {
        Ok(_) | Err(Outcome::Success | Outcome::Warning(_)) => return Ok(None),
        Err(Outcome::Failure(why) | Outcome::Error(why)) => why,
    };
    if !why.ends_with(PLAIN_ANSWER) {
        return Err(why);
    }
    let plain = HTTPGetAction { scheme: Some("HTTP".to_owned()), ..without_secrets(action) };
    if place.get(&plain, AGENT, PATIENCE).await.is_err() {
        return Err(why);
    }
    let host = why.split('"').nth(1).and_then(|url| url::Url::parse(url).ok());
    let host = host.map(|url| url[url::Position::BeforeHost..url::Position::AfterPort].to_owned());
    let message = format!(
        "request to HTTPS lifecycle hook {} got HTTP response, retry with HTTP succeeded",
        host.unwrap_or_default()
    );
    Ok(Some(Event::warning("LifecycleHTTPFallback", message, None)))
}

/// Nobody's password goes over the wire in plain text.
fn without_secrets(action: &HTTPGetAction) -> HTTPGetAction {
    let mut action = action.clone();
    let headers = action.http_headers.iter_mut();
    headers.for_each(|headers| headers.retain(|it| !it.name.eq_ignore_ascii_case("authorization")));
    action
}

fn name(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}_{}({})", part(&meta.name), part(&meta.namespace), part(&meta.uid))
}
