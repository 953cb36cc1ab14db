//! What extenders are asked and what their answers mean (k8s.io/kube-scheduler/extender/v1).
//!
//! What leaves are bodies of requests; what enters are answers, which may be wrong: nodes that nobody asked about are
//! an error, and scores of such nodes count nothing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value, json};

use crate::configuration::ExtenderFields;
use crate::pod::PodInfo;
use crate::preemption::Preemption;

/// The best score that an extender gives.
const MAX_SCORE: i64 = 10;

/// Nodes and their scores.
pub type Scored = Vec<(String, i64)>;

/// Why an extender refuses a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In its words.
    pub reason: String,
    /// The end of other pods could help.
    pub is_resolvable: bool,
}

/// Whether the pod asks for something that the extender manages.
pub fn is_interested(extender: &ExtenderFields, pod: &Pod) -> bool {
    let managed: BTreeSet<&str> = extender.managed_resources.iter().map(|one| one.name.as_str()).collect();
    if managed.is_empty() {
        return true;
    }
    let spec = pod.spec.as_ref();
    let containers =
        spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
    let mut asked = containers.filter_map(|one| one.resources.as_ref()).flat_map(|resources| {
        resources
            .requests
            .iter()
            .flatten()
            .chain(resources.limits.iter().flatten())
            .map(|(name, _)| name.as_str())
    });
    asked.any(|name| managed.contains(name))
}

/// The question about some nodes; `object` finds their objects.
pub fn arguments<'a>(
    extender: &ExtenderFields,
    pod: &Pod,
    nodes: impl Iterator<Item = &'a str>,
    object: impl Fn(&str) -> Option<Value>,
) -> Value {
    if extender.node_cache_capable {
        return json!({"Pod": pod, "Nodes": null, "NodeNames": nodes.collect::<Vec<_>>()});
    }
    let items: Vec<Value> = nodes.filter_map(object).collect();
    json!({"Pod": pod, "Nodes": {"metadata": {}, "items": items}, "NodeNames": null})
}

/// The nodes of `asked` that the extender leaves, and why it refuses the others.
///
/// # Errors
/// What it says went wrong, or what is wrong with its answer.
pub fn filtered(
    extender: &ExtenderFields,
    asked: &Scored,
    answer: &Value,
) -> Result<(Scored, BTreeMap<String, Refusal>), String> {
    let answer = folded(answer);
    if let Some(error) = answer.get("error").and_then(Value::as_str).filter(|error| !error.is_empty()) {
        return Err(error.to_owned());
    }
    let left: BTreeSet<&str> = match (answer.get("nodenames"), answer.get("nodes")) {
        (Some(Value::Array(names)), _) if extender.node_cache_capable => {
            names.iter().filter_map(Value::as_str).collect()
        }
        (_, Some(Value::Object(list))) => {
            let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
            items.filter_map(|node| node["metadata"]["name"].as_str()).collect()
        }
        _ => BTreeSet::new(),
    };
    if let Some(name) = left.iter().find(|name| !asked.iter().any(|(known, _)| known == *name)) {
        return Err(format!(
            "extender {:?} claims a filtered node {name:?} which is not found in the input node list",
            extender.url_prefix
        ));
    }
    let kept: Scored = asked.iter().filter(|(name, _)| left.contains(name.as_str())).cloned().collect();
    let reasons = |field: &str| answer.get(field).and_then(Value::as_object).cloned().unwrap_or_default();
    let (hard, soft) = (reasons("failedandunresolvablenodes"), reasons("failednodes"));
    let refused = asked.iter().filter(|(name, _)| !left.contains(name.as_str())).map(|(name, _)| {
        let said = hard.get(name).or_else(|| soft.get(name)).and_then(Value::as_str);
        let reason = said.filter(|reason| !reason.is_empty());
        // Upstream counts nodes without a reason under none.
        let reason = reason.map_or_else(|| format!("FilteredOut by {}", extender.url_prefix), str::to_owned);
        (name.clone(), Refusal { reason, is_resolvable: !hard.contains_key(name) })
    });
    Ok((kept, refused.collect()))
}

/// Adds an extender's scores.
pub fn add_scores(extender: &ExtenderFields, nodes: &mut Scored, answer: &Value) {
    for score in answer.as_array().into_iter().flatten().map(folded) {
        let host = score.get("host").and_then(Value::as_str).unwrap_or_default();
        let given = score.get("score").and_then(Value::as_i64).unwrap_or(0);
        if let Some((_, sum)) = nodes.iter_mut().find(|(name, _)| name == host) {
            // Its best is worth as much as the best of a plugin.
            *sum = sum.saturating_add(given.saturating_mul(extender.weight).saturating_mul(100 / MAX_SCORE));
        }
    }
}

