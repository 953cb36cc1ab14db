//! Which pods (and claims) a quota speaks of.

use serde_json::Value;

use super::usage::Counted;

/// One condition of `spec.scopes` or `spec.scopeSelector`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    name: String,
    operator: String,
    values: Vec<String>,
}

impl Scope {
    pub(super) fn read_all(spec: &Value) -> Vec<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let plain = spec["scopes"].as_array().into_iter().flatten().map(|name| Self {
            name: text(name),
            operator: "Exists".to_owned(),
            values: Vec::new(),
        });
        let expressions = spec["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
        plain
            .chain(expressions.map(|one| Self {
                name: text(&one["scopeName"]),
                operator: text(&one["operator"]),
                values: one["values"].as_array().into_iter().flatten().map(text).collect(),
            }))
            .collect()
    }

    /// Is the object one of those? Scopes of pods leave everything else out.
    pub(super) fn covers(&self, resource: &Counted<'_>, object: &Value) -> bool {
        match (resource.group, resource.plural) {
            ("", "pods") => self.covers_pod(object),
            ("", "persistentvolumeclaims") if self.name == "VolumeAttributesClass" => self.selects(
                ["status", "spec"]
                    .into_iter()
                    .find_map(|part| {
                        let field = if part == "status" {
                            "currentVolumeAttributesClassName"
                        } else {
                            "volumeAttributesClassName"
                        };
                        object[part][field].as_str()
                    })
                    .unwrap_or_default(),
            ),
            _ => false,
        }
    }

    fn covers_pod(&self, pod: &Value) -> bool {
        let ends = pod["spec"]["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0);
        let best_effort = plimsoll_catalogue::qos::class(pod) == "BestEffort";
        match self.name.as_str() {
            "Terminating" => ends,
            "NotTerminating" => !ends,
            "BestEffort" => best_effort,
            "NotBestEffort" => !best_effort,
            "PriorityClass" => self.selects(pod["spec"]["priorityClassName"].as_str().unwrap_or_default()),
            "CrossNamespacePodAffinity" => crosses_namespaces(pod),
            _ => false,
        }
    }

    /// Does the expression select this value? Empty means there is none.
    fn selects(&self, value: &str) -> bool {
        let listed = self.values.iter().any(|one| one == value);
        match self.operator.as_str() {
            "In" => !value.is_empty() && listed,
            "NotIn" => value.is_empty() || !listed,
            "DoesNotExist" => value.is_empty(),
            _ => !value.is_empty(),
        }
    }
}

fn crosses_namespaces(pod: &Value) -> bool {
    let affinity = &pod["spec"]["affinity"];
    let crosses = |term: &Value| {
        term["namespaces"].as_array().is_some_and(|list| !list.is_empty())
            || term["namespaceSelector"].is_object()
    };
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let list = |field: &str| affinity[kind][field].as_array().into_iter().flatten();
        list("requiredDuringSchedulingIgnoredDuringExecution").any(crosses)
            || list("preferredDuringSchedulingIgnoredDuringExecution")
                .any(|weighted| crosses(&weighted["podAffinityTerm"]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_are_told_apart() {
        let pods = Counted { group: "", plural: "pods" };
        let urgent = json!({"spec": {"priorityClassName": "high", "activeDeadlineSeconds": 5, "containers": [
            {"resources": {"requests": {"cpu": "1"}}}]}});
        let plain = json!({"spec": {"containers": [{}]}});
        let far = json!({"spec": {"containers": [{}], "affinity": {"podAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["x"]}]}}}});
        let scope = |name: &str, operator: &str, values: &[&str]| json!({"scopeSelector": {"matchExpressions": [{"scopeName": name, "operator": operator, "values": values}]}});
        for (spec, expected) in [
            (json!({"scopes": ["Terminating"]}), [true, false, false]),
            (json!({"scopes": ["NotTerminating", "BestEffort"]}), [false, true, true]),
            (json!({"scopes": ["NotBestEffort"]}), [true, false, false]),
            (scope("PriorityClass", "In", &["high", "low"]), [true, false, false]),
            (scope("PriorityClass", "NotIn", &["high"]), [false, true, true]),
            (scope("PriorityClass", "Exists", &[]), [true, false, false]),
            (scope("PriorityClass", "DoesNotExist", &[]), [false, true, true]),
            (json!({"scopes": ["CrossNamespacePodAffinity"]}), [false, false, true]),
        ] {
            let scopes = Scope::read_all(&spec);
            let found =
                [&urgent, &plain, &far].map(|pod| scopes.iter().all(|scope| scope.covers(&pods, pod)));
            assert_eq!(found, expected, "{spec}");
        }
    }

    #[test]
    fn scopes_of_pods_leave_other_objects_out() {
        let scopes = Scope::read_all(&json!({"scopes": ["BestEffort"]}));
        assert!(!scopes[0].covers(&Counted { group: "", plural: "secrets" }, &json!({})));
    }
}
