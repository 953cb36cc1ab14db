//! What is wrong with webhook configurations, policies and bindings.

use serde_json::{Value, json};

use crate::{errors, kind, merged};

const GROUP: &str = "admissionregistration.k8s.io";

fn rule() -> Value {
    json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]})
}

fn base(plural: &str) -> Value {
    let meta = json!({"name": "p"});
    let constraints = json!({"resourceRules": [rule()]});
    match plural {
        "validatingadmissionpolicies" => {
            json!({"kind": "ValidatingAdmissionPolicy", "metadata": meta, "spec": {
                "matchConstraints": constraints, "validations": [{"expression": "true"}],
            }})
        }
        "mutatingadmissionpolicies" => json!({"kind": "MutatingAdmissionPolicy", "metadata": meta, "spec": {
            "matchConstraints": constraints, "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}],
        }}),
        "validatingadmissionpolicybindings" => {
            json!({"metadata": meta, "spec": {"policyName": "p", "validationActions": ["Deny"]}})
        }
        "mutatingadmissionpolicybindings" => json!({"metadata": meta, "spec": {"policyName": "p"}}),
        _ => json!({"metadata": meta, "webhooks": [{
            "name": "a.b.c", "sideEffects": "None", "admissionReviewVersions": ["v1"], "rules": [rule()],
            "clientConfig": {"url": "https://h/x"},
        }]}),
    }
}

/// Errors of a good object with `patch` in its specification.
fn check(plural: &str, patch: Value, expected: &[&str]) {
    let object = merged(base(plural), &json!({"spec": patch}));
    assert_eq!(errors(kind(GROUP, plural), object), expected, "{plural} with {patch}");
}

#[test]
fn parameters_have_a_kind_with_a_version() {
    for (kind, expected) in [
        (json!({}), &["apiVersion: Required value", "kind: Required value"][..]),
        (json!({"apiVersion": "v1", "kind": "ConfigMap"}), &[]),
        (json!({"apiVersion": "a.b/v1", "kind": "Thing"}), &[]),
        (
            json!({"apiVersion": "a/b/c", "kind": "K"}),
            &["apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c"],
        ),
        (
            json!({"apiVersion": "a/", "kind": "K"}),
            &["apiVersion: Invalid value: \"a/\": version must be specified"],
        ),
    ] {
        let expected: Vec<String> = expected.iter().map(|text| format!("spec.paramKind.{text}")).collect();
        let texts: Vec<&str> = expected.iter().map(String::as_str).collect();
        check("validatingadmissionpolicies", json!({"paramKind": kind}), &texts);
    }
}

#[test]
fn what_policies_are_made_of_has_its_form() {
    let long = "x".repeat(5_121);
    let rows = [
        (
            json!({"validations": null}),
            vec![
                "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
            ],
        ),
        (
            json!({"variables": [{"name": " ", "expression": ""}, {"name": "if", "expression": "1"}, {"name": "a-b", "expression": "1"}]}),
            vec![
                "spec.variables[0].name: Required value: name is not specified",
                "spec.variables[0].expression: Required value: expression is not specified",
                "spec.variables[1].name: Invalid value: \"if\": must be a valid CEL identifier",
                "spec.variables[2].name: Invalid value: \"a-b\": must be a valid CEL identifier",
            ],
        ),
        (
            json!({"validations": [{"expression": " ", "messageExpression": " ", "message": " ", "reason": "Conflict"}]}),
            vec![
                "spec.validations[0].expression: Required value: expression is not specified",
                "spec.validations[0].messageExpression: Invalid value: \" \": must be non-empty if specified",
                "spec.validations[0].message: Invalid value: \" \": must be non-empty if specified",
                "spec.validations[0].reason: Unsupported value: \"Conflict\": supported values: \"Forbidden\", \"Invalid\", \
                 \"RequestEntityTooLarge\"",
            ],
        ),
        (
            json!({"validations": [{"expression": "true", "message": "a\nb"}]}),
            vec!["spec.validations[0].message: Invalid value: \"a\\nb\": must not contain line breaks"],
        ),
        (
            json!({"auditAnnotations": [{"key": "k", "valueExpression": ""}, {"key": "k", "valueExpression": long}]}),
            vec![
                "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified",
                "spec.auditAnnotations[1].valueExpression: Required value: must not exceed 5120 bytes in length",
                "spec.auditAnnotations[1].key: Duplicate value: \"k\"",
            ],
        ),
        (
            json!({"matchConstraints": {"resourceRules": [merged(rule(), &json!({"resourceNames": ["a/b", "c", "c"]}))]}}),
            vec![
                "spec.matchConstraints.resourceRules[0].resourceNames[0]: Invalid value: \"a/b\": may not contain '/'",
                "spec.matchConstraints.resourceRules[0].resourceNames[2]: Duplicate value: \"c\"",
            ],
        ),
        (
            json!({"matchConstraints": {"resourceRules": [], "excludeResourceRules": [{}]}}),
            vec![
                "spec.matchConstraints.excludeResourceRules[0].operations: Required value",
                "spec.matchConstraints.excludeResourceRules[0].apiGroups: Required value",
                "spec.matchConstraints.excludeResourceRules[0].apiVersions: Required value",
                "spec.matchConstraints.excludeResourceRules[0].resources: Required value",
                "spec.matchConstraints.resourceRules: Required value",
            ],
        ),
    ];
    for (patch, expected) in rows {
        check("validatingadmissionpolicies", patch, &expected);
    }
    let many: Vec<Value> =
        (0..21).map(|at| json!({"key": format!("k{at}"), "valueExpression": "''"})).collect();
    let object = merged(base("validatingadmissionpolicies"), &json!({"spec": {"auditAnnotations": many}}));
    let found = errors(kind(GROUP, "validatingadmissionpolicies"), object);
    assert!(
        found.len() == 1 && found[0].ends_with("must not have more than 20 auditAnnotations"),
        "{found:?}"
    );
}

