//! The order in which pods end when their node goes down (kubelet: pkg/kubelet/nodeshutdown).

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use crate::configuration::Configuration;
use crate::effect::Verdict;

/// The priority from which pods are critical to the system.
const CRITICAL: i32 = 2_000_000_000;
/// Why pods end that are ended.
const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";

/// Pods from a priority on get so many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The lowest priority that it is for.
    pub priority: i32,
    /// How long they get.
    pub seconds: i64,
}

/// Pods that end together.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// How long they get.
    pub seconds: i64,
    /// Which.
    pub pods: Vec<Arc<Pod>>,
}

/// The periods of a configuration from low priorities to high ones; none when nothing is to happen.
#[must_use]
pub fn periods(configuration: &Configuration) -> Vec<Period> {
    let named = configuration.shutdown_grace_period_by_pod_priority.iter();
    let mut periods: Vec<Period> =
        named.map(|it| Period { priority: it.priority, seconds: it.shutdown_grace_period_seconds }).collect();
    let all = configuration.shutdown_grace_period.length().as_secs();
    if periods.is_empty() && all > 0 {
        let critical = configuration.shutdown_grace_period_critical_pods.length().as_secs();
        let seconds = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        periods = vec![
            Period { priority: 0, seconds: seconds(all.saturating_sub(critical)) },
            Period { priority: CRITICAL, seconds: seconds(critical) },
        ];
    }
    periods.sort_by_key(|period| period.priority);
    periods
}

/// The pods of each period, those that end first in front. Pods below the lowest priority end with it.
#[must_use]
pub fn groups(periods: &[Period], pods: &[Arc<Pod>]) -> Vec<Group> {
    let mut groups: Vec<Group> =
        periods.iter().map(|period| Group { seconds: period.seconds, pods: Vec::new() }).collect();
    for pod in pods {
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        let at = periods.iter().rposition(|period| period.priority <= priority).unwrap_or(0);
        if let Some(group) = groups.get_mut(at) {
            group.pods.push(pod.clone());
        }
    }
    groups.retain(|group| !group.pods.is_empty());
    groups
}

/// What becomes of a pod that gets so many seconds; its own grace period if that is less.
#[must_use]
pub fn verdict(pod: &Pod, seconds: i64) -> Verdict {
    let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    Verdict {
        reason: "Terminated".to_owned(),
        message: MESSAGE.to_owned(),
        grace: Some(own.map_or(seconds, |own| own.min(seconds))),
        disrupts: true,
    }
}

/// What becomes of a pod that comes too late.
#[must_use]
pub fn rejection() -> Verdict {
    Verdict {
        reason: "NodeShutdown".to_owned(),
        message: "Pod was rejected as the node is shutting down.".to_owned(),
        ..Verdict::default()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, priority: Option<i32>, grace: i64) -> Arc<Pod> {
        let spec = json!({"containers": [], "priority": priority, "terminationGracePeriodSeconds": grace});
        Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap())
    }

    fn shown(periods: &[Period], pods: &[Arc<Pod>]) -> Vec<(i64, String)> {
        let names = |group: &Group| {
            let names: Vec<_> = group.pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();
            names.join(" ")
        };
        groups(periods, pods).iter().map(|group| (group.seconds, names(group))).collect()
    }

    #[test]
    fn critical_pods_end_last() {
        let configuration = |document| Configuration::of(&document).unwrap();
        let two = periods(&configuration(
            json!({"shutdownGracePeriod": "30s", "shutdownGracePeriodCriticalPods": "10s"}),
        ));
        let pods = [pod("a", None, 30), pod("critical", Some(2_000_001_000), 30), pod("b", Some(-5), 30)];
        assert_eq!(shown(&two, &pods), [(20, "a b".to_owned()), (10, "critical".to_owned())]);
        assert_eq!(periods(&configuration(json!({}))), []);
        let named = periods(&configuration(json!({"shutdownGracePeriodByPodPriority": [
            {"priority": 1000, "shutdownGracePeriodSeconds": 5}, {"priority": 10, "shutdownGracePeriodSeconds": 7}]})));
        let pods = [
            pod("low", Some(1), 1),
            pod("at", Some(10), 1),
            pod("next", Some(999), 1),
            pod("top", Some(5000), 1),
        ];
        assert_eq!(shown(&named, &pods), [(7, "low at next".to_owned()), (5, "top".to_owned())]);
    }

    #[test]
    fn nobody_gets_more_than_asked_for() {
        assert_eq!(verdict(&pod("a", None, 30), 20).grace, Some(20));
        assert_eq!(verdict(&pod("a", None, 3), 20).grace, Some(3));
    }
}
