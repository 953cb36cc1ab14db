//! LimitRanges: what containers get that name nothing, and what pods and claims may ask for
//! (rows Q1, Q2; upstream plugin/pkg/admission/limitranger).

use plimsoll_meta::quantity::Quantity;
use serde_json::{Value, json};

use crate::quota::{Amounts, amounts, pod_sum};

/// The annotation that tells what was added.
const TOLD: &str = "kubernetes.io/limit-ranger";

/// Gives a pod's containers the defaults of each LimitRange in turn.
pub fn apply(pod: &mut Value, ranges: &[Value]) {
    for range in ranges {
        let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
        for item in items(range, "Container") {
            requests.extend(amounts(&item["defaultRequest"]));
            limits.extend(amounts(&item["default"]));
        }
        let mut told = Vec::new();
        for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
            for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
                let name = container["name"].as_str().unwrap_or_default().to_owned();
                for (kind, defaults) in [("request", &requests), ("limit", &limits)] {
                    let added = add(&mut container["resources"], &format!("{kind}s"), defaults);
                    if !added.is_empty() {
                        told.push(format!("{} {kind} for {what} {name}", added.join(", ")));
                    }
                }
            }
        }
        if !told.is_empty() {
            pod["metadata"]["annotations"][TOLD] =
                json!(format!("LimitRanger plugin set: {}", told.join("; ")));
        }
    }
}

/// What the first LimitRange that is broken has against a pod.
pub fn check_pod(pod: &Value, ranges: &[Value]) -> Result<(), String> {
    check_each(ranges, |range| {
        let mut faults = Vec::new();
        for item in items(range, "Container") {
            for list in ["containers", "initContainers"] {
                for container in pod["spec"][list].as_array().into_iter().flatten() {
                    let resources = &container["resources"];
                    let used = Used {
                        requests: amounts(&resources["requests"]),
                        limits: amounts(&resources["limits"]),
                    };
                    used.check(item, "Container", &mut faults);
                }
            }
        }
        for item in items(range, "Pod") {
            // What the pod is to have counts, not what it has.
            let wanted = json!({"spec": pod["spec"]});
            let used = Used { requests: pod_sum(&wanted, "requests"), limits: pod_sum(&wanted, "limits") };
            used.check(item, "Pod", &mut faults);
        }
        faults
    })
}

/// What the first LimitRange that is broken has against a claim on a volume.
pub fn check_claim(claim: &Value, ranges: &[Value]) -> Result<(), String> {
    check_each(ranges, |range| {
        let mut faults = Vec::new();
        let used =
            Used { requests: amounts(&claim["spec"]["resources"]["requests"]), limits: Amounts::new() };
        for item in items(range, "PersistentVolumeClaim") {
            for (name, bound) in amounts(&item["min"]) {
                faults.extend(used.at_least(&name, bound, "PersistentVolumeClaim"));
            }
            for (name, bound) in amounts(&item["max"]) {
                faults.extend(used.request_at_most(&name, bound, "PersistentVolumeClaim"));
            }
        }
        faults
    })
}

fn check_each(ranges: &[Value], faults: impl Fn(&Value) -> Vec<String>) -> Result<(), String> {
    for range in ranges {
        let mut found: Vec<String> = Vec::new();
        for fault in faults(range) {
            if !found.contains(&fault) {
                found.push(fault);
            }
        }
        match found.as_slice() {
            [] => {}
            [fault] => return Err(fault.clone()),
            several => return Err(format!("[{}]", several.join(", "))),
        }
    }
    Ok(())
}

fn items<'r>(range: &'r Value, kind: &str) -> impl Iterator<Item = &'r Value> {
    range["spec"]["limits"].as_array().into_iter().flatten().filter(move |item| item["type"] == kind)
}

/// Adds the amounts that are missing; the names of those, sorted.
fn add(resources: &mut Value, list: &str, defaults: &Amounts) -> Vec<String> {
    let mut added = Vec::new();
    for (name, amount) in defaults {
        if resources[list].get(name.as_str()).is_none() {
            resources[list][name.as_str()] = json!(amount.to_string());
            added.push(name.clone());
        }
    }
    added
}

/// What a container, a pod or a claim asks for.
struct Used {
    requests: Amounts,
    limits: Amounts,
}

impl Used {
    fn check(&self, item: &Value, kind: &str, faults: &mut Vec<String>) {
        for (name, bound) in amounts(&item["min"]) {
            faults.extend(self.at_least(&name, bound, kind));
        }
        for (name, bound) in amounts(&item["max"]) {
            faults.extend(self.limit_at_most(&name, bound, kind));
        }
        for (name, bound) in amounts(&item["maxLimitRequestRatio"]) {
            faults.extend(self.ratio_at_most(&name, bound, kind));
        }
    }

    fn at_least(&self, name: &str, bound: Quantity, kind: &str) -> Option<String> {
        let rule = format!("minimum {name} usage per {kind} is {bound}");
        let Some(request) = self.requests.get(name) else {
            return Some(format!("{rule}.  No request is specified"));
        };
        if *request < bound {
            return Some(format!("{rule}, but request is {request}"));
        }
        let limit = self.limits.get(name).filter(|limit| **limit < bound)?;
        Some(format!("{rule}, but limit is {limit}"))
    }

    fn limit_at_most(&self, name: &str, bound: Quantity, kind: &str) -> Option<String> {
        let rule = format!("maximum {name} usage per {kind} is {bound}");
        let Some(limit) = self.limits.get(name) else {
            return Some(format!("{rule}.  No limit is specified"));
        };
        if *limit > bound {
            return Some(format!("{rule}, but limit is {limit}"));
        }
        let request = self.requests.get(name).filter(|request| **request > bound)?;
        Some(format!("{rule}, but request is {request}"))
    }

