//! Policies against requests.

use std::time::Duration;

use plimsoll_cel::{Authorizer, Check, Decision as Answer};
use serde_json::{Value, json};

use super::*;

/// Only Jane may do anything, and she may only read.
struct Jane;

impl Authorizer for Jane {
    fn authorize(&self, check: &Check) -> Answer {
        Answer { allowed: check.verb == "get" && check.resource == "pods", ..Answer::default() }
    }
}

fn policy(spec: Value) -> Policy {
    Policy::read(&json!({"kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"}, "spec": spec}))
}

fn judged(spec: Value, object: Value) -> Judgement {
    let request =
        json!({"name": "web", "operation": "CREATE", "userInfo": {"username": "jane"}, "dryRun": false});
    let namespace = json!({"metadata": {"name": "n", "labels": {"env": "prod"}}});
    let params = json!({"maximum": 3});
    let check = Check { resource: "pods".to_owned(), ..Check::default() };
    let input = Input {
        object: &object,
        old: &Value::Null,
        params: &params,
        request: &request,
        namespace: &namespace,
        authorizer: &Jane,
        check: &check,
    };
    judge(&policy(spec), input, &|| Duration::ZERO)
}

fn messages(judgement: &Judgement) -> Vec<(&str, &str)> {
    judgement.decisions.iter().map(|one| (one.message.as_str(), one.reason.as_str())).collect()
}

#[test]
fn what_does_not_hold_is_told() {
    let object = || json!({"metadata": {"name": "web"}, "spec": {"replicas": 5}});
    for (validation, expected) in [
        (json!({"expression": "object.spec.replicas > 3"}), vec![]),
        (
            json!({"expression": " object.spec.replicas < 3 "}),
            vec![("failed expression: object.spec.replicas < 3", "Invalid")],
        ),
        (
            json!({"expression": "object.spec.replicas < 3", "message": " too many ", "reason": "Forbidden"}),
            vec![("too many", "Forbidden")],
        ),
        (
            json!({"expression": "object.spec.replicas <= params.maximum", "message": "too many",
                "messageExpression": "'at most ' + string(params.maximum)"}),
            vec![("at most 3", "Invalid")],
        ),
        (
            json!({"expression": "false", "message": "plain", "messageExpression": "'two\\nlines'"}),
            vec![("plain", "Invalid")],
        ),
        (
            json!({"expression": "object.spec.paused"}),
            vec![("compilation error: must evaluate to bool but got dyn", "")],
        ),
        (
            json!({"expression": "object.spec.paused == true"}),
            vec![("expression 'object.spec.paused == true' resulted in error: no such key: paused", "")],
        ),
        (
            json!({"expression": "namespaceObject.metadata.labels['env'] == 'prod' && oldObject == null"}),
            vec![],
        ),
        (json!({"expression": "request.userInfo.username == 'jane' && !request.dryRun"}), vec![]),
        (
            json!({"expression": "authorizer.requestResource.check('get').allowed() && !authorizer.group('').resource('pods').check('delete').allowed()"}),
            vec![],
        ),
    ] {
        let spec = json!({"paramKind": {}, "validations": [validation]});
        assert_eq!(messages(&judged(spec.clone(), object())), expected, "{spec}");
    }
}

#[test]
fn variables_build_on_each_other_and_conditions_come_first() {
    let spec = |condition: &str, failure: &str| {
        json!({
            "failurePolicy": failure,
            "matchConditions": [{"name": "c", "expression": condition}],
            "variables": [
                {"name": "replicas", "expression": "object.spec.replicas"},
                {"name": "many", "expression": "variables.replicas > 3"},
                {"name": "broken", "expression": "object.none"},
            ],
            "validations": [{"expression": "!variables.many", "messageExpression": "string(variables.replicas)"}],
        })
    };
    let object = || json!({"spec": {"replicas": 5}});
    assert_eq!(messages(&judged(spec("true", "Fail"), object())), [("5", "Invalid")]);
    assert_eq!(messages(&judged(spec("variables.many == false", "Fail"), object())), []);
    let error = "expression 'object.no == 1' resulted in error: no such key: no";
    assert_eq!(messages(&judged(spec("object.no == 1", "Fail"), object())), [(error, "")]);
    assert_eq!(messages(&judged(spec("object.no == 1", "Ignore"), object())), []);
    let error = "expression 'variables.broken == 1' resulted in error: composited variable \"broken\" fails to evaluate: no such key: none";
    assert_eq!(messages(&judged(spec("variables.broken == 1", "Fail"), object())), [(error, "")]);
}

