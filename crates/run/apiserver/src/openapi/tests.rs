use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::documents;

/// The published document of v1.36; none where it is not at hand.
fn published() -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/reference/openapi-v2.json");
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Names and answers of one operation, by what generated clients depend on.
fn operation_facts(document: &Value, item: &Value, operation: &Value) -> BTreeMap<&'static str, Value> {
    let mut facts = BTreeMap::new();
    for key in [
        "operationId",
        "x-kubernetes-action",
        "x-kubernetes-group-version-kind",
        "tags",
        "consumes",
        "produces",
        "schemes",
    ] {
        facts.insert(key, operation[key].clone());
    }
    let answers = operation["responses"].as_object().into_iter().flatten();
    facts.insert(
        "responses",
        answers.map(|(code, answer)| (code.clone(), answer["schema"].clone())).collect(),
    );
    let mut parameters: Vec<String> = [item, operation]
        .iter()
        .flat_map(|holder| holder["parameters"].as_array().into_iter().flatten())
        .map(|parameter| {
            let aside = parameter["$ref"].as_str().and_then(|to| to.rsplit('/').next());
            let parameter = aside.map_or(parameter, |name| &document["parameters"][name]);
            let text = |key: &str| parameter[key].as_str().unwrap_or_default().to_owned();
            format!("{} {} {} {}", text("in"), text("name"), text("type"), parameter["schema"]["$ref"])
        })
        // New in v1.36 and alpha.
        .filter(|parameter| !parameter.contains("shardSelector"))
        .collect();
    parameters.sort();
    facts.insert("parameters", json!(parameters));
    facts
}

/// Group versions that v1.36 serves with all switches on and this server does not, and why.
const NOT_SERVED: &[(&str, &str, &str)] = &[
    ("admissionregistration.k8s.io", "v1alpha1", ALPHA),
    ("admissionregistration.k8s.io", "v1beta1", OLD),
    ("certificates.k8s.io", "v1alpha1", ALPHA),
    ("certificates.k8s.io", "v1beta1", OFF),
    ("coordination.k8s.io", "v1alpha2", ALPHA),
    ("coordination.k8s.io", "v1beta1", OFF),
    ("internal.apiserver.k8s.io", "v1alpha1", ALPHA),
    ("networking.k8s.io", "v1beta1", OLD),
    ("resource.k8s.io", "v1alpha3", ALPHA),
    ("resource.k8s.io", "v1beta1", OLD),
    ("resource.k8s.io", "v1beta2", OLD),
    ("scheduling.k8s.io", "v1alpha2", ALPHA),
    ("storage.k8s.io", "v1beta1", OLD),
    ("storagemigration.k8s.io", "v1beta1", OLD),
];
const ALPHA: &str = "alpha versions are off by default";
const OFF: &str = "beta versions are off by default";
const OLD: &str = "off by default, and v1 has taken its place";

/// Whether something of the published document belongs to a group version that is not served. Definitions
/// have the first word of the group in their names.
fn not_served(name: &str) -> bool {
    // Upstream serves files of the machine there, if it is told to.
    if name.starts_with("/logs/") {
        return true;
    }
    NOT_SERVED.iter().any(|(group, version, _)| {
        let first = group.split('.').next().unwrap_or_default();
        name.starts_with(&format!("/apis/{group}/{version}/"))
            || (*group == "internal.apiserver.k8s.io" && name == "/apis/internal.apiserver.k8s.io/")
            || name.starts_with(&format!("io.k8s.api.{}.{version}.", package(first)))
    })
}

/// Where the types of a group are, when it is not its first word.
fn package(group: &str) -> &str {
    match group {
        "internal" => "apiserverinternal",
        other => other,
    }
}

/// Differences that stay, and why.
const EXPLAINED: [(&str, &str); 4] = [
    ("io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus", "changed in v1.37"),
    ("io.k8s.api.resource.v1.Device", "changed in v1.37"),
    ("io.k8s.api.resource.v1.NodeAllocatableResourceMapping", "gone in v1.37"),
    ("io.k8s.apimachinery.pkg.api.resource.Quantity", "numbers are quantities, too"),
];

fn definition_facts(definition: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut note = |place: &str, value: &Value| {
        for key in ["type", "format", "$ref", "required", "x-kubernetes-int-or-string"] {
            let mut value = value.get(key).cloned().unwrap_or_default();
            if let Some(list) = value.as_array_mut() {
                list.sort_by_key(Value::to_string);
            }
            if !value.is_null() {
                found.push(format!("{place} {key} {value}"));
            }
        }
        for (key, value) in value.as_object().into_iter().flatten() {
            let identity = key == "x-kubernetes-group-version-kind"
                && value.as_array().is_some_and(|list| list.len() > 1);
            if key.starts_with("x-kubernetes-") && !identity {
                found.push(format!("{place} {key} {value}"));
            }
        }
        if value.get("description").is_some() {
            found.push(format!("{place} is described"));
        }
    };
    note("", definition);
    for (name, property) in definition["properties"].as_object().into_iter().flatten() {
        note(name, property);
    }
    found.sort();
    found
}

#[test]
fn definitions_are_those_that_upstream_publishes() {
    let Some(published) = published() else { return };
    let ours = documents::v2(&[], &[]);
    let mut differences = Vec::new();
    for (name, definition) in published["definitions"].as_object().into_iter().flatten() {
        if not_served(name) || EXPLAINED.iter().any(|(known, _)| known == name) {
            continue;
        }
        let Some(mine) = ours["definitions"].get(name) else {
            differences.push(format!("{name} is missing"));
            continue;
        };
        let (theirs, mine) = (definition_facts(definition), definition_facts(mine));
        for fact in theirs.iter().filter(|fact| !mine.contains(fact)) {
            differences.push(format!("{name}: - {fact}"));
        }
        // What v1.36 has no field of came with v1.37.
        let old = |fact: &&String| {
            let field = fact.split(' ').next().unwrap_or_default();
            (field.is_empty() || definition["properties"].get(field).is_some())
                && !fact.ends_with(" is described")
        };
        for fact in mine.iter().filter(|fact| !theirs.contains(fact)).filter(old) {
            differences.push(format!("{name}: + {fact}"));
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn operations_are_those_that_upstream_publishes() {
    let Some(published) = published() else { return };
    let ours = documents::v2(&[], &[]);
    let mut differences = Vec::new();
    let paths = published["paths"].as_object().into_iter().flatten();
    for (path, item) in paths.filter(|(path, _)| !not_served(path)) {
        let Some(mine) = ours["paths"].get(path) else {
            differences.push(format!("{path} is missing"));
            continue;
        };
        for (method, operation) in
            item.as_object().into_iter().flatten().filter(|(key, _)| *key != "parameters")
        {
            if mine.get(method).is_none() {
                differences.push(format!("{method} {path} is missing"));
                continue;
            }
            let (theirs, mine) = (
                operation_facts(&published, item, operation),
                operation_facts(&Value::Null, mine, &mine[method]),
            );
            for (key, value) in theirs {
                if mine[key] != value {
                    differences.push(format!("{method} {path} {key}: {value} here {}", mine[key]));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn what_is_not_served_is_listed_for_a_reason() {
    let Some(published) = published() else { return };
    let ours = documents::v2(&[], &[]);
    for (group, version, reason) in NOT_SERVED {
        let page = format!("/apis/{group}/{version}/");
        assert!(published["paths"].get(&page).is_some(), "{page} is not upstream's");
        assert!(ours["paths"].get(&page).is_none(), "{page} is served");
        assert!(!reason.is_empty());
    }
}
