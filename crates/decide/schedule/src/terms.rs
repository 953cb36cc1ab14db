//! Selectors of nodes, as pods write them.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

use crate::node::Node;

/// Conditions that must all hold; one without conditions holds nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeTerm {
    labels: Vec<Condition>,
    fields: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Condition {
    key: String,
    operator: Operator,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Operator {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    DoesNotExist,
    Greater(i64),
    Less(i64),
    /// Unknown or malformed: never holds.
    Never,
}

impl NodeTerm {
    pub(crate) fn of(term: &NodeSelectorTerm) -> Self {
        let read =
            |list: &Option<Vec<NodeSelectorRequirement>>| list.iter().flatten().map(Condition::of).collect();
        NodeTerm { labels: read(&term.match_expressions), fields: read(&term.match_fields) }
    }

    pub(crate) fn holds(&self, node: &Node) -> bool {
        let label = |key: &str| node.labels.get(key).map(String::as_str);
        let field = |key: &str| (key == "metadata.name").then_some(node.name.as_str());
        !(self.labels.is_empty() && self.fields.is_empty())
            && self.labels.iter().all(|condition| condition.holds(label(&condition.key)))
            && self.fields.iter().all(|condition| condition.holds(field(&condition.key)))
    }

    /// The only nodes that can match, if the term names them.
    pub(crate) fn names(&self) -> Option<Vec<&str>> {
        let mut named: Option<Vec<&str>> = None;
        for condition in self.fields.iter().filter(|condition| condition.key == "metadata.name") {
            if let Operator::In(values) = &condition.operator {
                named = Some(match named {
                    None => values.iter().map(String::as_str).collect(),
                    Some(before) => {
                        before.into_iter().filter(|name| values.iter().any(|value| value == name)).collect()
                    }
                });
            }
        }
        named
    }
}

impl Condition {
    fn of(requirement: &NodeSelectorRequirement) -> Self {
        let values = || requirement.values.clone().unwrap_or_default();
        let number = || requirement.values.as_deref().and_then(|values| values.first()?.parse().ok());
        let operator = match requirement.operator.as_str() {
            "In" => Operator::In(values()),
            "NotIn" => Operator::NotIn(values()),
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => number().map_or(Operator::Never, Operator::Greater),
            "Lt" => number().map_or(Operator::Never, Operator::Less),
            _ => Operator::Never,
        };
        Condition { key: requirement.key.clone(), operator }
    }

    fn holds(&self, value: Option<&str>) -> bool {
        let listed = |values: &[String]| value.is_some_and(|value| values.iter().any(|one| one == value));
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.operator {
            Operator::In(values) => listed(values),
            Operator::NotIn(values) => !listed(values),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Greater(bound) => number().is_some_and(|number| number > *bound),
            Operator::Less(bound) => number().is_some_and(|number| number < *bound),
            Operator::Never => false,
        }
    }
}
