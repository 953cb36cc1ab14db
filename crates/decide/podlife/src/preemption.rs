//! Which pods a node ends to make room for a critical one (kubelet: pkg/kubelet/preemption).

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::qos::{Class, class, is_critical};
use crate::{Event, Verdict};

/// The reason of ended pods and of their Events; also a word for logs.
pub const REASON: &str = "Preempting";
const MESSAGE: &str = "Preempted in order to admit critical pod";

/// How much of a resource is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// The resource's name.
    pub resource: String,
    /// The amount, in the unit that requests are told in.
    pub amount: i64,
}

/// A pod of the node, and what it requests of a resource.
pub struct Candidate<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Told by the resource's name.
    pub requested: &'a dyn Fn(&str) -> i64,
}

/// What becomes of a pod that is ended for another.
#[must_use]
pub fn verdict() -> Verdict {
    Verdict { reason: REASON.to_owned(), message: MESSAGE.to_owned(), grace: None, disrupts: true }
}

/// What is told about it.
#[must_use]
pub fn event() -> Event {
    Event::warning(REASON, MESSAGE.to_owned(), None)
}

/// The places of the candidates that have to end for `pod`: as few as possible, and guaranteed ones
/// only where the others do not do.
///
/// # Errors
/// When not even all of them free enough.
pub fn victims(pod: &Pod, candidates: &[Candidate<'_>], lacks: &[Lack]) -> Result<Vec<usize>, String> {
    let of = |wanted: Class| -> Vec<usize> {
        let may_end =
            |at: &usize| yields(candidates[*at].pod, pod) && class_of(candidates[*at].pod) == wanted;
        (0..candidates.len()).filter(may_end).collect()
    };
    let (best_effort, burstable, guaranteed) =
        (of(Class::BestEffort), of(Class::Burstable), of(Class::Guaranteed));
    let choose = |from: &[usize], others: &[&[usize]]| {
        nearest(candidates, from, without(candidates, &others.concat(), lacks.to_vec()))
    };
    let guaranteed = choose(&guaranteed, &[&best_effort, &burstable])?;
    let burstable = choose(&burstable, &[&best_effort, &guaranteed])?;
    let best_effort = choose(&best_effort, &[&burstable, &guaranteed])?;
    Ok([best_effort, burstable, guaranteed].concat())
}

fn class_of(pod: &Pod) -> Class {
    pod.spec.as_ref().map_or(Class::BestEffort, class)
}

/// Whether a pod may be ended for another.
fn yields(pod: &Pod, other: &Pod) -> bool {
    let priority = |pod: &Pod| pod.spec.as_ref().and_then(|spec: &PodSpec| spec.priority);
    let lower = priority(pod).zip(priority(other)).is_some_and(|(own, other)| own < other);
    (is_critical(other) && !is_critical(pod)) || lower
}

/// What is still missing when these have ended.
fn without(candidates: &[Candidate<'_>], ended: &[usize], mut lacks: Vec<Lack>) -> Vec<Lack> {
    for lack in &mut lacks {
        lack.amount -= ended.iter().map(|at| (candidates[*at].requested)(&lack.resource)).sum::<i64>();
    }
    lacks.retain(|lack| lack.amount > 0);
    lacks
}

/// Chooses the pod that brings what is missing closest to nothing, again and again; of equal ones the one
/// that requests less.
fn nearest(candidates: &[Candidate<'_>], from: &[usize], mut lacks: Vec<Lack>) -> Result<Vec<usize>, String> {
    let mut left = from.to_vec();
    let mut chosen = Vec::new();
    while !lacks.is_empty() {
        let order = |a: &usize, b: &usize| {
            let (a, b) = (&candidates[*a], &candidates[*b]);
            let sizes = |one: &Candidate<'_>| ((one.requested)("memory"), (one.requested)("cpu"));
            distance(a, &lacks).total_cmp(&distance(b, &lacks)).then_with(|| sizes(a).cmp(&sizes(b)))
        };
        let Some(best) = left.iter().copied().min_by(order) else {
            let lacks = lacks.iter().map(|lack| format!("(res: {}, q: {}), ", lack.resource, lack.amount));
            let lacks: String = lacks.collect();
            return Err(format!("no set of running pods found to reclaim resources: [{lacks}]"));
        };
        left.retain(|at| *at != best);
        lacks = without(candidates, &[best], lacks);
        chosen.push(best);
    }
    Ok(chosen)
}

/// How far from enough a pod's end would leave what is missing, each resource by its part.
#[expect(clippy::cast_precision_loss, reason = "parts need no last digit")]
fn distance(candidate: &Candidate<'_>, lacks: &[Lack]) -> f64 {
    let part = |lack: &Lack| {
        let rest = lack.amount - (candidate.requested)(&lack.resource);
        if rest > 0 { (rest as f64 / lack.amount as f64).powi(2) } else { 0.0 }
    };
    lacks.iter().map(part).sum()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    /// A pod with a priority and millicores, whose limit equals its request or not.
    fn pod(priority: i32, cpu: i64, firm: bool) -> (Pod, i64) {
        let list = json!({"cpu": format!("{cpu}m"), "memory": "1Mi"});
        let resources = match (cpu, firm) {
            (0, _) => json!({}),
            (_, true) => json!({"requests": list, "limits": list}),
            _ => json!({"requests": list}),
        };
        let spec = json!({"priority": priority, "containers": [{"name": "c", "resources": resources}]});
        (serde_json::from_value(json!({"spec": spec})).unwrap(), cpu)
    }

    fn chosen(pods: &[(Pod, i64)], cpu: i64) -> Result<Vec<usize>, String> {
        let asks: Vec<_> = pods
            .iter()
            .map(|(_, cpu)| {
                move |name: &str| match name {
                    "cpu" => *cpu,
                    "pods" => 1,
                    _ => 0,
                }
            })
            .collect();
        let candidates: Vec<_> =
            pods.iter().zip(&asks).map(|((pod, _), requested)| Candidate { pod, requested }).collect();
        let critical = pod(2_000_000_000, 100, true).0;
        let mut found = victims(&critical, &candidates, &[Lack { resource: "cpu".into(), amount: cpu }]);
        if let Ok(found) = &mut found {
            found.sort_unstable();
        }
        found
    }

    #[test]
    fn as_few_as_possible_and_the_weakest() {
        let pods = [
            pod(0, 0, false),
            pod(0, 100, false),
            pod(0, 200, false),
            pod(0, 300, true),
            pod(2_000_000_001, 1000, true),
        ];
        let table: [(i64, &[usize]); 5] =
            [(50, &[1]), (100, &[1]), (150, &[2]), (300, &[1, 2]), (400, &[1, 3])];
        for (cpu, expected) in table {
            assert_eq!(chosen(&pods, cpu).unwrap(), expected, "{cpu}m are missing");
        }
        assert_eq!(
            chosen(&pods, 601).unwrap_err(),
            "no set of running pods found to reclaim resources: [(res: cpu, q: 1), ]"
        );
    }
}
