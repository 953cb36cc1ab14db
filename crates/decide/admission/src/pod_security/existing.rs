//! The pods that a namespace has already when it gets a stricter policy.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::config::Exemptions;
use super::level::LevelVersion;
use super::pod::{Pod, items, text};
use super::registry;

/// How many pods are looked at.
const LIMIT: usize = 3000;

/// The warnings about existing pods; `in_time` is asked after each pod whether to go on.
pub(crate) fn warnings(
    namespace: &str,
    pods: &[Value],
    enforce: LevelVersion,
    exemptions: &Exemptions,
    mut in_time: impl FnMut() -> bool,
) -> Vec<String> {
    let order = prioritized(pods, exemptions);
    let mut found: BTreeMap<String, (&str, usize)> = BTreeMap::new();
    let mut checked = 0;
    for pod in order.iter().take(LIMIT) {
        let violations = registry::evaluate(enforce, Pod::of(pod));
        if !violations.is_empty() {
            let name = text(&pod["metadata"]["name"]);
            let (first, count) = found.entry(registry::reasons(&violations)).or_insert((name, 0));
            *first = (*first).min(name);
            *count += 1;
        }
        checked += 1;
        if !in_time() {
            break;
        }
    }
    let mut warnings = Vec::new();
    if checked < order.len() {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {} existing pods",
            order.len()
        ));
    }
    if !found.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{enforce}\""
        ));
    }
    let mut lines: Vec<String> = found.into_iter().map(|(reasons, pods)| line(&reasons, pods)).collect();
    lines.sort();
    warnings.extend(lines);
    warnings
}

fn line(reasons: &str, (first, count): (&str, usize)) -> String {
    match count {
        1 => format!("{first}: {reasons}"),
        2 => format!("{first} (and 1 other pod): {reasons}"),
        _ => format!("{first} (and {} other pods): {reasons}", count - 1),
    }
}

/// One pod of each controller comes first: its others are much the same.
fn prioritized<'a>(pods: &'a [Value], exemptions: &Exemptions) -> Vec<&'a Value> {
    let mut controllers = BTreeSet::new();
    let exempt = |pod: &&Value| {
        let class = text(&pod["spec"]["runtimeClassName"]);
        !class.is_empty() && exemptions.runtime_classes.iter().any(|one| one == class)
    };
    let (mut first, again): (Vec<&Value>, Vec<&Value>) =
        pods.iter().filter(|pod| !exempt(pod)).partition(|pod| {
            let controller =
                items(&pod["metadata"]["ownerReferences"]).find(|owner| owner["controller"] == true);
            controller.is_none_or(|owner| controllers.insert(text(&owner["uid"])))
        });
    first.extend(again);
    first
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::level::{Level, Version};
    use super::*;

    fn pod(name: &str, owner: &str, host: bool) -> Value {
        let owners = if owner.is_empty() { json!([]) } else { json!([{"controller": true, "uid": owner}]) };
        json!({"metadata": {"name": name, "ownerReferences": owners}, "spec": {"hostNetwork": host, "hostPID": host, "containers": []}})
    }

    #[test]
    fn existing_pods_are_counted_by_what_is_wrong() {
        let baseline = LevelVersion { level: Level::Baseline, version: Version::Latest };
        let mut pods =
            vec![pod("c", "", true), pod("b", "x", true), pod("a", "x", true), pod("ok", "", false)];
        pods.push(json!({"metadata": {"name": "z"}, "spec": {"containers": [{"name": "x", "securityContext": {"privileged": true}}]}}));
        let none = Exemptions::default();
        assert_eq!(
            warnings("team", &pods, baseline, &none, || true),
            [
                r#"existing pods in namespace "team" violate the new PodSecurity enforce level "baseline:latest""#,
                "a (and 2 other pods): host namespaces",
                "z: privileged",
            ]
        );
        let mut left = 2;
        let short = warnings("team", &pods, baseline, &none, || {
            left -= 1;
            left > 0
        });
        assert_eq!(
            short,
            [
                "new PodSecurity enforce level only checked against the first 2 of 5 existing pods",
                r#"existing pods in namespace "team" violate the new PodSecurity enforce level "baseline:latest""#,
                "b (and 1 other pod): host namespaces",
            ]
        );
        assert!(warnings("team", &[pod("ok", "", false)], baseline, &none, || true).is_empty());
    }
}
