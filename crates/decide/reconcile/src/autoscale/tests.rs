use serde_json::{Value, json};

use super::*;
use crate::action::Resource;
use crate::testing::{at, object, summary};

const NOW: i64 = 10_000;

/// A pod that runs and asks for a processor; `flags`: unready, pending, failed, young.
fn pod_of(number: usize, flags: &str) -> Arc<Pod> {
    let has = |flag: &str| flags.split(' ').any(|one| one == flag);
    let ready = if has("unready") || has("pending") { "False" } else { "True" };
    let started = if has("young") { NOW - 60 } else { NOW - 3600 };
    let phase = if has("pending") { "Pending" } else { "Running" };
    let phase = if has("failed") { "Failed" } else { phase };
    Arc::new(object(json!({
        "metadata": {"name": format!("p{number}"), "namespace": "ns", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]},
        "status": {"phase": phase, "startTime": at(started).to_string(),
            "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": at(started + 10).to_string()}]},
    })))
}

fn hpa(spec: Value) -> HorizontalPodAutoscaler {
    let mut whole = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "minReplicas": 1, "maxReplicas": 100});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    object(json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": whole}))
}

fn scale(replicas: i32) -> Scale {
    let resource =
        Resource { api_version: "apps/v1".into(), kind: "Deployment".into(), plural: "deployments".into() };
    let target = Target { resource, namespace: "ns".into(), name: "web".into() };
    Scale {
        target,
        resource_version: Some("1".into()),
        wanted: replicas,
        present: replicas,
        selector: "app=web".into(),
    }
}

fn cpu(utilization: i32) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": utilization}}})
}

/// Thousandths of a processor of each pod; a negative number is a pod without metrics.
fn used(levels: &[i64]) -> Reading {
    let sample = |value: i64| Sample { value, at: at(NOW - 5), window: SignedDuration::from_secs(15) };
    let known = levels.iter().enumerate().filter(|(_, level)| **level >= 0);
    Reading::Pods(Ok(known.map(|(number, level)| (format!("p{number}"), sample(*level))).collect()))
}

/// A name, what is aimed at, what the pods use and are, and how many there should be.
type Loaded<'a> = (&'a str, i32, &'a [(i64, &'a str)], i32);

type Change<'a> = &'a dyn Fn(&mut Play<'_>);

struct Play<'a> {
    hpa: HorizontalPodAutoscaler,
    scale: Scale,
    pods: Vec<Arc<Pod>>,
    readings: &'a [Reading],
    rivals: Vec<String>,
}

impl<'a> Play<'a> {
    fn new(spec: Value, pods: Vec<Arc<Pod>>, readings: &'a [Reading]) -> Self {
        let count = i32::try_from(pods.len()).unwrap();
        Self { hpa: hpa(spec), scale: scale(count), pods, readings, rivals: Vec::new() }
    }

    fn run(&self, memory: &mut Memory, now: i64) -> Vec<Action> {
        let observed = Observed {
            hpa: &self.hpa,
            scale: Ok(&self.scale),
            pods: &self.pods,
            rivals: &self.rivals,
            readings: self.readings,
            settings: &Settings::default(),
        };
        decide(&observed, memory, at(now)).0
    }

    /// The size that is written, or the present one.
    fn size(&self, memory: &mut Memory, now: i64) -> i32 {
        size(&self.run(memory, now)).unwrap_or(self.scale.wanted)
    }

    fn fresh(&self) -> Vec<Action> {
        self.run(&mut Memory::default(), NOW)
    }
}

fn size(actions: &[Action]) -> Option<i32> {
    actions.iter().find_map(|action| match action {
        Action::Patch(patch) if patch.subresource == Some("scale") => {
            i32::try_from(patch.body["spec"]["replicas"].as_i64()?).ok()
        }
        _ => None,
    })
}

/// `Type=Status Reason` of all conditions that are written.
fn conditions(actions: &[Action]) -> Vec<String> {
    let status = actions.iter().find_map(|action| match action {
        Action::Patch(patch) if patch.subresource == Some("status") => Some(&patch.body["status"]),
        _ => None,
    });
    let all = status.and_then(|status| status["conditions"].as_array()).cloned().unwrap_or_default();
    let text = |one: &Value| {
        let field = |name: &str| one[name].as_str().unwrap().to_owned();
        format!("{}={} {}", field("type"), field("status"), field("reason"))
    };
    all.iter().map(text).collect()
}

