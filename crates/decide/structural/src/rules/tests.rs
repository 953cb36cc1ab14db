use super::*;
use serde_json::json;

fn texts(errors: &[FieldError]) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn definition(schema: Value) -> Value {
    json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}})
}

fn spec(rules: Value) -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-validations": rules,
    "properties": {
        "min": {"type": "integer"}, "max": {"type": "integer"}, "name": {"type": "string"},
        "any": {"x-kubernetes-int-or-string": true},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"],
                "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v"}],
                "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
        "labels": {"type": "object", "additionalProperties": {"type": "string",
            "x-kubernetes-validations": [{"rule": "self != ''", "message": " say something "}]}},
    }}}})
}

#[test]
fn rules_are_held_against_objects() {
    let at = |rule: Value| Rules::of(&spec(json!([rule]))).expect("rules");
    let check = |rule: Value, new: Value, old: Option<Value>| {
        let (new, old) = (json!({"spec": new}), old.map(|old| json!({"spec": old})));
        texts(&match old {
            Some(old) => at(rule).check_update(&new, &old),
            None => at(rule).check(&new),
        })
    };
    let order = json!({"rule": "self.min <= self.max"});
    let fixed = json!({"rule": "self.name == oldSelf.name", "message": "name is fixed", "reason": "FieldValueForbidden", "fieldPath": ".name"});
    let optional =
        json!({"rule": "!oldSelf.hasValue() || oldSelf.value().min <= self.min", "optionalOldSelf": true});
    let told = json!({"rule": "self.min <= self.max", "messageExpression": "'at most ' + string(self.max)", "reason": "FieldValueRequired"});
    let mute = json!({"rule": "self.min <= self.max", "messageExpression": "self.name", "message": "order"});
    let wrong = json!({"min": 2, "max": 1});
    let failed = r#"spec: Invalid value: "object": failed rule: self.min <= self.max"#;
    for (rule, new, old, expected) in [
        (&order, json!({"min": 1, "max": 1}), None, vec![]),
        (&order, wrong.clone(), None, vec![failed]),
        (
            &order,
            json!({"min": 1}),
            None,
            vec![r#"spec: Invalid value: "object": no such key: max evaluating rule: self.min <= self.max"#],
        ),
        // What did not change may stay wrong; a change is held to the rule.
        (&order, wrong.clone(), Some(wrong.clone()), vec![]),
        (&order, wrong.clone(), Some(json!({"min": 3, "max": 1})), vec![failed]),
        (&fixed, json!({"name": "a"}), None, vec![]),
        (
            &fixed,
            json!({"name": "a"}),
            Some(json!({"name": "b"})),
            vec!["spec.name: Forbidden: name is fixed"],
        ),
        (&optional, json!({"min": 1}), None, vec![]),
        (
            &optional,
            json!({"min": 1}),
            Some(json!({"min": 2})),
            vec![
                r#"spec: Invalid value: "object": failed rule: !oldSelf.hasValue() || oldSelf.value().min <= self.min"#,
            ],
        ),
        (&told, wrong.clone(), None, vec!["spec: Required value: at most 1"]),
        (&mute, wrong.clone(), None, vec![r#"spec: Invalid value: "object": order"#]),
        (
            &order,
            json!({"min": 1, "max": 1, "list": [{"k": "a", "v": 1}, {"k": "b", "v": 1}]}),
            Some(json!({"list": [{"k": "b", "v": 2}, {"k": "a", "v": 1}]})),
            vec![r#"spec.list[1]: Invalid value: "object": failed rule: self.v >= oldSelf.v"#],
        ),
        (
            &order,
            json!({"min": 1, "max": 1, "labels": {"x": "", "y": "z"}}),
            None,
            vec![r#"spec.labels[x]: Invalid value: "string": say something"#],
        ),
        (
            &json!({"rule": "self.any > 5"}),
            json!({"any": "x"}),
            None,
            vec![
                r#"spec: Invalid value: "object": 'no such overload: _>_(string, int)': call arguments did not match a supported operator, function or macro signature for rule: self.any > 5"#,
            ],
        ),
    ] {
        assert_eq!(check(rule.clone(), new.clone(), old), expected, "{rule} {new}");
    }
}

#[test]
fn expensive_rules_end_the_check() {
    let schema = json!({"type": "object", "properties": {"list": {"type": "array", "items": {"type": "integer"},
        "x-kubernetes-validations": [{"rule": "self.all(x, self.all(y, x == y))"}, {"rule": "false"}]}}});
    let object = json!({"list": vec![1; 2000]});
    assert_eq!(
        texts(&Rules::of(&schema).expect("rules").check(&object)),
        [
            r#"list: Invalid value: "array": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: self.all(x, self.all(y, x == y))"#
        ]
    );
}

#[test]
fn rules_of_definitions_are_compiled_and_costed() {
    let at = "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]";
    for (rule, expected) in [
        (json!({"rule": "self.min <= self.max"}), vec![]),
        (
            json!({"rule": "self.x > 1"}),
            vec![
                ".rule: Invalid value: {\"Rule\":\"self.x \\u003e 1\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: compilation failed: ERROR: <input>:1:5: undefined field 'x'\n | self.x > 1\n | ....^",
            ],
        ),
        (
            json!({"rule": "self.min"}),
            vec![
                r#".rule: Invalid value: {"Rule":"self.min","Message":"","MessageExpression":"","Reason":null,"FieldPath":"","OptionalOldSelf":null}: cel expression must evaluate to a bool"#,
            ],
        ),
        (
            json!({"rule": "true", "messageExpression": "1"}),
            vec![
                r#".messageExpression: Invalid value: {"Rule":"true","Message":"","MessageExpression":"1","Reason":null,"FieldPath":"","OptionalOldSelf":null}: messageExpression must evaluate to a string"#,
            ],
        ),
        (
            json!({"rule": "true", "optionalOldSelf": true}),
            vec![".optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule"],
        ),
    ] {
        let expected: Vec<String> = expected.iter().map(|text| format!("{at}{text}")).collect();
        assert_eq!(texts(&crate::check::definition(&definition(spec(json!([rule]))))), expected);
    }
}

#[test]
fn rules_may_not_cost_too_much() {
    let list = |items: Value, rule: &str| {
        json!({"type": "object", "properties": {"list": {"type": "array", "items": items,
            "x-kubernetes-validations": [{"rule": rule}]}}})
    };
    let expensive = list(json!({"type": "string"}), "self.all(x, self.all(y, x == y))");
    let path = "spec.validation.openAPIV3Schema";
    let hint = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)";
    let of_total = [
        format!(
            "{path}.properties[list].x-kubernetes-validations[0].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        ),
        format!(
            "{path}: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x {hint}"
        ),
    ];
    let mut all = vec![format!(
        "{path}.properties[list].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {hint}"
    )];
    all.extend(of_total.clone());
    let new = definition(expensive);
    assert_eq!(texts(&crate::check::definition(&new)), all);
    assert_eq!(texts(&crate::check::definition_update(&new, &new)), of_total);
    let inside = json!({"type": "object", "properties": {"a": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.a == oldSelf.a"}]});
    let found = texts(&crate::check::definition(&definition(list(inside, "true"))));
    assert_eq!(
        found,
        [format!(
            r#"{path}.properties[list].items.x-kubernetes-validations[0].rule: Invalid value: "self.a == oldSelf.a": oldSelf cannot be used on the uncorrelatable portion of the schema within {path}.properties[list]"#
        )]
    );
}