    fn request_at_most(&self, name: &str, bound: Quantity, kind: &str) -> Option<String> {
        let rule = format!("maximum {name} usage per {kind} is {bound}");
        match self.requests.get(name) {
            None => Some(format!("{rule}.  No request is specified")),
            Some(request) if *request > bound => Some(format!("{rule}, but request is {request}")),
            Some(_) => None,
        }
    }

    fn ratio_at_most(&self, name: &str, bound: Quantity, kind: &str) -> Option<String> {
        let rule = format!("{name} max limit to request ratio per {kind} is {bound}");
        let some = |list: &Amounts| list.get(name).copied().filter(|amount| !amount.is_zero());
        let Some(request) = some(&self.requests) else {
            return Some(format!("{rule}, but no request is specified or request is 0"));
        };
        let Some(limit) = some(&self.limits) else {
            return Some(format!("{rule}, but no limit is specified or limit is 0"));
        };
        let ratio = limit.as_f64() / request.as_f64();
        (ratio > bound.as_f64()).then(|| format!("{rule}, but provided ratio is {ratio:.6}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(kind: &str, rules: Value) -> Value {
        let mut item = rules;
        item["type"] = json!(kind);
        json!({"metadata": {"name": "limits"}, "spec": {"limits": [item]}})
    }

    fn pod(resources: &[Value]) -> Value {
        let container =
            |(at, resources): (usize, &Value)| json!({"name": format!("c{at}"), "resources": resources});
        json!({"metadata": {}, "spec": {"containers": resources.iter().enumerate().map(container).collect::<Vec<_>>()}})
    }

    #[test]
    fn what_is_not_named_gets_its_default() {
        let ranges = [range(
            "Container",
            json!({"default": {"cpu": "500m", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m", "memory": "512Mi"}}),
        )];
        let mut pod = pod(&[json!({}), json!({"requests": {"cpu": "50m"}, "limits": {"memory": "2Gi"}})]);
        pod["spec"]["initContainers"] =
            json!([{"name": "i", "resources": {"limits": {"cpu": "1", "memory": "1"}}}]);
        apply(&mut pod, &ranges);
        assert_eq!(
            pod["spec"]["containers"][0]["resources"],
            json!({"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"cpu": "500m", "memory": "1Gi"}})
        );
        assert_eq!(
            pod["spec"]["containers"][1]["resources"],
            json!({"requests": {"cpu": "50m", "memory": "512Mi"}, "limits": {"cpu": "500m", "memory": "2Gi"}})
        );
        assert_eq!(
            pod["metadata"]["annotations"][TOLD],
            "LimitRanger plugin set: cpu, memory request for container c0; cpu, memory limit for container c0; memory \
             request for container c1; cpu limit for container c1; cpu, memory request for init container i"
        );
        let before = pod.clone();
        apply(&mut pod, &ranges);
        assert_eq!(pod, before, "the second time there is nothing to add");
    }

    #[test]
    fn pods_keep_within_bounds() {
        let cases = [
            ("Container", json!({"min": {"cpu": "100m"}}), json!({"requests": {"cpu": "100m"}}), ""),
            (
                "Container",
                json!({"min": {"cpu": "100m"}}),
                json!({"requests": {"cpu": "50m"}}),
                "minimum cpu usage per Container is 100m, but request is 50m",
            ),
            (
                "Container",
                json!({"min": {"cpu": "100m"}}),
                json!({}),
                "minimum cpu usage per Container is 100m.  No request is specified",
            ),
            (
                "Container",
                json!({"max": {"memory": "1Gi"}}),
                json!({"requests": {"memory": "2Gi"}}),
                "maximum memory usage per Container is 1Gi.  No limit is specified",
            ),
            (
                "Container",
                json!({"max": {"memory": "1Gi"}}),
                json!({"limits": {"memory": "2Gi"}}),
                "maximum memory usage per Container is 1Gi, but limit is 2Gi",
            ),
            (
                "Container",
                json!({"maxLimitRequestRatio": {"cpu": "1500m"}}),
                json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}),
                "cpu max limit to request ratio per Container is 1500m, but provided ratio is 2.000000",
            ),
            (
                "Container",
                json!({"maxLimitRequestRatio": {"cpu": "2"}}),
                json!({"limits": {"cpu": "2"}}),
                "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
            ),
            (
                "Container",
                json!({"min": {"cpu": "1"}, "max": {"memory": "1Gi"}}),
                json!({"requests": {"cpu": "500m"}, "limits": {"memory": "2Gi"}}),
                "[minimum cpu usage per Container is 1, but request is 500m, maximum memory usage per Container is \
                 1Gi, but limit is 2Gi]",
            ),
            (
                "Pod",
                json!({"max": {"cpu": "3"}}),
                json!({"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}),
                "maximum cpu usage per Pod is 3, but limit is 4",
            ),
        ];
        for (kind, rules, resources, expected) in cases {
            // Two containers, so that what is said of each is said once and a pod has twice as much.
            let outcome = check_pod(&pod(&[resources.clone(), resources]), &[range(kind, rules)]);
            assert_eq!(outcome.err().unwrap_or_default(), expected);
        }
    }

    #[test]
    fn claims_keep_within_bounds() {
        let range =
            range("PersistentVolumeClaim", json!({"min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}));
        for (size, expected) in [
            ("1Gi", ""),
            ("500Mi", "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 500Mi"),
            ("3Gi", "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"),
        ] {
            let claim = json!({"spec": {"resources": {"requests": {"storage": size}}}});
            assert_eq!(check_claim(&claim, std::slice::from_ref(&range)).err().unwrap_or_default(), expected);
        }
    }
}
