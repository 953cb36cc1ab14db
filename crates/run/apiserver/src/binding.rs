//! `pods/binding` and `bindings`: a scheduler says which node runs a pod.

use http::{Request, Response, StatusCode};
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use serde_json::{Value, json};

use crate::admit::{Operation, chain};
use crate::body::{RequestBody, ResponseBody};
use crate::object::{self, deleting, meta};
use crate::server::Api;
use crate::stages::{self, Asked};
use crate::subresource::{self, same_name};
use crate::target::ResourcePath;
use crate::write::Judged;

const BINDING: (&str, &str, &str) = ("v1", "Binding", "io.k8s.api.core.v1.Binding");

pub(crate) async fn create(
    api: &Api,
    asked: &Asked,
    kind: &'static Kind,
    target: &ResourcePath,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Status> {
    let mut binding = subresource::typed_body(asked, request, BINDING).await?;
    same_name(&binding, target)?;
    chain::action(api, asked, kind, target, Operation::Create, &mut binding).await?;
    commit(api, asked, kind, target, &binding).await
}

/// Binds the pod that a Binding names: `POST bindings`, the form of before there was `pods/binding`.
pub(crate) async fn create_apart(
    api: &Api,
    asked: &Asked,
    target: &ResourcePath,
    binding: &Value,
) -> Result<Response<ResponseBody>, Status> {
    let pods = plimsoll_catalogue::find("", "v1", "pods").expect("pods are in the catalogue");
    let pod = ResourcePath { name: meta(binding, "name").to_owned(), ..target.clone() };
    commit(api, asked, pods, &pod, binding).await
}

async fn commit(
    api: &Api,
    asked: &Asked,
    pods: &'static Kind,
    target: &ResourcePath,
    binding: &Value,
) -> Result<Response<ResponseBody>, Status> {
    let kind = plimsoll_catalogue::find("", "v1", "bindings").expect("bindings are in the catalogue");
    let problems = kind.strategy.validate(binding);
    if !problems.is_empty() {
        return Err(Status::invalid("", "Binding", &target.name, &problems));
    }
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    let mut write = stages::write(api, asked, pods, target, Some("binding"))?;
    write.judged = Judged::Before;
    let now = object::time(write.now);
    subresource::change(write, |pod| bind(pod, binding, node, &now, &target.name)).await?;
    Ok(subresource::done(StatusCode::CREATED))
}

fn bind(pod: &mut Value, binding: &Value, node: &str, now: &Value, name: &str) -> Result<(), Status> {
    let conflict = |cause: String| Err(Status::conflict("", "pods/binding", name, cause));
    let uid = meta(binding, "uid");
    if !uid.is_empty() && uid != meta(pod, "uid") {
        return conflict(format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta(pod, "uid")
        ));
    }
    if deleting(pod) {
        return conflict(format!("pod {name} is being deleted, cannot be assigned to a host"));
    }
    match pod["spec"]["nodeName"].as_str().unwrap_or_default() {
        "" => {}
        taken => return conflict(format!("pod {name} is already assigned to node {taken:?}")),
    }
    if pod["spec"]["schedulingGates"].as_array().is_some_and(|gates| !gates.is_empty()) {
        return conflict(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    pod["spec"]["nodeName"] = json!(node);
    for field in ["annotations", "labels"] {
        for (key, value) in binding["metadata"][field].as_object().into_iter().flatten() {
            pod["metadata"][field][key] = value.clone();
        }
    }
    let mut conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.retain(|condition| condition["type"] != "PodScheduled");
    conditions.push(
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now}),
    );
    pod["status"]["conditions"] = Value::Array(conditions);
    // The node that room was to be made on is settled.
    if let Some(status) = pod["status"].as_object_mut() {
        status.remove("nominatedNodeName");
    }
    Ok(())
}