#[test]
fn utilization_asks_for_replicas() {
    let cases: &[Loaded<'_>] = &[
        ("up", 30, &[(300, ""), (500, ""), (700, "")], 5),
        ("up, an unready one is idle", 30, &[(300, "unready young"), (500, ""), (700, "")], 4),
        ("up, a pending one is idle", 30, &[(-1, "pending"), (500, ""), (700, "")], 4),
        ("up, a failed one is none", 30, &[(-1, "failed"), (500, ""), (700, "")], 4),
        ("up, unready now but once ready counts", 30, &[(300, "unready"), (500, ""), (700, "")], 4),
        ("down", 50, &[(100, ""), (300, ""), (500, ""), (250, ""), (250, "")], 3),
        (
            "down, an unready one is none",
            50,
            &[(100, "unready young"), (300, ""), (500, ""), (250, ""), (250, "")],
            3,
        ),
        ("within tolerance", 100, &[(1010, ""), (1030, ""), (1020, "")], 3),
        ("missing, as it was", 100, &[(1000, ""), (-1, "")], 2),
        ("missing, up is damped", 100, &[(1900, ""), (-1, "")], 2),
        ("missing, down is damped", 100, &[(600, ""), (-1, "")], 2),
        ("missing, not all turns", 100, &[(2500, ""), (-1, "")], 3),
    ];
    for (name, aim, pods, expected) in cases {
        let levels: Vec<i64> = pods.iter().map(|(level, _)| *level).collect();
        let pods = pods.iter().enumerate().map(|(number, (_, flags))| pod_of(number, flags)).collect();
        let readings = [used(&levels)];
        let play = Play::new(json!({"metrics": [cpu(*aim)]}), pods, &readings);
        // Nothing was recommended before, so that nothing is stabilized.
        let spec = json!({"scaleDown": {"stabilizationWindowSeconds": 0}, "scaleUp": {}});
        let play = Play { hpa: hpa(json!({"metrics": [cpu(*aim)], "behavior": spec})), ..play };
        assert_eq!(play.size(&mut Memory::default(), NOW), *expected, "{name}");
    }
}

#[test]
fn values_of_objects_and_of_the_world_ask_for_replicas() {
    let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "i"});
    let of_object = |target: Value| json!({"type": "Object", "object": {"describedObject": ingress, "metric": {"name": "qps"}, "target": target}});
    let external = |target: Value| json!({"type": "External", "external": {"metric": {"name": "jobs"}, "target": target}});
    let of_pods = json!({"type": "Pods", "pods": {"metric": {"name": "qps"},
        "target": {"type": "AverageValue", "averageValue": "15"}}});
    let value = |amount: &str| json!({"type": "Value", "value": amount});
    let average = |amount: &str| json!({"type": "AverageValue", "averageValue": amount});
    let one = |value| Reading::One(Ok(value));
    let cases = [
        (of_pods, used(&[20_000, 10_000, 30_000]), 3, 4),
        (of_object(value("15")), one(20_000), 3, 4),
        (of_object(average("15")), one(90_000), 3, 6),
        (external(value("4400m")), one(8600), 3, 6),
        (external(average("2150m")), one(8600), 3, 4),
        (external(average("1")), one(0), 3, 0),
        (external(value("4400m")), one(8600), 0, 2),
        (external(value("4400m")), one(0), 0, 0),
    ];
    for (metric, reading, replicas, expected) in cases {
        let readings = [reading];
        let pods = (0..replicas).map(|number| pod_of(number, "")).collect();
        let behavior = json!({"scaleDown": {"stabilizationWindowSeconds": 0}, "scaleUp": {}});
        let spec = json!({"minReplicas": 0, "metrics": [metric], "behavior": behavior});
        let mut play = Play::new(spec, pods, &readings);
        if replicas == 0 {
            play.hpa.status = Some(zero("True"));
        }
        assert_eq!(play.size(&mut Memory::default(), NOW), expected, "{metric}");
    }
}

/// A status that says whether the autoscaler scaled to zero.
fn zero(status: &str) -> HorizontalPodAutoscalerStatus {
    let condition = json!({"type": "ScaledToZero", "status": status, "reason": "r", "lastTransitionTime": at(0).to_string()});
    object(json!({"desiredReplicas": 0, "conditions": [condition]}))
}