#[test]
fn mutations_are_of_one_form() {
    let rows = [
        (
            json!({"mutations": []}),
            vec!["spec.mutations: Required value: mutations must contain at least one item"],
        ),
        (json!({"mutations": [{}]}), vec!["spec.mutations[0].patchType: Required value"]),
        (
            json!({"mutations": [{"patchType": "Merge"}]}),
            vec![
                "spec.mutations[0].patchType: Unsupported value: \"Merge\": supported values: \"ApplyConfiguration\", \
                 \"JSONPatch\"",
            ],
        ),
        (
            json!({"mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": " "}, "applyConfiguration": {}}]}),
            vec![
                "spec.mutations[0].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when \
                 patchType is JSONPatch",
                "spec.mutations[0].jsonPatch.expression: Required value",
            ],
        ),
        (
            json!({"mutations": [{"patchType": "ApplyConfiguration"}]}),
            vec![
                "spec.mutations[0].applyConfiguration: Required value: must be specified when patchType is ApplyConfiguration",
            ],
        ),
        (
            json!({"matchConstraints": {"resourceRules": [merged(rule(), &json!({"operations": ["DELETE"]}))]}}),
            vec![
                "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \
                 \"CONNECT\", \"CREATE\", \"UPDATE\"",
            ],
        ),
        (json!({"reinvocationPolicy": null}), vec!["spec.reinvocationPolicy: Required value"]),
    ];
    for (patch, expected) in rows {
        check("mutatingadmissionpolicies", patch, &expected);
    }
}

#[test]
fn bindings_name_a_policy_and_parameters() {
    let rows = [
        (json!({"policyName": null}), vec!["spec.policyName: Required value"]),
        (
            json!({"validationActions": ["Deny", "Warn", "Deny", "X"]}),
            vec![
                "spec.validationActions[2]: Duplicate value: \"Deny\"",
                "spec.validationActions[3]: Unsupported value: \"X\": supported values: \"Audit\", \"Deny\", \"Warn\"",
                "spec.validationActions: Invalid value: [\"Deny\",\"Warn\",\"Deny\",\"X\"]: must not contain both Deny and Warn \
                 (repeating the same validation failure information in the API response and headers serves no purpose)",
            ],
        ),
        (
            json!({"paramRef": {}}),
            vec![
                "spec.paramRef: Required value: one of name or selector must be specified",
                "spec.paramRef.parameterNotFoundAction: Required value",
            ],
        ),
        (
            json!({"paramRef": {"name": "a", "selector": {}, "parameterNotFoundAction": "Ask"}}),
            vec![
                "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.parameterNotFoundAction: Unsupported value: \"Ask\": supported values: \"Deny\", \"Allow\"",
            ],
        ),
    ];
    for (patch, expected) in rows {
        check("validatingadmissionpolicybindings", patch, &expected);
    }
    check(
        "mutatingadmissionpolicybindings",
        json!({"matchResources": {"resourceRules": [merged(rule(), &json!({"operations": ["DELETE"]}))]}}),
        &[
            "spec.matchResources.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \
             \"CONNECT\", \"CREATE\", \"UPDATE\"",
        ],
    );
}

#[test]
fn webhooks_may_stay_as_they_were() {
    let kind = kind(GROUP, "validatingwebhookconfigurations");
    let hooks = |patch: &Value| {
        let mut object = base("validatingwebhookconfigurations");
        object["webhooks"][0] = merged(object["webhooks"][0].clone(), patch);
        kind.default(&mut object);
        object
    };
    for (patch, is_kept) in [
        (json!({"sideEffects": "Some"}), true),
        (json!({"admissionReviewVersions": ["v9"]}), true),
        (json!({"matchConditions": [{"name": "", "expression": ""}]}), true),
        (
            json!({"objectSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b c"]}]}}),
            true,
        ),
        (json!({"timeoutSeconds": 31}), false),
    ] {
        let object = hooks(&patch);
        assert!(!kind.validate(&object).is_empty(), "{patch}");
        assert!(!kind.validate_update(&object, &hooks(&json!({})), None).is_empty(), "{patch} is new");
        assert_eq!(kind.validate_update(&object, &object, None).is_empty(), is_kept, "{patch} is kept");
    }
}

#[test]
fn warnings_in_a_status_say_where() {
    let kind = kind(GROUP, "validatingadmissionpolicies");
    let old = base("validatingadmissionpolicies");
    let new = merged(
        old.clone(),
        &json!({"status": {"typeChecking": {"expressionWarnings": [
            {"fieldRef": "spec.validations[0].expression", "warning": "w"}, {"fieldRef": " "},
        ]}}}),
    );
    let found: Vec<String> =
        kind.validate_update(&new, &old, Some("status")).iter().map(ToString::to_string).collect();
    let path = "status.typeChecking.expressionWarnings[1]";
    assert_eq!(
        found,
        [format!("{path}.warning: Required value"), format!("{path}.fieldRef: Required value")]
    );
}
