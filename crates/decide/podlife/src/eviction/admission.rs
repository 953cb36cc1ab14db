//! Which pods a node under pressure takes.

use k8s_openapi::api::core::v1::{Pod, PodSpec, Toleration};

use super::Condition;
use crate::qos::{Class, class, is_critical};

/// Why a pod is not taken; `None` when it is.
///
/// Critical pods are always taken. Under memory pressure alone pods that ask for something are, and those
/// that tolerate its taint.
#[must_use]
pub fn refusal(pod: &Pod, conditions: &[Condition]) -> Option<String> {
    if conditions.is_empty() || is_critical(pod) {
        return None;
    }
    let none = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&none);
    if conditions == [Condition::MemoryPressure] {
        let tolerates =
            || spec.tolerations.iter().flatten().any(|it| tolerates(it, Condition::MemoryPressure));
        if class(spec) != Class::BestEffort || tolerates() {
            return None;
        }
    }
    let names: Vec<_> = conditions.iter().map(|condition| condition.as_str()).collect();
    Some(format!("The node had condition: [{}]. ", names.join(" ")))
}

fn tolerates(toleration: &Toleration, condition: Condition) -> bool {
    let exists = toleration.operator.as_deref() == Some("Exists");
    let key = toleration.key.as_deref().unwrap_or_default();
    // The taint has no value.
    let value = toleration.value.as_deref().unwrap_or_default();
    toleration.effect.as_deref().is_none_or(|effect| effect.is_empty() || effect == "NoSchedule")
        && (key == condition.taint() || (key.is_empty() && exists))
        && (exists || value.is_empty())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_node_under_pressure_chooses() {
        let pod = |spec: Value| serde_json::from_value::<Pod>(json!({"metadata": {}, "spec": spec})).unwrap();
        let containers = json!([{"name": "c"}]);
        let best_effort = || pod(json!({"containers": containers}));
        let burstable = pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1m"}}}]}));
        let tolerant = |key: &str| {
            pod(json!({"containers": containers, "tolerations": [
                {"key": key, "operator": "Exists", "effect": "NoSchedule"},
            ]}))
        };
        let critical = pod(json!({"containers": containers, "priority": 2_000_000_000}));
        let (memory, disk) = ([Condition::MemoryPressure], [Condition::DiskPressure]);
        let both = [Condition::MemoryPressure, Condition::DiskPressure];
        for (pod, conditions, expected) in [
            (best_effort(), &[][..], None),
            (best_effort(), &memory[..], Some("The node had condition: [MemoryPressure]. ")),
            (best_effort(), &disk[..], Some("The node had condition: [DiskPressure]. ")),
            (burstable.clone(), &memory[..], None),
            (burstable, &both[..], Some("The node had condition: [MemoryPressure DiskPressure]. ")),
            (tolerant("node.kubernetes.io/memory-pressure"), &memory[..], None),
            (tolerant(""), &memory[..], None),
            (
                tolerant("node.kubernetes.io/disk-pressure"),
                &disk[..],
                Some("The node had condition: [DiskPressure]. "),
            ),
            (critical, &both[..], None),
        ] {
            assert_eq!(refusal(&pod, conditions).as_deref(), expected);
        }
    }
}
