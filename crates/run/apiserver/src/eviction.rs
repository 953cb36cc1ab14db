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
    let pod = subresource::parent(api, kind, target).await?;
    if !ends_anyway(&pod) {
        spend_budget(api, asked, target, &pod, &options).await?;
    }
    let mut write = stages::write(api, asked, kind, target, None)?;
    write.judged = Judged::Before;
    write.dry_run |= options.is_dry_run();
    write.delete(&options).await?;
    Ok(subresource::done(StatusCode::CREATED))
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
) -> Result<(), Status> {
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
        [] => return Ok(()),
        [budget] => budget,
        _ => {
            return Err(Status::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
    let healthy = budget["status"]["currentHealthy"].as_i64() >= budget["status"]["desiredHealthy"].as_i64();
    if !ready(pod) && (always || healthy) {
        return Ok(());
    }
    let name = meta(budget, "name").to_owned();
    let of_budget = ResourcePath { name: name.clone(), resource: kind.plural.to_owned(), ..target.clone() };
    let mut write = stages::write(api, asked, kind, &of_budget, Some("status"))?;
    write.dry_run |= options.is_dry_run();
    let now = object::time(write.now);
    let pod_name = meta(pod, "name");
    subresource::change(write, |budget| {
        let status = &budget["status"];
        let blocked = |cause: String| {
            let details = json!({"causes": [{"reason": "DisruptionBudget", "message": cause}]});
            Err(Status {
                details,
                ..Status::too_many_requests(
                    "Cannot evict pod as it would violate the pod's disruption budget.",
                    0,
                )
            })
        };
        if status["observedGeneration"].as_i64().unwrap_or(0)
            < budget["metadata"]["generation"].as_i64().unwrap_or(0)
        {
            return blocked(format!("The disruption budget {name} is still being processed by the server."));
        }
        let allowed = status["disruptionsAllowed"].as_i64().unwrap_or(0);
        if allowed <= 0 {
            let (needed, now) = (&status["desiredHealthy"], &status["currentHealthy"]);
            return blocked(format!(
                "The disruption budget {name} needs {needed} healthy pods and has {now} currently"
            ));
        }
        budget["status"]["disruptionsAllowed"] = json!(allowed - 1);
        budget["status"]["disruptedPods"][pod_name] = now.clone();
        Ok(())
    })
    .await
    .map(drop)
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
