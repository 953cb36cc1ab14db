//! Which nodes a pod's node selector and required node affinity allow.

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, PodSpec};
use plimsoll_meta::selector::{Operator, Requirement};

use crate::node;

/// Whether a pod may run on a node as far as these two go.
pub fn allows(spec: &PodSpec, on: &Node) -> bool {
    let label =
        |key: &str| on.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| label(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|one| one.required_during_scheduling_ignored_during_execution.as_ref());
    selected
        && required.is_none_or(|required| required.node_selector_terms.iter().any(|term| meets(term, on)))
}

/// Conditions of a term all hold; an empty term allows nothing.
fn meets(term: &NodeSelectorTerm, on: &Node) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let label =
        |key: &str| on.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let field = |key: &str| (key == "metadata.name").then(|| node::name(on));
    !(labels.is_empty() && fields.is_empty())
        && labels.iter().all(|one| requirement(one).is_some_and(|one| one.matches(label)))
        && fields.iter().all(|one| requirement(one).is_some_and(|one| one.matches(field)))
}

fn requirement(of: &NodeSelectorRequirement) -> Option<Requirement> {
    let values = of.values.clone().unwrap_or_default();
    let number = || values.first()?.parse().ok();
    let operator = match of.operator.as_str() {
        "In" => Operator::In(values),
        "NotIn" => Operator::NotIn(values),
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan(number()?),
        "Lt" => Operator::LessThan(number()?),
        _ => return None,
    };
    Some(Requirement { key: of.key.clone(), operator })
}