#[test]
fn what_it_scaled_to_zero_it_scales_up_again_and_nothing_else() {
    let external = json!({"type": "External", "external": {"metric": {"name": "jobs"},
        "target": {"type": "AverageValue", "averageValue": "1"}}});
    // The smallest size, the condition, whether it goes by a metric of the world; the size then.
    let cases = [
        (0, "True", true, 3),
        (0, "False", true, 0),
        (0, "True", false, 0),
        (2, "True", true, 3),
        (5, "True", true, 5),
        (2, "False", true, 0),
    ];
    for (min, condition, is_outer, expected) in cases {
        let metric = if is_outer { external.clone() } else { cpu(50) };
        let readings = [if is_outer { Reading::One(Ok(3000)) } else { used(&[]) }];
        let mut play = Play::new(json!({"minReplicas": min, "metrics": [metric]}), Vec::new(), &readings);
        play.hpa.status = Some(zero(condition));
        let actions = play.fresh();
        assert_eq!(size(&actions).unwrap_or(0), expected, "{min} {condition} {is_outer}");
        let last = conditions(&actions).last().cloned().unwrap();
        match expected {
            0 => assert_eq!(last, "ScalingActive=False ScalingDisabled"),
            _ => assert!(conditions(&actions).contains(&"ScaledToZero=False NotScaledToZero".to_owned())),
        }
    }
    let readings = [Reading::One(Ok(0))];
    let pods = vec![pod_of(0, "")];
    let now = json!({"scaleDown": {"stabilizationWindowSeconds": 0}, "scaleUp": {}});
    let play = Play::new(json!({"minReplicas": 0, "metrics": [external], "behavior": now}), pods, &readings);
    let actions = play.fresh();
    assert_eq!(size(&actions), Some(0));
    assert_eq!(conditions(&actions).last().unwrap(), "ScaledToZero=True ScaledToZero");
}

#[test]
fn what_came_of_a_look_is_counted() {
    let external = json!({"type": "External", "external": {"metric": {"name": "jobs"},
        "target": {"type": "AverageValue", "averageValue": "1"}}});
    let pods: Vec<_> = (0..3).map(|number| pod_of(number, "")).collect();
    let run = |readings: &[Reading]| {
        let play = Play::new(json!({"metrics": [cpu(50), external]}), pods.clone(), readings);
        let observed = Observed {
            hpa: &play.hpa,
            scale: Ok(&play.scale),
            pods: &play.pods,
            rivals: &[],
            readings,
            settings: &Settings::default(),
        };
        decide(&observed, &mut Memory::default(), at(NOW)).1
    };
    let unknown = || Reading::One(Err("gone".to_owned()));
    let (none, up, down) = (super::Change::None, super::Change::Up, super::Change::Down);
    let cases = [
        (
            used(&[900; 3]),
            Reading::One(Ok(1000)),
            up,
            Trouble::None,
            [(up, Trouble::None), (down, Trouble::None)],
        ),
        (used(&[900; 3]), unknown(), up, Trouble::Internal, [(up, Trouble::None), (none, Trouble::Internal)]),
        (
            used(&[500; 3]),
            unknown(),
            none,
            Trouble::Internal,
            [(none, Trouble::None), (none, Trouble::Internal)],
        ),
    ];
    for (cpu, jobs, change, trouble, metrics) in cases {
        assert_eq!(run(&[cpu, jobs]), Outcome { change, trouble, metrics: metrics.to_vec() });
    }
}

#[test]
fn the_metric_that_asks_for_most_wins_and_unknown_ones_hold_back() {
    let external = json!({"type": "External", "external": {"metric": {"name": "jobs"},
        "target": {"type": "AverageValue", "averageValue": "1"}}});
    let spec = json!({"metrics": [cpu(50), external]});
    let pods: Vec<_> = (0..3).map(|number| pod_of(number, "")).collect();
    let unknown = || Reading::One(Err("unable to fetch metrics from external metrics API: gone".to_owned()));
    let high = [used(&[900, 900, 900]), Reading::One(Ok(4000))];
    assert_eq!(size(&Play::new(spec.clone(), pods.clone(), &high).fresh()), Some(6));
    let known = [used(&[900, 900, 900]), unknown()];
    assert_eq!(size(&Play::new(spec.clone(), pods.clone(), &known).fresh()), Some(6), "up by what is known");
    let down = [used(&[100, 100, 100]), unknown()];
    let actions = Play::new(spec, pods, &down).fresh();
    assert_eq!(size(&actions), None, "not down by a part of the metrics");
    assert_eq!(
        conditions(&actions),
        ["AbleToScale=True SucceededGetScale", "ScalingActive=False FailedGetExternalMetric"]
    );
    let told: Vec<_> = actions.iter().map(summary).filter(|line| line.starts_with("event")).collect();
    assert_eq!(
        told,
        [
            "event FailedGetExternalMetric failed to get jobs external metric: unable to fetch metrics from external \
             metrics API: gone",
            "event FailedComputeMetricsReplicas invalid metrics (1 invalid out of 2), first error is: failed to get jobs \
             external metric value: failed to get jobs external metric: unable to fetch metrics from external metrics \
             API: gone",
        ]
    );
}

