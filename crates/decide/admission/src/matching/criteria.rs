//! Rules and selectors together.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use plimsoll_meta::selector::Labels;
use plimsoll_meta::status::Status;
use serde_json::Value;

use super::{Attributes, Operation, Rule, Surroundings, Target};

/// What a webhook, a policy or a binding wants to see.
#[derive(Clone, Debug, Default)]
pub struct Criteria {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    empty: Empty,
    equivalent: bool,
    namespaces: Labels,
    objects: Labels,
}

/// What no rules at all mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Empty {
    /// Nothing, as for webhooks.
    #[default]
    Nothing,
    /// Everything, as for policies and bindings.
    Everything,
}

impl Criteria {
    /// Reads the matching part of a webhook.
    pub fn of_webhook(hook: &Value) -> Self {
        Self { rules: rules(&hook["rules"]), ..Self::selectors(hook, Empty::Nothing) }
    }

    /// Reads `MatchResources` of a policy or binding.
    pub fn of_policy(resources: &Value) -> Self {
        Self {
            rules: rules(&resources["resourceRules"]),
            excluded: rules(&resources["excludeResourceRules"]),
            ..Self::selectors(resources, Empty::Everything)
        }
    }

    fn selectors(holder: &Value, empty: Empty) -> Self {
        Self {
            empty,
            equivalent: holder["matchPolicy"] == "Equivalent",
            namespaces: selector(&holder["namespaceSelector"]),
            objects: selector(&holder["objectSelector"]),
            ..Self::default()
        }
    }

    /// What the request is seen as, if it is one of those wanted.
    ///
    /// # Errors
    /// A 404 if the request is wanted by its rules but its namespace is unknown.
    pub fn target<'a>(
        &self,
        attributes: &Attributes<'a>,
        surroundings: &impl Surroundings<'a>,
    ) -> Result<Option<Target<'a>>, Status> {
        if self.covered(&self.excluded, attributes, surroundings).is_some() {
            return Ok(None);
        }
        let everything = self.rules.is_empty() && self.empty == Empty::Everything;
        let target = match everything {
            true => attributes.target,
            false => match self.covered(&self.rules, attributes, surroundings) {
                Some(target) => target,
                None => return Ok(None),
            },
        };
        let selected = self.selects_object(attributes) && self.selects_namespace(attributes, surroundings)?;
        Ok(selected.then_some(target))
    }

    /// The request as the rules want it: as it is, or in the first other version that a rule names.
    fn covered<'a>(
        &self,
        rules: &[Rule],
        attributes: &Attributes<'a>,
        surroundings: &impl Surroundings<'a>,
    ) -> Option<Target<'a>> {
        let own = attributes.target;
        if rules.iter().any(|rule| rule.covers(attributes, &own.resource)) {
            return Some(own);
        }
        if !self.equivalent || rules.is_empty() {
            return None;
        }
        let others = surroundings.equivalents();
        let fits = |rule: &Rule| {
            others
                .iter()
                .find(|other| other.resource != own.resource && rule.covers(attributes, &other.resource))
        };
        rules.iter().find_map(fits).copied()
    }

    fn selects_object(&self, attributes: &Attributes<'_>) -> bool {
        self.objects.is_everything()
            || [attributes.object, attributes.old].into_iter().flatten().any(|object| {
                object.get("metadata").is_some() && self.objects.matches(|key| label(object, key))
            })
    }

    fn selects_namespace<'a>(
        &self,
        attributes: &Attributes<'a>,
        surroundings: &impl Surroundings<'a>,
    ) -> Result<bool, Status> {
        let is_namespace = attributes.target.resource.resource == "namespaces";
        if self.namespaces.is_everything() || (attributes.namespace.is_empty() && !is_namespace) {
            return Ok(true);
        }
        let in_flight = is_namespace
            && attributes.subresource.is_empty()
            && matches!(attributes.operation, Operation::Create | Operation::Update);
        let namespace = match attributes.object {
            Some(object) if in_flight => object,
            _ => surroundings.namespace(attributes.namespace)?,
        };
        Ok(self.namespaces.matches(|key| label(namespace, key)))
    }
}

