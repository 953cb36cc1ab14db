//! Whether extension servers answer: the condition `Available` of their APIServices.
//!
//! Rules: kube-aggregator, pkg/controllers/status, v1.37. Without extension servers this waits and does nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use plimsoll_meta::status::Status;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::backends::Backends;
use super::{Extension, discovery, inquiry};
use crate::connect::endpoints;
use crate::object;
use crate::reach::service;
use crate::server::Api;
use crate::user::User;
use crate::write::{Ownership, Proposal, WHATEVER, Write};

/// How long an answer holds.
const GOOD: Duration = Duration::from_secs(30);
/// How soon a server that did not answer is asked again.
const BAD: Duration = Duration::from_secs(1);

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    available: bool,
    reason: &'static str,
    message: String,
}

impl Finding {
    fn missing(reason: &'static str, message: String) -> Self {
        Self { available: false, reason, message }
    }
}

/// Checks all extension servers when one or what is behind it changes and now and then, until shutdown.
pub(crate) async fn run(api: Arc<Api>, shutdown: CancellationToken) {
    loop {
        let extensions = api.aggregator.extensions();
        let mut backends = Backends::watch(&api.store, &extensions);
        let looks = extensions.values().map(|extension| look(&api, extension));
        let all_good = join_all(looks).await.into_iter().all(|available| available);
        let again = async {
            match extensions.is_empty() {
                true => std::future::pending().await,
                false => tokio::time::sleep(if all_good { GOOD } else { BAD }).await,
            }
        };
        tokio::select! {
            () = api.aggregator.changed.notified() => {}
            () = backends.changed() => {}
            () = again => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Checks one server and writes down what came of it.
async fn look(api: &Api, extension: &Extension) -> bool {
    let finding = check(api, extension).await;
    if let Err(status) = report(api, extension, &finding).await {
        tracing::warn!(name = extension.name, error = status.message, "availability not recorded");
    }
    finding.available
}

/// Asks a server; what it offers is remembered for discovery.
async fn check(api: &Api, extension: &Extension) -> Finding {
    if let Err(finding) = behind(api, extension) {
        return finding;
    }
    match ask(extension, &extension.path()).await {
        Err(cause) => Finding::missing("FailedDiscoveryCheck", cause),
        Ok(answer) => {
            discovery::learn(api, extension, &answer);
            Finding { available: true, reason: "Passed", message: "all checks passed".to_owned() }
        }
    }
}

/// What can be said without asking: is there a Service, and somebody behind it?
fn behind(api: &Api, extension: &Extension) -> Result<(), Finding> {
    let Extension { namespace, service: name, port, .. } = extension;
    let found = service(&api.store, namespace, name).ok_or_else(|| {
        Finding::missing("ServiceNotFound", format!("service/{name} in {namespace:?} is not present"))
    })?;
    if found["spec"]["type"].as_str().unwrap_or("ClusterIP") != "ClusterIP" {
        return Ok(());
    }
    let mut ports = found["spec"]["ports"].as_array().into_iter().flatten();
    let wanted = ports.find(|one| one["port"] == *port).ok_or_else(|| {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        Finding::missing("ServicePortError", message)
    })?;
    let port_name = wanted["name"].as_str().unwrap_or_default();
    match endpoints(&api.store, namespace, name, port_name) {
        Ok(ends) if !ends.is_empty() => Ok(()),
        _ => Err(Finding::missing(
            "MissingEndpoints",
            format!(
                "endpoints for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
            ),
        )),
    }
}

impl Extension {
    /// The path that every server of this group version must answer.
    fn path(&self) -> String {
        match self.group.is_empty() {
            true => format!("/api/{}", self.version),
            false => format!("/apis/{}/{}", self.group, self.version),
        }
    }
}

/// GET of a document, asked as the aggregator.
async fn ask(extension: &Extension, path: &str) -> Result<Bytes, String> {
    let user = User::authenticated("system:kube-aggregator", &[plimsoll_admission::MASTERS]);
    let answer = inquiry::get(extension, path, &user, None).await?;
    let url = format!("https://{}:{}{path}", extension.host(), extension.port);
    match answer.status().as_u16() {
        200..=299 => Ok(answer.into_body()),
        code => Err(format!("failing or missing response from {url}: bad status from {url}: {code}")),
    }
}

/// Writes the condition, if it is another one than before.
async fn report(api: &Api, extension: &Extension, finding: &Finding) -> Result<(), Status> {
    let kind = plimsoll_catalogue::find("apiregistration.k8s.io", "v1", "apiservices")
        .ok_or_else(Status::no_such_path)?;
    let user = User::server();
    let mut write =
        Write { subresource: Some("status"), ..Write::of_server(api, &user, kind, "", &extension.name)? };
    let change = |write: &mut Write<'_>, old: &Value| {
        let mut object = old.clone();
        object::metadata_mut(&mut object).insert("resourceVersion".to_owned(), WHATEVER.into());
        with_condition(&mut object, finding, &object::time(write.now));
        Ok(Proposal { object, ownership: Ownership::Track })
    };
    match write.update(change, None).await {
        // Deleted meanwhile.
        Err(status) if status.code == 404 => Ok(()),
        outcome => outcome.map(drop),
    }
}

fn with_condition(object: &mut Value, finding: &Finding, now: &Value) {
    let status = if finding.available { "True" } else { "False" };
    let mut conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let before = conditions.iter().find(|one| one["type"] == "Available" && one["status"] == status);
    let since = before.map_or_else(|| now.clone(), |one| one["lastTransitionTime"].clone());
    conditions.retain(|one| one["type"] != "Available");
    conditions.push(json!({
        "type": "Available", "status": status, "lastTransitionTime": since,
        "reason": finding.reason, "message": finding.message,
    }));
    object["status"]["conditions"] = Value::Array(conditions);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_condition_moves_with_its_status_only() {
        let mut object = json!({"status": {}});
        let good = Finding { available: true, reason: "Passed", message: "all checks passed".to_owned() };
        let bad = Finding::missing("ServiceNotFound", "service/x in \"y\" is not present".to_owned());
        for (finding, now, since) in
            [(&bad, "1", "1"), (&bad, "2", "1"), (&good, "3", "3"), (&good, "4", "3"), (&bad, "5", "5")]
        {
            with_condition(&mut object, finding, &json!(now));
            let conditions = object["status"]["conditions"].as_array().expect("conditions");
            assert_eq!(conditions.len(), 1);
            assert_eq!(conditions[0]["lastTransitionTime"], since);
            assert_eq!(conditions[0]["reason"], finding.reason);
        }
    }
}
