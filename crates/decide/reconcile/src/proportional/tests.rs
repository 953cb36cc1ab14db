use serde_json::{Value, json};

use super::*;
use crate::action::{Resource, Target};
use crate::testing::{at, object, summary};

/// Nodes of so many cores: each has pods, but for `cordoned` and `silent` ones. Every second one is of pool `b`.
fn nodes(flags: &[(&str, &str)]) -> Vec<Arc<Node>> {
    let node = |(number, (cores, flag)): (usize, &(&str, &str))| {
        let ready = if *flag == "silent" { "Unknown" } else { "True" };
        Arc::new(object(json!({
            "metadata": {"name": format!("n{number}"), "labels": {"pool": if number % 2 == 0 { "a" } else { "b" }}},
            "spec": {"unschedulable": *flag == "cordoned"},
            "status": {"allocatable": {"cpu": cores}, "conditions": [{"type": "Ready", "status": ready}]},
        })))
    };
    flags.iter().enumerate().map(node).collect()
}

fn autoscaler(rule: Value) -> ProportionalAutoscaler {
    let mut spec = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "dns"}});
    for (key, value) in rule.as_object().unwrap() {
        spec[key] = value.clone();
    }
    object(json!({"metadata": {"name": "dns", "namespace": "ns", "generation": 2}, "spec": spec}))
}

fn scale(replicas: i32) -> Scale {
    let resource =
        Resource { api_version: "apps/v1".into(), kind: "Deployment".into(), plural: "deployments".into() };
    Scale {
        target: Target { resource, namespace: "ns".into(), name: "dns".into() },
        resource_version: Some("1".into()),
        wanted: replicas,
        present: replicas,
        selector: String::new(),
    }
}

fn look(
    autoscaler: &ProportionalAutoscaler,
    scale: Result<&Scale, &str>,
    rival: Option<&str>,
) -> Vec<Action> {
    let nodes = nodes(&[("4", ""), ("4", "")]);
    decide(&Observed { autoscaler, scale, is_watched: true, nodes: &nodes, rival }, at(0))
}

/// The autoscaler with the status that was written.
fn after(autoscaler: &ProportionalAutoscaler, actions: &[Action]) -> ProportionalAutoscaler {
    let written = actions.iter().find_map(|action| match action {
        Action::Patch(patch) if patch.subresource == Some("status") => Some(patch.body["status"].clone()),
        _ => None,
    });
    let mut status = serde_json::to_value(&autoscaler.status).unwrap();
    for (field, value) in written.unwrap().as_object().unwrap() {
        status[field] = value.clone();
    }
    ProportionalAutoscaler { status: Some(object(status)), ..autoscaler.clone() }
}

#[test]
fn nodes_and_cores_ask_for_replicas() {
    let many = |count: usize, cores: &'static str| nodes(&vec![(cores, ""); count]);
    let linear = |rule: Value| json!({"linear": rule});
    let both = json!({"coresPerReplica": 256, "nodesPerReplica": 16, "preventSinglePointFailure": true});
    let bounded = |min: i32, max: i32| linear(json!({"nodesPerReplica": 2, "min": min, "max": max}));
    let ladder = |rule: Value| json!({"ladder": rule});
    let steps =
        ladder(json!({"coresToReplicas": [[512, 5], [1, 1], [64, 3]], "nodesToReplicas": [[1, 1], [2, 2]]}));
    let lonely = linear(json!({"coresPerReplica": 1000, "max": 1, "preventSinglePointFailure": true}));
    let mixed = || nodes(&[("1500m", ""), ("2", "cordoned"), ("1200m", ""), ("4", "silent")]);
    let only = |labels: Value, rule: Value| {
        let mut rule = rule;
        rule["nodeSelector"] = labels;
        rule
    };
    let all = json!({"nodesPerReplica": 1, "includeUnschedulableNodes": true});
    use Limit::{Max, Min, Nothing};
    let cases = [
        ("one node", linear(both.clone()), many(1, "4"), 1, Nothing),
        ("two nodes are two points", linear(both.clone()), many(2, "4"), 2, Nothing),
        ("nodes lead", linear(both.clone()), many(100, "4"), 7, Nothing),
        ("cores lead", linear(both), many(100, "64"), 25, Nothing),
        ("a part of a replica is one", linear(json!({"coresPerReplica": 3})), many(1, "4"), 2, Nothing),
        ("fractions", linear(json!({"coresPerReplica": 0.5})), many(1, "2"), 4, Nothing),
        ("the fewest", bounded(3, 10), many(2, "4"), 3, Min),
        ("the most", bounded(3, 10), many(100, "4"), 10, Max),
        ("exactly the most", bounded(3, 10), many(20, "4"), 10, Nothing),
        ("no limits", bounded(0, 0), many(100, "4"), 50, Nothing),
        ("nothing there", linear(json!({"nodesPerReplica": 2})), Vec::new(), 1, Min),
        ("two points even with a maximum of one", lonely, many(2, "4"), 2, Nothing),
        ("cores of all, rounded up", linear(json!({"coresPerReplica": 1})), mixed(), 3, Nothing),
        ("cordoned and silent ones count if asked", linear(all.clone()), mixed(), 4, Nothing),
        (
            "a part of the nodes",
            only(json!({"matchLabels": {"pool": "b"}}), linear(all)),
            mixed(),
            2,
            Nothing,
        ),
        ("first step", steps.clone(), many(1, "4"), 1, Nothing),
        ("by nodes", steps.clone(), many(3, "4"), 2, Nothing),
        ("on a step", steps.clone(), many(16, "4"), 3, Nothing),
        ("below a step", steps.clone(), many(127, "4"), 3, Nothing),
        ("above the last", steps, many(1000, "4"), 5, Nothing),
        ("below the first", ladder(json!({"nodesToReplicas": [[3, 2], [5, 4]]})), many(1, "4"), 2, Nothing),
        ("down to none", ladder(json!({"nodesToReplicas": [[0, 0], [5, 4]]})), many(4, "4"), 0, Nothing),
        ("steps of silent ones", ladder(json!({"nodesToReplicas": [[1, 1], [3, 9]]})), mixed(), 1, Nothing),
    ];
    for (name, rule, nodes, replicas, limit) in cases {
        let spec = autoscaler(rule).spec;
        assert_eq!(Size::of(&nodes, &spec).asks_for(&spec), Wanted { replicas, limit }, "{name}");
    }
}

