//! `pods/eviction`: a deletion that asks the disruption budgets first.
//!
//! Rules: pkg/registry/core/pod/storage/eviction.go, v1.37.

use http::{Request, Response, StatusCode};
use plimsoll_catalogue::Kind;
use plimsoll_meta::selector::Labels;
use plimsoll_meta::status::Status;
use serde_json::{Value, json};

use crate::admit::{Operation, chain};
use crate::body::{RequestBody, ResponseBody};
use crate::delete::Options;
use crate::object::{self, deleting, meta};
use crate::server::Api;
use crate::stages::{self, Asked};
use crate::subresource::{self, same_name};
use crate::target::ResourcePath;
use crate::write::Judged;
use crate::{collection, registry};

const EVICTION: (&str, &str, &str) = ("policy/v1", "Eviction", "io.k8s.api.policy.v1.Eviction");

pub(crate) async fn create(
    api: &Api,
    asked: &Asked,
    kind: &'static Kind,
    target: &ResourcePath,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Status> {
    let mut eviction = subresource::typed_body(asked, request, EVICTION).await?;
    same_name(&eviction, target)?;
    chain::action(api, asked, kind, target, Operation::Create, &mut eviction).await?;
    let options = Options::read(&eviction["deleteOptions"], &asked.query)?;
    for _ in 0..TRIES {
        let pod = subresource::parent(api, kind, target).await?;
        let judged = match ends_anyway(&pod) {
            true if waits(&pod) => Meant::AsSeen,
            true => Meant::Whatever,
            false => spend_budget(api, asked, target, &pod, &options).await?,
        };
        let meant = match judged {
            Meant::Whatever => options.clone(),
            Meant::AsSeen | Meant::Unready(_) => options.clone().of_version(meta(&pod, "resourceVersion")),
        };
        match (remove(api, asked, kind, target, meant).await, judged) {
            (Ok(()), _) => return Ok(subresource::done(StatusCode::CREATED)),
            (Err(conflict), _) if conflict.code != 409 || options.names_version() => return Err(conflict),
            (Err(_), Meant::Unready(budget)) => return Err(unprocessed(&budget)),
            // It has changed since: it may have become ready.
            (Err(_), Meant::AsSeen | Meant::Whatever) => {}
        }
    }
    Err(Status::conflict(kind.group, kind.plural, &target.name, "the pod keeps changing"))
}

/// How often a pod is looked at again because it has changed.
const TRIES: usize = 20;

/// Most evictions whose pods may still be there.
const PENDING: usize = 2000;

/// Which state of the pod the decision was about.
enum Meant {
    /// Any.
    Whatever,
    /// The one that was seen.
    AsSeen,
    /// The one that was seen, which was not ready and so free to go by this budget.
    Unready(String),
}

/// Tells in the pod why it goes, and deletes it.
async fn remove(
    api: &Api,
    asked: &Asked,
    kind: &'static Kind,
    target: &ResourcePath,
    mut options: Options,
) -> Result<(), Status> {
    let mut delete = stages::write(api, asked, kind, target, None)?;
    delete.judged = Judged::Before;
    delete.dry_run |= options.is_dry_run();
    if !delete.dry_run {
        let mut write = stages::write(api, asked, kind, target, Some("status"))?;
        write.judged = Judged::Before;
        let now = object::time(write.now);
        let pod = subresource::change(write, |pod| {
            options.check(kind, &target.name, pod)?;
            tell(pod, &now);
            Ok(())
        });
        options.follow(meta(&pod.await?, "resourceVersion"));
    }
    delete.delete(&options).await.map(drop)
}

fn tell(pod: &mut Value, now: &Value) {
    let observes = pod["status"]["observedGeneration"].as_i64().is_some_and(|generation| generation > 0);
    let generation = if observes { pod["metadata"]["generation"].clone() } else { Value::Null };
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let conditions = conditions.as_array_mut().expect("made above");
    let known = conditions.iter().position(|condition| condition["type"] == "DisruptionTarget");
    let since = known.map(|at| conditions.remove(at)).filter(|condition| condition["status"] == "True");
    let mut condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null});
    condition["lastTransitionTime"] =
        since.map_or_else(|| now.clone(), |since| since["lastTransitionTime"].clone());
    if !generation.is_null() {
        condition["observedGeneration"] = generation;
    }
    conditions.push(condition);
}

