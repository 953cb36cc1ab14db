//! One webhook of a configuration, read once.

use std::time::Duration;

use serde_json::Value;

use super::{Location, ReviewVersion};
use crate::matching::Criteria;

/// A webhook as requests meet it.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Name of its configuration.
    pub configuration: String,
    /// Its own name, for example `check.example.com`.
    pub name: String,
    /// Tells it from all others: webhooks of one configuration may share a name.
    pub id: String,
    /// Which requests it wants.
    pub criteria: Criteria,
    /// Further conditions on requests, all of which must hold.
    pub conditions: Vec<Condition>,
    /// Where it is.
    pub location: Location,
    /// What happens when it cannot be asked.
    pub failure_policy: FailurePolicy,
    /// What a call does besides.
    pub side_effects: SideEffects,
    /// How long it may take.
    pub timeout: Duration,
    /// The first version of the review that both sides know.
    pub version: Option<ReviewVersion>,
    /// Wants to see what later ones changed (`IfNeeded`).
    pub reinvoked: bool,
}

/// An expression with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// For messages.
    pub name: String,
    /// In CEL.
    pub expression: String,
}

impl Condition {
    /// Reads `matchConditions`.
    pub fn read_all(list: &Value) -> Vec<Self> {
        let read = |one: &Value| Self { name: text(&one["name"]), expression: text(&one["expression"]) };
        list.as_array().into_iter().flatten().map(read).collect()
    }
}

/// What happens when a webhook or policy fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The request fails.
    #[default]
    Fail,
    /// As if it were not there.
    Ignore,
}

impl FailurePolicy {
    /// Reads `failurePolicy`.
    pub fn read(value: &Value) -> Self {
        if value == "Ignore" { Self::Ignore } else { Self::Fail }
    }
}

/// What calling a webhook does besides answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SideEffects {
    /// Nothing, or nothing in a dry run.
    NoneOnDryRun,
    /// Something, or nobody knows.
    Some,
}

/// Reads the webhooks of all configurations in the order in which they are called.
pub fn hooks<'v>(configurations: impl IntoIterator<Item = &'v Value>) -> Vec<Hook> {
    let mut sorted: Vec<&Value> = configurations.into_iter().collect();
    sorted.sort_by_key(|one| one["metadata"]["name"].as_str().unwrap_or_default());
    sorted.into_iter().flat_map(of_configuration).collect()
}

fn of_configuration(configuration: &Value) -> Vec<Hook> {
    let of = text(&configuration["metadata"]["name"]);
    let mut read: Vec<Hook> = Vec::new();
    for hook in configuration["webhooks"].as_array().into_iter().flatten() {
        let name = text(&hook["name"]);
        let before = read.iter().filter(|other| other.name == name).count();
        read.push(of_webhook(&of, name, before, hook));
    }
    read
}

fn of_webhook(configuration: &str, name: String, before: usize, hook: &Value) -> Hook {
    Hook {
        id: format!("{configuration}/{name}/{before}"),
        configuration: configuration.to_owned(),
        criteria: Criteria::of_webhook(hook),
        conditions: Condition::read_all(&hook["matchConditions"]),
        location: Location::read(&hook["clientConfig"]),
        failure_policy: FailurePolicy::read(&hook["failurePolicy"]),
        side_effects: match hook["sideEffects"].as_str() {
            Some("None" | "NoneOnDryRun") => SideEffects::NoneOnDryRun,
            _ => SideEffects::Some,
        },
        timeout: Duration::from_secs(hook["timeoutSeconds"].as_u64().unwrap_or(10)),
        version: hook["admissionReviewVersions"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(ReviewVersion::read),
        reinvoked: hook["reinvocationPolicy"] == "IfNeeded",
        name,
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn webhooks_are_ordered_by_the_name_of_their_configuration() {
        let configuration = |name: &str, hooks: &[&str]| {
            let hooks: Vec<Value> = hooks.iter().map(|hook| json!({"name": hook})).collect();
            json!({"metadata": {"name": name}, "webhooks": hooks})
        };
        let (b, a) = (configuration("b", &["x", "y", "x"]), configuration("a", &["z"]));
        let read = hooks([&b, &a]);
        let ids: Vec<&str> = read.iter().map(|hook| hook.id.as_str()).collect();
        assert_eq!(ids, ["a/z/0", "b/x/0", "b/y/0", "b/x/1"]);
    }

    #[test]
    fn what_a_webhook_leaves_open_is_settled() {
        let configuration = json!({"metadata": {"name": "a"}, "webhooks": [
            {"name": "x", "admissionReviewVersions": ["v2", "v1beta1", "v1"], "sideEffects": "None",
             "failurePolicy": "Ignore", "timeoutSeconds": 3, "reinvocationPolicy": "IfNeeded"},
            {"name": "y"}]});
        let [x, y] = &hooks([&configuration])[..] else { panic!("two webhooks") };
        assert_eq!((x.version, y.version), (Some(ReviewVersion::V1Beta1), None));
        assert_eq!((x.timeout.as_secs(), y.timeout.as_secs()), (3, 10));
        assert_eq!((x.failure_policy, y.failure_policy), (FailurePolicy::Ignore, FailurePolicy::Fail));
        assert_eq!((x.side_effects, y.side_effects), (SideEffects::NoneOnDryRun, SideEffects::Some));
        assert_eq!((x.reinvoked, y.reinvoked), (true, false));
    }
}