#[test]
fn a_change_is_written_told_and_stands_in_the_status() {
    let rule = autoscaler(json!({"linear": {"nodesPerReplica": 1}}));
    let actions = look(&rule, Ok(&scale(1)), None);
    let lines: Vec<_> = actions.iter().map(summary).collect();
    assert_eq!(lines[0], "patch Deployment/scale dns {\"spec\":{\"replicas\":2}}");
    assert_eq!(lines[1], "event SuccessfulRescale New size: 2; reason: 2 nodes with 8 cores");
    assert_eq!(lines.len(), 3, "{lines:?}");
    let rule = after(&rule, &actions);
    let status = rule.status.clone().unwrap();
    let figures = (status.nodes, status.cores, status.current_replicas, status.desired_replicas);
    assert_eq!((figures, status.observed_generation), ((2, 8, 1, 2), Some(2)));
    let shown = |status: &Status| {
        let text = |one: &Condition| format!("{}={} {}", one.type_, one.status, one.reason);
        status.conditions.iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(
        shown(&status),
        ["ScalingLimited=False DesiredWithinRange", "AbleToScale=True SucceededRescale"]
    );

    let settled = after(&rule, &look(&rule, Ok(&scale(2)), None));
    assert_eq!(shown(settled.status.as_ref().unwrap())[1], "AbleToScale=True ReadyForNewScale");
    assert_eq!(look(&settled, Ok(&scale(2)), None), [], "quiet at rest");
}

#[test]
fn what_cannot_be_scaled_is_told_once() {
    let rule = autoscaler(json!({"linear": {"nodesPerReplica": 1}}));
    let cases: [(Result<&Scale, &str>, Option<&str>, &str); 2] = [
        (
            Err("deployments.apps \"dns\" not found"),
            None,
            "FailedGetScale unable to get the target's current scale: deployments.apps \"dns\" not found",
        ),
        (
            Ok(&scale(9)),
            Some("HorizontalPodAutoscaler web"),
            "AmbiguousTarget the target is scaled by HorizontalPodAutoscaler web already",
        ),
    ];
    for (scale, rival, expected) in cases {
        let actions = look(&rule, scale, rival);
        assert_eq!(summary(&actions[0]), format!("event {expected}"));
        let again = look(&after(&rule, &actions), scale, rival);
        assert!(again.iter().all(|action| matches!(action, Action::RequeueAfter(PERIOD))), "{again:?}");
    }
}

#[test]
fn a_refused_change_is_told() {
    let rule = autoscaler(json!({"linear": {"nodesPerReplica": 1}}));
    let action = look(&rule, Ok(&scale(1)), None).swap_remove(0);
    let message = "exceeded quota".to_owned();
    let failure = Failure { action, code: 403, reason: String::new(), message, causes: Vec::new() };
    let nodes = nodes(&[("4", ""), ("4", "")]);
    let scale = scale(1);
    let observed =
        Observed { autoscaler: &rule, scale: Ok(&scale), is_watched: true, nodes: &nodes, rival: None };
    let told = report(&observed, at(0), &failure);
    let expected = "event FailedRescale New size: 2; reason: 2 nodes with 8 cores; error: exceeded quota";
    assert_eq!(summary(&told[0]), expected);
    assert_eq!(after(&rule, &told).status.unwrap().conditions[0].reason, "FailedUpdateScale");
}

#[test]
fn the_older_of_two_goes_first() {
    let named = |name: &str, target: &str, second: i64| {
        let mut one = autoscaler(json!({}));
        one.metadata.name = Some(name.to_owned());
        one.metadata.creation_timestamp = Some(Time(at(second)));
        one.spec.scale_target_ref.name = target.to_owned();
        one
    };
    let cases = [
        (named("b", "dns", 1), named("a", "dns", 2), true),
        (named("b", "dns", 2), named("a", "dns", 2), false),
        (named("a", "web", 1), named("b", "dns", 2), false),
    ];
    for (one, other, expected) in cases {
        assert_eq!(precedes(&one, &other), expected);
    }
}