/// Whether it may still begin to run.
fn waits(pod: &Value) -> bool {
    !deleting(pod) && pod["status"]["phase"] == "Pending"
}

/// Pods that do not run, or no longer, are evicted without asking.
fn ends_anyway(pod: &Value) -> bool {
    deleting(pod) || matches!(pod["status"]["phase"].as_str(), Some("Pending" | "Succeeded" | "Failed"))
}

/// Takes one disruption from the pod's budget, or refuses.
async fn spend_budget(
    api: &Api,
    asked: &Asked,
    target: &ResourcePath,
    pod: &Value,
    options: &Options,
) -> Result<Meant, Status> {
    let kind = plimsoll_catalogue::find("policy", "v1", "poddisruptionbudgets")
        .ok_or_else(|| Status::internal("no budgets"))?;
    let budgets =
        collection::select(&api.store, kind, &target.namespace, &Default::default(), &Default::default())?;
    let covering: Vec<Value> = budgets
        .entries
        .iter()
        .filter_map(|entry| registry::served(kind, entry).ok())
        .filter(|budget| covers(budget, pod))
        .collect();
    let budget = match &covering[..] {
        [] => return Ok(Meant::Whatever),
        [budget] => budget,
        _ => {
            return Err(Status::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    let (current, desired) = (number("currentHealthy"), number("desiredHealthy"));
    let name = meta(budget, "name").to_owned();
    if !ready(pod) && (always || (current >= desired && desired > 0)) {
        return Ok(Meant::Unready(name));
    }
    let of_budget = ResourcePath { name: name.clone(), resource: kind.plural.to_owned(), ..target.clone() };
    let mut write = stages::write(api, asked, kind, &of_budget, Some("status"))?;
    write.dry_run |= options.is_dry_run();
    let now = object::time(write.now);
    let pod_name = meta(pod, "name");
    subresource::change(write, |budget| {
        let status = &budget["status"];
        let refused = |cause| Err(Status::forbidden("policy", "poddisruptionbudget", &name, cause));
        if status["observedGeneration"].as_i64().unwrap_or(0)
            < budget["metadata"]["generation"].as_i64().unwrap_or(0)
        {
            return Err(unprocessed(&name));
        }
        let allowed = status["disruptionsAllowed"].as_i64().unwrap_or(0);
        if allowed < 0 {
            return refused("pdb disruptions allowed is negative");
        }
        if status["disruptedPods"].as_object().is_some_and(|pods| pods.len() > PENDING) {
            return refused("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
        }
        if allowed == 0 {
            let (needed, now) = (&status["desiredHealthy"], &status["currentHealthy"]);
            let cause =
                format!("The disruption budget {name} needs {needed} healthy pods and has {now} currently");
            return Err(exhausted(cause, 0));
        }
        budget["status"]["disruptionsAllowed"] = json!(allowed - 1);
        if allowed == 1 {
            used_up(&mut budget["status"], &now);
        }
        budget["status"]["disruptedPods"][pod_name] = now.clone();
        Ok(())
    })
    .await
    .map(|_| Meant::Whatever)
}

/// The budget's condition says at once that nothing more may go.
fn used_up(status: &mut Value, now: &Value) {
    let generation = status["observedGeneration"].clone();
    let conditions = status["conditions"].as_array_mut().into_iter().flatten();
    for condition in conditions.filter(|condition| condition["type"] == "DisruptionAllowed") {
        if condition["status"] != "False" {
            condition["lastTransitionTime"] = now.clone();
        }
        condition["status"] = json!("False");
        condition["reason"] = json!("InsufficientPods");
        condition["message"] = json!("");
        condition["observedGeneration"] = generation.clone();
    }
}

fn unprocessed(budget: &str) -> Status {
    exhausted(format!("The disruption budget {budget} is still being processed by the server."), 10)
}

fn exhausted(cause: String, retry_after: u64) -> Status {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = Status::too_many_requests(message, retry_after);
    if retry_after == 0 {
        status.details = json!({});
    }
    status.details["causes"] = json!([{"reason": "DisruptionBudget", "message": cause}]);
    status
}

fn covers(budget: &Value, pod: &Value) -> bool {
    let Ok(selector) = serde_json::from_value(budget["spec"]["selector"].clone()) else { return false };
    let labels: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector = &selector;
    Labels::from(labels).matches(|key| pod["metadata"]["labels"][key].as_str())
}

fn ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