fn rules(list: &Value) -> Vec<Rule> {
    list.as_array().into_iter().flatten().map(Rule::read).collect()
}

fn label<'v>(object: &'v Value, key: &str) -> Option<&'v str> {
    object["metadata"]["labels"][key].as_str()
}

fn selector(value: &Value) -> Labels {
    let parsed: LabelSelector = serde_json::from_value(value.clone()).unwrap_or_default();
    Labels::from(&parsed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::matching::{Kind, Resource};

    struct Cluster(Vec<Target<'static>>, Value);

    impl<'a> Surroundings<'a> for Cluster {
        fn equivalents(&self) -> &[Target<'a>] {
            &self.0
        }

        fn namespace(&self, name: &str) -> Result<&Value, Status> {
            self.1.get(name).ok_or_else(|| Status::not_found("", "namespaces", name))
        }
    }

    const fn target(group: &'static str, version: &'static str, resource: &'static str) -> Target<'static> {
        Target {
            resource: Resource { group, version, resource },
            kind: Kind { group, version, kind: "Kind" },
        }
    }

    const DEPLOYMENT: Target<'static> = target("apps", "v1", "deployments");

    fn request<'a>(target: Target<'a>, subresource: &'a str) -> Attributes<'a> {
        let operation = Operation::Create;
        Attributes { operation, target, subresource, namespace: "prod", name: "web", object: None, old: None }
    }

    fn cluster() -> Cluster {
        Cluster(
            vec![DEPLOYMENT, target("apps", "v1beta1", "deployments")],
            json!({"prod": {"metadata": {"labels": {"env": "prod"}}}}),
        )
    }

    fn hook(operations: Value, groups: Value, versions: Value, resources: Value) -> Value {
        json!({"matchPolicy": "Exact", "rules": [
            {"operations": operations, "apiGroups": groups, "apiVersions": versions, "resources": resources}]})
    }

    #[test]
    fn rules_name_operations_groups_versions_and_resources() {
        let all = || json!(["*"]);
        for (rule, subresource, expected) in [
            (hook(all(), all(), all(), json!(["*"])), "", true),
            (hook(all(), all(), all(), json!(["*"])), "status", false),
            (hook(all(), all(), all(), json!(["*/*"])), "status", true),
            (hook(all(), all(), all(), json!(["*/*"])), "", true),
            (hook(all(), all(), all(), json!(["*/scale"])), "scale", true),
            (hook(all(), all(), all(), json!(["*/scale"])), "", false),
            (hook(all(), all(), all(), json!(["deployments/*"])), "scale", true),
            (hook(all(), all(), all(), json!(["deployments/scale"])), "status", false),
            (hook(all(), all(), all(), json!(["pods", "deployments"])), "", true),
            (hook(json!(["UPDATE"]), all(), all(), json!(["*"])), "", false),
            (hook(json!(["UPDATE", "CREATE"]), all(), all(), json!(["*"])), "", true),
            (hook(all(), json!([""]), all(), json!(["*"])), "", false),
            (hook(all(), json!(["apps"]), json!(["v2"]), json!(["*"])), "", false),
        ] {
            let found = Criteria::of_webhook(&rule).target(&request(DEPLOYMENT, subresource), &cluster());
            assert_eq!(found.map(|found| found.is_some()), Ok(expected), "{rule} {subresource}");
        }
    }

    #[test]
    fn scope_knows_that_namespaces_are_not_namespaced() {
        let namespace = Attributes { name: "prod", ..request(target("", "v1", "namespaces"), "") };
        let node = Attributes { namespace: "", ..request(target("", "v1", "nodes"), "") };
        let pod = request(target("", "v1", "pods"), "");
        for (scope, expected) in [
            ("*", [true, true, true]),
            ("Cluster", [true, true, false]),
            ("Namespaced", [false, false, true]),
        ] {
            let all = || json!(["*"]);
            let mut rule = hook(all(), all(), all(), all());
            rule["rules"][0]["scope"] = json!(scope);
            let criteria = Criteria::of_webhook(&rule);
            let found = [&namespace, &node, &pod]
                .map(|request| criteria.target(request, &cluster()).is_ok_and(|found| found.is_some()));
            assert_eq!(found, expected, "{scope}");
        }
    }

    #[test]
    fn equivalent_resources_are_seen_in_the_version_that_the_rule_names() {
        let mut rule = hook(json!(["*"]), json!(["apps"]), json!(["v1beta1"]), json!(["deployments"]));
        let found = |rule: &Value| Criteria::of_webhook(rule).target(&request(DEPLOYMENT, ""), &cluster());
        assert_eq!(found(&rule), Ok(None));
        rule["matchPolicy"] = json!("Equivalent");
        assert_eq!(found(&rule), Ok(Some(target("apps", "v1beta1", "deployments"))));
    }

    #[test]
    fn selectors_look_at_namespaces_and_at_both_states() {
        let all = || json!(["*"]);
        let labelled = json!({"metadata": {"labels": {"a": "1", "env": "dev"}}});
        let plain = json!({"metadata": {}});
        let options = json!({"container": "c"});
        for (field, selector, object, old, expected) in [
            ("objectSelector", json!({"matchLabels": {"a": "1"}}), Some(&labelled), None, true),
            ("objectSelector", json!({"matchLabels": {"a": "1"}}), Some(&plain), Some(&labelled), true),
            ("objectSelector", json!({"matchLabels": {"a": "1"}}), Some(&plain), None, false),
            ("objectSelector", json!({"matchLabels": {"a": "1"}}), None, None, false),
            (
                "objectSelector",
                json!({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}),
                Some(&options),
                None,
                false,
            ),
            ("namespaceSelector", json!({"matchLabels": {"env": "prod"}}), Some(&plain), None, true),
            ("namespaceSelector", json!({"matchLabels": {"env": "dev"}}), Some(&labelled), None, false),
        ] {
            let mut rule = hook(all(), all(), all(), all());
            rule[field] = selector;
            let request = Attributes { object, old, ..request(DEPLOYMENT, "") };
            let found = Criteria::of_webhook(&rule).target(&request, &cluster());
            assert_eq!(found.map(|found| found.is_some()), Ok(expected), "{rule}");
        }
    }

    #[test]
    fn namespaces_are_judged_by_the_labels_they_shall_have() {
        let all = || json!(["*"]);
        let mut rule = hook(all(), all(), all(), all());
        rule["namespaceSelector"] = json!({"matchLabels": {"env": "dev"}});
        let criteria = Criteria::of_webhook(&rule);
        let object = json!({"metadata": {"labels": {"env": "dev"}}});
        let create = Attributes { object: Some(&object), ..request(target("", "v1", "namespaces"), "") };
        assert!(criteria.target(&create, &cluster()).is_ok_and(|found| found.is_some()));
        let delete = Attributes { operation: Operation::Delete, object: None, ..create };
        assert_eq!(criteria.target(&delete, &cluster()), Ok(None));
        let node = Attributes { namespace: "", ..request(target("", "v1", "nodes"), "") };
        assert!(criteria.target(&node, &cluster()).is_ok_and(|found| found.is_some()));
        let lost = Attributes { namespace: "gone", ..request(DEPLOYMENT, "") };
        assert_eq!(criteria.target(&lost, &cluster()), Err(Status::not_found("", "namespaces", "gone")));
    }

    #[test]
    fn policies_exclude_and_name_resources() {
        let rule = |names: Value| {
            json!({"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"],
                "resourceNames": names})
        };
        for (resources, expected) in [
            (json!({}), true),
            (json!({"resourceRules": [rule(json!([]))]}), true),
            (json!({"resourceRules": [rule(json!(["other"]))]}), false),
            (json!({"resourceRules": [rule(json!(["other", "web"]))]}), true),
            (json!({"excludeResourceRules": [rule(json!([]))]}), false),
            (json!({"excludeResourceRules": [rule(json!(["other"]))]}), true),
        ] {
            let found = Criteria::of_policy(&resources).target(&request(DEPLOYMENT, ""), &cluster());
            assert_eq!(found.map(|found| found.is_some()), Ok(expected), "{resources}");
        }
    }
}