#[test]
fn a_change_is_written_told_and_stands_in_the_status() {
    let readings = [used(&[900, 900, 900])];
    let pods = (0..3).map(|number| pod_of(number, "")).collect();
    let play = Play::new(json!({"metrics": [cpu(50)]}), pods, &readings);
    let actions = play.fresh();
    let lines: Vec<_> = actions.iter().map(summary).collect();
    assert_eq!(lines[0], "patch Deployment/scale web {\"spec\":{\"replicas\":6}}");
    let reason = "cpu resource utilization (percentage of request) above target";
    assert_eq!(lines[1], format!("event SuccessfulRescale New size: 6; reason: {reason}"));
    let Action::Patch(patch) = &actions[2] else { panic!("a status") };
    let status = &patch.body["status"];
    assert_eq!((&status["currentReplicas"], &status["desiredReplicas"]), (&json!(3), &json!(6)));
    let metric = json!([{"type": "Resource", "resource": {"name": "cpu",
        "current": {"averageUtilization": 90, "averageValue": "900m"}}}]);
    assert_eq!(status["currentMetrics"], metric);
    assert_eq!(
        conditions(&actions),
        [
            "AbleToScale=True SucceededRescale",
            "ScalingActive=True ValidMetricFound",
            "ScalingLimited=False DesiredWithinRange",
            "ScaledToZero=False NotScaledToZero",
        ]
    );
    assert_eq!(lines[3], "again 15s");
}

#[test]
fn what_cannot_be_scaled_says_why() {
    let pods: Vec<_> = (0..3).map(|number| pod_of(number, "")).collect();
    let readings = [used(&[900, 900, 900])];
    let play = || Play::new(json!({"metrics": [cpu(50)]}), pods.clone(), &readings);
    let with = |change: Change<'_>| {
        let mut play = play();
        change(&mut play);
        conditions(&play.fresh()).last().cloned().unwrap()
    };
    let cases: [(Change<'_>, &str); 7] = [
        (&|play| play.scale.selector.clear(), "ScalingActive=False InvalidSelector"),
        (&|play| play.scale.selector = "a in (".into(), "ScalingActive=False InvalidSelector"),
        (&|play| play.rivals.push("ns/other".into()), "ScalingActive=False AmbiguousSelector"),
        (&|play| play.scale.wanted = 0, "ScalingActive=False ScalingDisabled"),
        (&|play| play.hpa.spec.max_replicas = 2, "ScaledToZero=False NotScaledToZero"),
        (&|play| play.hpa.spec.max_replicas = 3, "ScalingLimited=True TooManyReplicas"),
        (&|play| play.pods.clear(), "ScalingActive=False FailedGetResourceMetric"),
    ];
    for (change, expected) in cases {
        assert_eq!(with(change), expected);
    }
    let play = play();
    let observed = Observed {
        hpa: &play.hpa,
        scale: Err("deployments/scale.apps \"web\" not found"),
        pods: &[],
        rivals: &[],
        readings: &[],
        settings: &Settings::default(),
    };
    let (actions, outcome) = decide(&observed, &mut Memory::default(), at(NOW));
    assert_eq!(outcome.trouble, Trouble::Internal);
    assert_eq!(conditions(&actions), ["AbleToScale=False FailedGetScale"]);
}

#[test]
fn without_rules_it_grows_twofold_and_shrinks_after_five_minutes() {
    let pods: Vec<_> = (0..5).map(|number| pod_of(number, "")).collect();
    let (busy, idle) = ([used(&[9000; 5])], [used(&[10; 5])]);
    let spec = || json!({"metrics": [cpu(50)]});
    let up = Play::new(spec(), pods.clone(), &busy);
    let actions = up.fresh();
    assert_eq!(size(&actions), Some(10));
    assert_eq!(conditions(&actions)[2], "ScalingLimited=True ScaleUpLimit");

    let down = Play::new(spec(), pods, &idle);
    let mut memory = Memory::default();
    let actions = down.run(&mut memory, NOW);
    assert_eq!((size(&actions), &*conditions(&actions)[0]), (None, "AbleToScale=True ScaleDownStabilized"));
    assert_eq!(down.size(&mut memory, NOW + 290), 5);
    assert_eq!(down.size(&mut memory, NOW + 301), 1);
}

