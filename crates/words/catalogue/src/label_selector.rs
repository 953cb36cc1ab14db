//! Label selectors inside of objects: what is wrong with them and what they match.

use serde_json::{Map, Value};

use plimsoll_meta::field::Path;
use plimsoll_meta::name;

use crate::access::Access;
use crate::object_meta;
use crate::report::Report;

/// What is wrong with a selector.
pub(crate) fn check(selector: &Value, path: &Path, report: &mut Report) {
    object_meta::check_labels(selector.map("matchLabels"), &path.child("matchLabels"), report.errors());
    for (at, expression) in selector.list("matchExpressions").iter().enumerate() {
        check_expression(expression, &path.child("matchExpressions").index(at), report);
    }
}

fn check_expression(expression: &Value, path: &Path, report: &mut Report) {
    let values = expression.list("values");
    match expression.text("operator") {
        "In" | "NotIn" if values.is_empty() => {
            report.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            report.forbidden(
                &path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            );
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => report.invalid(&path.child("operator"), other, "not a valid selector operator"),
    }
    let key = expression.text("key");
    report.rule(&path.child("key"), key, name::is_qualified_name(key));
    for (at, value) in values.iter().enumerate() {
        let text = value.as_str().unwrap_or("");
        report.rule(&path.child("values").index(at), text, name::is_label_value(text));
    }
}

/// Whether it can be understood.
pub(crate) fn is_valid(selector: &Value) -> bool {
    let mut report = Report::new();
    check(selector, &Path::default(), &mut report);
    report.errors().is_empty()
}

/// A selector without a requirement.
pub(crate) fn is_empty(selector: &Value) -> bool {
    selector.map("matchLabels").is_empty() && selector.list("matchExpressions").is_empty()
}

/// Whether an object with these labels is selected.
pub(crate) fn matches(selector: &Value, labels: &Map<String, Value>) -> bool {
    selector.map("matchLabels").iter().all(|(key, value)| labels.get(key) == Some(value))
        && selector.list("matchExpressions").iter().all(|expression| {
            let found = labels.get(expression.text("key"));
            let listed = found.is_some_and(|value| expression.list("values").contains(value));
            match expression.text("operator") {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_match_labels() {
        let labels = json!({"app": "web", "tier": "front"});
        let labels = labels.as_object().expect("an object");
        for (selector, expected) in [
            (json!({}), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (
                json!({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["front", "back"]}]}),
                true,
            ),
            (json!({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["front"]}]}), false),
            (json!({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}), true),
            (json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}), false),
        ] {
            assert_eq!(matches(&selector, labels), expected, "{selector}");
        }
    }
}