#[test]
fn failures_count_as_the_policy_says() {
    let spec = |failure: &str| json!({"failurePolicy": failure, "validations": [{"expression": "object.no == 1"}, {"expression": "false"}]});
    assert_eq!(judged(spec("Fail"), json!({})).decisions.len(), 2);
    let judgement = judged(spec("Ignore"), json!({}));
    assert_eq!(messages(&judgement), [("failed expression: false", "Invalid")]);
    let overlooked = "expression 'object.no == 1' resulted in error: no such key: no";
    assert_eq!(judgement.overlooked.iter().map(|one| one.message.as_str()).collect::<Vec<_>>(), [overlooked]);
}

#[test]
fn audit_annotations_are_texts() {
    let spec = json!({"auditAnnotations": [
        {"key": "a", "valueExpression": "'x ' + object.a"},
        {"key": "b", "valueExpression": "object.b ? 'yes' : ''"},
        {"key": "c", "valueExpression": "null"},
        {"key": "d", "valueExpression": "string(object.d)"},
    ]});
    let judgement = judged(spec, json!({"a": "y", "b": false}));
    assert_eq!(judgement.annotations, [("a".to_owned(), "x y".to_owned())]);
    let errors: Vec<&str> = judgement.annotation_errors.iter().map(|one| one.message.as_str()).collect();
    assert_eq!(errors, ["expression 'string(object.d)' resulted in error: no such key: d"]);
}

#[test]
fn expressions_are_checked_when_they_are_created() {
    let policy = json!({"kind": "ValidatingAdmissionPolicy", "spec": {
        "matchConditions": [{"name": "m", "expression": "variables.x"}],
        "variables": [{"name": "x", "expression": "1 + 'a'"}],
        "validations": [{"expression": "object.x"}, {"expression": "params.x == 1"},
            {"expression": "true", "messageExpression": "1"}],
        "auditAnnotations": [{"key": "k", "valueExpression": "1"}],
    }});
    let errors = check::check(&policy, None);
    let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "spec.matchConditions[0].expression",
            "spec.variables[0].expression",
            "spec.validations[0].expression",
            "spec.validations[1].expression",
            "spec.validations[2].messageExpression",
            "spec.auditAnnotations[0].valueExpression",
        ]
    );
    for (error, text) in errors.iter().zip([
        "undeclared reference to 'variables'",
        "found no matching overload for '_+_'",
        "must evaluate to bool but got dyn",
        "compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')",
        "must evaluate to string but got int",
        "must evaluate to one of [string null_type] but got int",
    ]) {
        assert!(error.to_string().contains(text), "{error} has {text}");
    }
}

/// Applies patches as they come.
struct Plain;

impl Mutator for Plain {
    fn merge(&self, object: &Value, configuration: Value) -> Result<Value, String> {
        Ok(json!([object, configuration]))
    }

    fn patch(&self, _: &Value, operations: Vec<Value>) -> Result<Value, String> {
        Ok(Value::Array(operations))
    }

    fn settle(&self, object: Value) -> Result<Value, String> {
        Ok(object)
    }
}

#[test]
fn mutations_become_patches() {
    let mutated = |mutation: Value| {
        let policy = Policy::read(
            &json!({"kind": "MutatingAdmissionPolicy", "metadata": {"name": "p"}, "spec": {"mutations": [mutation]}}),
        );
        let object = json!({"apiVersion": "v1", "kind": "Pod", "spec": {}});
        let input = Input {
            object: &object,
            old: &Value::Null,
            params: &Value::Null,
            request: &json!({}),
            namespace: &Value::Null,
            authorizer: &Jane,
            check: &Check::default(),
        };
        mutate(&policy, &policy.mutations[0], input, &Plain)
    };
    let apply =
        |text: &str| json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}});
    let patch = |text: &str| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": text}});
    assert_eq!(
        mutated(apply("Object{spec: Object.spec{nodeName: 'n', priority: 1}}")).map(|both| both[1].clone()),
        Ok(json!({"apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": "n", "priority": 1}}))
    );
    assert_eq!(
        mutated(patch(
            "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'c'}]"
        )),
        Ok(json!([{"op": "add", "path": "/metadata/labels/a~1b", "value": "c"}]))
    );
    assert_eq!(mutated(apply("true")), Err("must evaluate to Object but got bool".to_owned()));
}