/// The question where room may be made; `object` finds the objects of the pods that would end.
pub fn preemption(
    extender: &ExtenderFields,
    pod: &Pod,
    found: &[Preemption],
    object: impl Fn(&PodInfo) -> Option<Value>,
) -> Value {
    let meta = extender.node_cache_capable;
    let victims = |one: &Preemption| {
        let victims = one.victims.iter();
        let pods: Vec<Value> = match meta {
            true => victims.map(|victim| json!({"UID": *victim.uid})).collect(),
            false => victims.filter_map(|victim| object(victim)).collect(),
        };
        json!({"Pods": pods, "NumPDBViolations": one.broken_budgets})
    };
    let nodes: Map<String, Value> = found.iter().map(|one| (one.node.clone(), victims(one))).collect();
    let field = if meta { "NodeNameToMetaVictims" } else { "NodeNameToVictims" };
    json!({"Pod": pod, field: nodes})
}

/// What the extender leaves of it: the nodes that it names, with the pods that it names.
///
/// # Errors
/// It names a pod that was not to end.
pub fn reviewed(
    extender: &ExtenderFields,
    found: Vec<Preemption>,
    answer: &Value,
) -> Result<Vec<Preemption>, String> {
    let answer = folded(answer);
    let nodes = answer.get("nodenametometavictims");
    let named = |one: Preemption| Some((nodes?.get(&one.node)?, one));
    found.into_iter().filter_map(named).map(|(left, one)| narrowed(extender, one, &folded(left))).collect()
}

fn narrowed(
    extender: &ExtenderFields,
    mut one: Preemption,
    left: &Map<String, Value>,
) -> Result<Preemption, String> {
    let pods = left.get("pods").and_then(Value::as_array).into_iter().flatten().map(folded);
    let named: BTreeSet<String> =
        pods.filter_map(|pod| pod.get("uid").and_then(Value::as_str).map(str::to_owned)).collect();
    if let Some(uid) = named.iter().find(|uid| !one.victims.iter().any(|victim| *victim.uid == ***uid)) {
        return Err(format!(
            "extender: {} claims to preempt pod (UID: &{{{uid}}}) on node: {}, but the pod is not found on that node",
            extender.url_prefix, one.node
        ));
    }
    one.victims.retain(|victim| named.contains(&*victim.uid));
    let broken = left.get("numpdbviolations").and_then(Value::as_u64);
    one.broken_budgets = broken.and_then(|broken| usize::try_from(broken).ok()).unwrap_or(0);
    Ok(one)
}

/// The order to bind a pod.
pub fn binding(namespace: &str, name: &str, uid: &str, node: &str) -> Value {
    json!({"PodName": name, "PodNamespace": namespace, "PodUID": uid, "Node": node})
}

/// What went wrong with it, if so.
pub fn binding_error(answer: &Value) -> Option<String> {
    folded(answer).get("error")?.as_str().filter(|error| !error.is_empty()).map(str::to_owned)
}