#[test]
fn rules_bound_the_rate() {
    let policy =
        |kind: &str, value: i32, period: i32| json!({"type": kind, "value": value, "periodSeconds": period});
    // Rules, whether it grows, sizes of three looks 20 seconds apart.
    let cases = [
        (json!({"policies": [policy("Pods", 2, 60)]}), true, [12, 12, 12]),
        (json!({"policies": [policy("Pods", 2, 15)]}), true, [12, 14, 16]),
        (json!({"policies": [policy("Percent", 50, 15)]}), true, [15, 23, 35]),
        (json!({"policies": [policy("Pods", 2, 15), policy("Percent", 50, 15)]}), true, [15, 23, 35]),
        (
            json!({"policies": [policy("Pods", 2, 15), policy("Percent", 50, 15)], "selectPolicy": "Min"}),
            true,
            [12, 14, 16],
        ),
        (json!({"selectPolicy": "Disabled"}), true, [10, 10, 10]),
        (json!({}), true, [20, 40, 80]),
        (json!({"policies": [policy("Pods", 2, 60)]}), false, [8, 8, 8]),
        (json!({"policies": [policy("Percent", 50, 15)]}), false, [5, 2, 1]),
        (
            json!({"policies": [policy("Pods", 1, 15), policy("Percent", 50, 15)], "selectPolicy": "Min"}),
            false,
            [9, 8, 7],
        ),
        (json!({"selectPolicy": "Disabled"}), false, [10, 10, 10]),
    ];
    for (rules, grows, expected) in cases {
        let mut rules = rules;
        rules["stabilizationWindowSeconds"] = json!(0);
        let side = if grows { "scaleUp" } else { "scaleDown" };
        let level = if grows { 1_000_000 } else { 0 };
        let behavior = json!({side: rules, "scaleDown": if grows { json!({}) } else { rules.clone() }});
        let (mut memory, mut replicas) = (Memory::default(), 10);
        for (step, expected) in (0..).zip(expected) {
            let pods: Vec<_> = (0..replicas).map(|number| pod_of(number, "")).collect();
            let readings = [used(&vec![level; pods.len()])];
            let play = Play::new(json!({"metrics": [cpu(50)], "behavior": behavior}), pods, &readings);
            replicas = usize::try_from(play.size(&mut memory, NOW + step * 20)).unwrap();
            assert_eq!(replicas, expected, "look {step} of {rules}");
        }
    }
}

#[test]
fn windows_and_tolerance_of_each_direction_hold() {
    let pods: Vec<_> = (0..4).map(|number| pod_of(number, "")).collect();
    let run = |behavior: Value, level: i64, memory: &mut Memory, now: i64| {
        let readings = [used(&[level; 4])];
        let play = Play::new(json!({"metrics": [cpu(50)], "behavior": behavior}), pods.clone(), &readings);
        play.size(memory, now)
    };
    let patient = json!({"scaleUp": {"stabilizationWindowSeconds": 60}, "scaleDown": {}});
    let mut memory = Memory::default();
    assert_eq!(run(patient.clone(), 800, &mut memory, NOW), 4, "four were enough a moment ago");
    assert_eq!(run(patient.clone(), 1000, &mut memory, NOW + 45), 4);
    assert_eq!(run(patient, 1000, &mut memory, NOW + 61), 8, "nothing lower in the last minute");

    let fine = |side: &str, tolerance: &str| {
        json!({"scaleUp": {}, "scaleDown": {"stabilizationWindowSeconds": 0},
            side: {"tolerance": tolerance, "stabilizationWindowSeconds": 0}})
    };
    let cases = [
        (fine("scaleUp", "0"), 510, 5),
        (fine("scaleUp", "0.5"), 700, 4),
        (fine("scaleDown", "0.5"), 300, 4),
        (fine("scaleDown", "0.01"), 470, 4),
        (fine("scaleDown", "0.5"), 700, 6),
    ];
    for (behavior, level, expected) in cases {
        assert_eq!(
            run(behavior.clone(), level, &mut Memory::default(), NOW),
            expected,
            "{behavior} at {level}"
        );
    }
}

