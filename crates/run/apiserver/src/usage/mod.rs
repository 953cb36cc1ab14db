//! metrics.k8s.io, served here unless an extension server has taken the group: what nodes and pods use.
//!
//! What enters are the figures of node agents; what leaves are NodeMetrics and PodMetrics. An APIService of the user's
//! for the same group version takes its place, as metrics-server's does.

pub(crate) mod published;
mod sample;
pub(crate) mod sampler;

use std::sync::Arc;

use http::{Method, Response, StatusCode};
use jiff::Timestamp;
use plimsoll_meta::quantity::Quantity;
use plimsoll_meta::selector::{Fields, Labels};
use plimsoll_meta::status::Status;
use serde_json::{Value, json};

use crate::authenticate::stored;
use crate::body::{self, ResponseBody};
use crate::negotiate;
use crate::object::meta;
use crate::server::Api;
use crate::stages::Asked;
use crate::table::Include;
use crate::target::ResourcePath;
use sample::Usage;
pub(crate) use sampler::Sampler;
use sampler::{Used, all};

/// The group.
pub(crate) const GROUP: &str = "metrics.k8s.io";
/// Its version.
pub(crate) const VERSION: &str = "v1beta1";
/// The name of its APIService.
pub(crate) const SERVICE: &str = "v1beta1.metrics.k8s.io";

/// What is offered at `/apis/metrics.k8s.io/v1beta1`.
pub(crate) fn resources() -> Value {
    let verbs = json!(["get", "list"]);
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{GROUP}/{VERSION}"), "resources": [
        {"name": "nodes", "singularName": "node", "namespaced": false, "kind": "NodeMetrics", "verbs": verbs},
        {"name": "pods", "singularName": "pod", "namespaced": true, "kind": "PodMetrics", "verbs": verbs},
    ]})
}

/// Answers a request for metrics.
pub(crate) async fn serve(
    api: &Arc<Api>,
    asked: &Asked,
    target: &ResourcePath,
) -> Result<Response<ResponseBody>, Status> {
    let is_read = asked.method == Method::GET || asked.method == Method::HEAD;
    let kind = match target.resource.as_str() {
        "nodes" if target.namespace.is_empty() => "NodeMetrics",
        "pods" => "PodMetrics",
        _ => return Err(Status::no_such_path()),
    };
    if !is_read || target.watch || asked.query.flag("watch") {
        return Err(Status::method_not_allowed(GROUP, &target.resource, asked.method.as_str()));
    }
    let nowhere = kind == "PodMetrics" && target.namespace.is_empty() && !target.name.is_empty();
    if !target.subresource.is_empty() || nowhere {
        return Err(Status::no_such_path());
    }
    let of = if kind == "NodeMetrics" { of_node } else { of_pod };
    let (form, include) = (negotiate::form(&asked.headers)?, Include::of(&asked.query));
    let answer = |found| Ok(body::json(StatusCode::OK, &published::in_form(form, include, found)));
    if !target.name.is_empty() {
        let object = stored(api, &target.resource, &target.namespace, &target.name);
        let used = api.usage.used().await;
        let found = object.and_then(|object| of(&used, &object));
        let found = found.ok_or_else(|| Status::not_found(GROUP, &target.resource, &target.name))?;
        return answer(found);
    }
    let labels = Labels::parse(asked.query.get("labelSelector")).map_err(Status::bad_request)?;
    let fields = Fields::parse(asked.query.get("fieldSelector")).map_err(Status::bad_request)?;
    let used = api.usage.used().await;
    let mut items = Vec::new();
    for object in all(api, &target.resource, &target.namespace) {
        let label = |name: &str| object["metadata"]["labels"][name].as_str();
        let field = |name: &str| Some(meta(&object, name.strip_prefix("metadata.")?));
        if labels.matches(label) && fields.matches(field) {
            items.extend(of(&used, &object));
        }
    }
    answer(json!({
        "kind": format!("{kind}List"), "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": {}, "items": items,
    }))
}

fn of_node(used: &Used, node: &Value) -> Option<Value> {
    let usage = used.nodes.get(meta(node, "name"))?;
    let mut metrics = head("NodeMetrics", node, usage.at, usage.window);
    metrics["usage"] = amounts(usage);
    Some(metrics)
}

/// A pod is known when all of its running containers are.
fn of_pod(used: &Used, pod: &Value) -> Option<Value> {
    if pod["status"]["phase"] != "Running" {
        return None;
    }
    let place = |container: &str| {
        let part = |field| meta(pod, field).to_owned();
        (part("namespace"), part("name"), container.to_owned())
    };
    let statuses = |field: &str| pod["status"][field].as_array().cloned().unwrap_or_default();
    let (mut containers, mut first, mut last) = (Vec::new(), i64::MAX, i64::MIN);
    let running = |one: &Value| one["state"]["running"].is_object();
    for one in statuses("initContainerStatuses")
        .iter()
        .chain(&statuses("containerStatuses"))
        .filter(|one| running(one))
    {
        let name = one["name"].as_str().unwrap_or_default();
        let usage = used.containers.get(&place(name))?;
        (first, last) = (first.min(usage.at - usage.window), last.max(usage.at));
        containers.push(json!({"name": name, "usage": amounts(usage)}));
    }
    if containers.is_empty() {
        return None;
    }
    let mut metrics = head("PodMetrics", pod, last, last - first);
    metrics["containers"] = Value::Array(containers);
    Some(metrics)
}

fn head(kind: &str, object: &Value, at: i64, window: i64) -> Value {
    let time = |millis: i64| {
        let seconds = Timestamp::from_second(millis.div_euclid(1000)).unwrap_or_default();
        seconds.to_string()
    };
    let mut metadata = json!({
        "name": object["metadata"]["name"],
        "creationTimestamp": time(Timestamp::now().as_millisecond()),
    });
    for field in ["namespace", "labels"] {
        if !object["metadata"][field].is_null() {
            metadata[field] = object["metadata"][field].clone();
        }
    }
    json!({
        "kind": kind, "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": metadata,
        "timestamp": time(at), "window": format!("{}s", window as f64 / 1000.0),
    })
}

fn amounts(usage: &Usage) -> Value {
    let cpu = format!("{}n", usage.cpu).parse::<Quantity>();
    let memory = format!("{}Ki", usage.memory / 1024).parse::<Quantity>();
    let text =
        |quantity: Result<Quantity, _>| quantity.map(|it: Quantity| it.to_string()).unwrap_or_default();
    json!({"cpu": text(cpu), "memory": text(memory)})
}