/// The fields of an answer, whose names Go reads in any case.
fn folded(answer: &Value) -> Map<String, Value> {
    let fields = answer.as_object().into_iter().flatten();
    fields.map(|(name, value)| (name.to_lowercase(), value.clone())).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn extender(more: Value) -> ExtenderFields {
        let mut all = json!({"urlPrefix": "http://e", "weight": 2});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn nodes() -> Scored {
        ["a", "b", "c"].iter().map(|name| ((*name).to_owned(), 10)).collect()
    }

    #[test]
    fn answers() {
        let cache = extender(json!({"nodeCacheCapable": true}));
        let plain = extender(json!({}));
        let names = |answer: &Result<(Scored, BTreeMap<String, Refusal>), String>| match answer {
            Ok((left, refused)) => {
                let left: Vec<&str> = left.iter().map(|(name, _)| name.as_str()).collect();
                let refused: Vec<String> = refused
                    .iter()
                    .map(|(name, why)| format!("{name}: {} {}", why.reason, why.is_resolvable))
                    .collect();
                format!("{} | {}", left.join(","), refused.join(", "))
            }
            Err(why) => why.clone(),
        };
        let none = "FilteredOut by http://e true";
        let table = [
            (&cache, json!({"NodeNames": ["a", "c"], "FailedNodes": {"b": "no"}}), "a,c | b: no true".to_owned()),
            (&cache, json!({"nodenames": ["a", "c"], "failedAndUnresolvableNodes": {"b": "never"}}), "a,c | b: never false".to_owned()),
            (&plain, json!({"Nodes": {"items": [{"metadata": {"name": "b"}}]}}), format!("b | a: {none}, c: {none}")),
            (&plain, json!({}), format!(" | a: {none}, b: {none}, c: {none}")),
            (&cache, json!({"NodeNames": ["z"]}), "extender \"http://e\" claims a filtered node \"z\" which is not found in the input node list".to_owned()),
            (&cache, json!({"NodeNames": ["a"], "Error": "broken"}), "broken".to_owned()),
        ];
        for (extender, answer, expected) in table {
            assert_eq!(names(&filtered(extender, &nodes(), &answer)), expected, "{answer}");
        }
        let mut scored = nodes();
        add_scores(&plain, &mut scored, &json!([{"Host": "b", "Score": 7}, {"host": "z", "score": 9}]));
        assert_eq!(scored[1], ("b".to_owned(), 10 + 7 * 2 * 10));
        assert_eq!(binding_error(&json!({"Error": "no"})).as_deref(), Some("no"));
        assert_eq!(binding_error(&json!({})), None);
    }

    #[test]
    fn who_ends_is_reviewed() {
        use std::sync::Arc;
        let victim = |uid: &str| {
            let pod = serde_json::from_value(json!({"metadata": {"uid": uid, "name": uid}})).unwrap();
            Arc::new(PodInfo::of(&pod, Arc::default()))
        };
        let found = || {
            let one = |node: &str, victims: &[&str], broken_budgets| Preemption {
                node: node.to_owned(),
                victims: victims.iter().map(|uid| victim(uid)).collect(),
                broken_budgets,
            };
            vec![one("n", &["a", "b"], 1), one("m", &["c"], 0)]
        };
        let (cache, plain) = (extender(json!({"nodeCacheCapable": true})), extender(json!({})));
        let object = |pod: &PodInfo| Some(json!({"metadata": {"name": pod.name}}));
        let asked = |extender: &ExtenderFields| preemption(extender, &Pod::default(), &found(), object);
        let meta = json!({"n": {"Pods": [{"UID": "a"}, {"UID": "b"}], "NumPDBViolations": 1},
            "m": {"Pods": [{"UID": "c"}], "NumPDBViolations": 0}});
        assert_eq!(asked(&cache)["NodeNameToMetaVictims"], meta);
        assert_eq!(asked(&plain)["NodeNameToVictims"]["n"]["Pods"][1]["metadata"]["name"], "b");
        let left = |answer: Value| {
            reviewed(&plain, found(), &json!({"NodeNameToMetaVictims": answer})).map(|left| {
                let one = |one: &Preemption| {
                    let victims: Vec<String> =
                        one.victims.iter().map(|victim| victim.uid.to_string()).collect();
                    format!("{}: {} {}", one.node, victims.join(","), one.broken_budgets)
                };
                left.iter().map(one).collect::<Vec<_>>().join("; ")
            })
        };
        assert_eq!(left(meta), Ok("n: a,b 1; m: c 0".to_owned()));
        assert_eq!(left(json!({"n": {"pods": [{"uid": "b"}]}})), Ok("n: b 0".to_owned()));
        assert_eq!(left(json!({"other": {"Pods": []}})), Ok(String::new()));
        assert!(
            left(json!({"n": {"Pods": [{"UID": "z"}]}}))
                .unwrap_err()
                .contains("but the pod is not found on that node")
        );
    }

    #[test]
    fn interest_and_questions() {
        let gpu = extender(json!({"managedResources": [{"name": "x.io/gpu"}]}));
        let pod = |limits: Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": {"limits": limits}}]}})).unwrap()
        };
        assert!(
            is_interested(&gpu, &pod(json!({"x.io/gpu": "1"})))
                && !is_interested(&gpu, &pod(json!({"cpu": "1"})))
        );
        assert!(is_interested(&extender(json!({})), &pod(json!({}))));
        let object = |name: &str| (name != "gone").then(|| json!({"metadata": {"name": name}}));
        let asked = |extender: &ExtenderFields| {
            arguments(extender, &pod(json!({})), ["a", "gone"].into_iter(), object)
        };
        assert_eq!(asked(&gpu)["Nodes"]["items"], json!([{"metadata": {"name": "a"}}]));
        let cache = asked(&extender(json!({"nodeCacheCapable": true})));
        assert_eq!(
            (&cache["NodeNames"], &cache["Pod"]["metadata"]["name"]),
            (&json!(["a", "gone"]), &json!("p"))
        );
    }
}