#[test]
fn a_refused_change_does_not_count() {
    let pods: Vec<_> = (0..3).map(|number| pod_of(number, "")).collect();
    let readings = [used(&[900, 900, 900])];
    let rules = json!({"scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 600}]}, "scaleDown": {}});
    let play = Play::new(json!({"metrics": [cpu(50)], "behavior": rules}), pods, &readings);
    let mut memory = Memory::default();
    let action = play.run(&mut memory, NOW).swap_remove(0);
    let failure = Failure {
        action,
        code: 409,
        reason: String::new(),
        message: "conflict".to_owned(),
        causes: Vec::new(),
    };
    let observed = Observed {
        hpa: &play.hpa,
        scale: Ok(&play.scale),
        pods: &play.pods,
        rivals: &[],
        readings: &readings,
        settings: &Settings::default(),
    };
    let told = report(&observed, &mut memory, at(NOW), &failure);
    assert_eq!(conditions(&told), ["AbleToScale=False FailedUpdateScale"]);
    let reason = "cpu resource utilization (percentage of request) above target";
    let expected = format!("event FailedRescale New size: 5; reason: {reason}; error: conflict");
    assert_eq!(summary(&told[0]), expected);
    assert_eq!(play.size(&mut memory, NOW + 15), 5, "the two of the policy are still free");

    let status = play.fresh().swap_remove(2);
    let told = report(&observed, &mut memory, at(NOW), &Failure { action: status, ..failure });
    assert_eq!(told.iter().map(summary).collect::<Vec<_>>(), ["event FailedUpdateStatus conflict"]);
}

/// Puts what was written into the autoscaler's status and the target's scale.
fn apply(play: &mut Play<'_>, actions: &[Action]) {
    let mut status = serde_json::to_value(play.hpa.status.clone().unwrap_or_default()).unwrap();
    for action in actions {
        let Action::Patch(patch) = action else { continue };
        for (field, value) in patch.body["status"].as_object().into_iter().flatten() {
            status[field] = value.clone();
        }
    }
    play.hpa.status = Some(object(status));
    play.scale = scale(size(actions).unwrap_or(play.scale.wanted));
}

#[test]
fn it_follows_a_load_and_goes_quiet_when_the_load_does() {
    let policy = |kind: &str, value: i32| json!([{"type": kind, "value": value, "periodSeconds": 60}]);
    let behaviors = [
        json!(null),
        json!({"scaleUp": {"policies": policy("Pods", 1)}, "scaleDown": {"policies": policy("Percent", 10)}}),
        json!({"scaleUp": {"stabilizationWindowSeconds": 120}, "scaleDown": {"stabilizationWindowSeconds": 0}}),
    ];
    let all: Vec<_> = (0..25).map(|number| pod_of(number, "")).collect();
    for seed in 0..20_u64 {
        let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut roll = |sides: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            i64::try_from(dice % sides).unwrap()
        };
        let behavior = &behaviors[usize::try_from(roll(3)).unwrap()];
        let spec = json!({"minReplicas": 2, "maxReplicas": 20, "metrics": [cpu(50)], "behavior": behavior});
        let (mut memory, mut load) = (Memory::default(), 1000);
        let mut play = Play::new(spec, Vec::new(), &[]);
        play.scale = scale(1 + i32::try_from(roll(25)).unwrap());
        for step in 0..300 {
            if step < 100 && roll(4) == 0 {
                load = roll(12_000);
            }
            let count = usize::try_from(play.scale.wanted).unwrap();
            let readings = [used(&vec![load / i64::from(play.scale.wanted); count])];
            let mut look =
                Play { hpa: play.hpa.clone(), readings: &readings, ..Play::new(json!({}), Vec::new(), &[]) };
            look.scale = play.scale.clone();
            look.pods = all[..count].to_vec();
            let actions = look.run(&mut memory, NOW + step * 15);
            apply(&mut play, &actions);
            assert!(step == 0 || (2..=20).contains(&play.scale.wanted), "seed {seed} step {step}");
            let is_quiet = actions.iter().all(|action| matches!(action, Action::RequeueAfter(_)));
            assert!(step < 280 || is_quiet, "seed {seed} step {step}: {actions:?}");
        }
        let pods = i64::from(play.scale.wanted);
        let fits = match load / pods {
            440..=560 => true,
            less if less < 440 => pods == 2 || (pods - 1) * 500 < load,
            _ => pods == 20,
        };
        assert!(fits, "seed {seed}: {pods} pods for {load}");
    }
}
