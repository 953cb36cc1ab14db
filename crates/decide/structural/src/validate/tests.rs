use super::*;
use serde_json::json;

fn errors(schema: Value, value: Value) -> Vec<String> {
    let schema = Schema::read(&json!({"type": "object", "properties": {"spec": schema}}));
    validate(&Path::default(), &json!({"spec": value}), &schema).iter().map(ToString::to_string).collect()
}

#[test]
fn messages_are_upstreams() {
    let alternatives = json!({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    for (schema, value, expected) in [
        (
            json!({"type": "integer"}),
            json!("x"),
            vec![r#"spec: Invalid value: "string": spec in body must be of type integer: "string""#],
        ),
        (
            json!({"type": "string"}),
            json!(null),
            vec![r#"spec: Invalid value: "null": spec in body must be of type string: "null""#],
        ),
        (json!({"type": "string", "nullable": true}), json!(null), vec![]),
        (json!({"type": "integer"}), json!(3.0), vec![]),
        (json!({"type": "number"}), json!(3), vec![]),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(1.5),
            vec![r#"spec: Invalid value: "number": spec in body must be of type integer,string: "number""#],
        ),
        (
            json!({"type": "integer", "minimum": 1, "maximum": 5}),
            json!(0),
            vec!["spec: Invalid value: 0: spec in body should be greater than or equal to 1"],
        ),
        (
            json!({"type": "integer", "maximum": 5, "exclusiveMaximum": true}),
            json!(5),
            vec!["spec: Invalid value: 5: spec in body should be less than 5"],
        ),
        (
            json!({"type": "number", "multipleOf": 0.5}),
            json!(0.75),
            vec!["spec: Invalid value: 0.75: spec in body should be a multiple of 0.5"],
        ),
        (
            json!({"type": "string", "minLength": 2}),
            json!("é"),
            vec![r#"spec: Invalid value: "é": spec in body should be at least 2 chars long"#],
        ),
        (
            json!({"type": "string", "maxLength": 2}),
            json!("éèê"),
            vec!["spec: Too long: may not be more than 2 bytes"],
        ),
        (
            json!({"type": "string", "pattern": "^a$"}),
            json!("b"),
            vec![r#"spec: Invalid value: "b": spec in body should match '^a$'"#],
        ),
        (
            json!({"type": "string", "enum": ["a", "b"]}),
            json!("c"),
            vec![r#"spec: Unsupported value: "c": supported values: "a", "b""#],
        ),
        (
            json!({"type": "string", "format": "date"}),
            json!("x"),
            vec![r#"spec: Invalid value: "x": spec in body must be of type date: "x""#],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}),
            json!(["a", "b"]),
            vec!["spec: Too many: 2: must have at most 1 items"],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
            json!([]),
            vec!["spec: Invalid value: 0: spec in body should have at least 1 items"],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            json!(["a", 1]),
            vec![r#"spec[1]: Invalid value: "integer": spec[1] in body must be of type string: "integer""#],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"k": 1}),
            vec![r#"spec.k: Invalid value: "integer": spec.k in body must be of type string: "integer""#],
        ),
        (
            json!({"type": "object", "required": ["a"], "minProperties": 1}),
            json!({}),
            vec![
                "spec: Invalid value: 0: spec in body should have at least 1 properties",
                "spec.a: Required value",
            ],
        ),
        (
            json!({"type": "object", "additionalProperties": false}),
            json!({"k": 1}),
            vec![r#"spec: Invalid value: "k": spec.k in body is a forbidden property"#],
        ),
        (alternatives.clone(), json!({"a": 1}), vec![]),
        (
            alternatives.clone(),
            json!({}),
            vec![
                r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid"#,
                "spec.a: Required value",
            ],
        ),
        (
            alternatives,
            json!({"a": 1, "b": 1}),
            vec![
                r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
            ],
        ),
        (
            json!({"type": "string", "not": {"enum": ["a"]}}),
            json!("a"),
            vec![r#"<nil>: Invalid value: "": "spec" must not validate the schema (not)"#],
        ),
        (
            json!({"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": 1}]}),
            json!(3),
            vec![
                r#"<nil>: Invalid value: "": "spec" must validate at least one schema (anyOf)"#,
                "spec: Invalid value: 3: spec in body should be greater than or equal to 5",
            ],
        ),
        (
            json!({"type": "integer", "allOf": [{"minimum": 5}]}),
            json!(3),
            vec![
                "spec: Invalid value: 3: spec in body should be greater than or equal to 5",
                r#"<nil>: Invalid value: "": "spec" must validate all the schemas (allOf). None validated"#,
            ],
        ),
    ] {
        assert_eq!(errors(schema.clone(), value.clone()), expected, "{schema} {value}");
    }
}

#[test]
fn what_was_wrong_before_passes_while_it_stays() {
    let schema = Schema::read(&json!({"type": "object", "properties": {
        "a": {"type": "integer", "minimum": 5},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "minimum": 5}}}},
        "list": {"type": "array", "items": {"type": "integer", "minimum": 5}},
    }}));
    for (old, new, expected) in [
        (json!({"a": 1}), json!({"a": 1, "list": []}), vec![]),
        (json!({"a": 1}), json!({"a": 2}), vec!["a"]),
        (
            json!({"map": [{"k": "x", "v": 1}]}),
            json!({"map": [{"k": "y", "v": 9}, {"k": "x", "v": 1}]}),
            vec![],
        ),
        (json!({"map": [{"k": "x", "v": 1}]}), json!({"map": [{"k": "y", "v": 1}]}), vec!["map[0].v"]),
        (json!({"list": [1]}), json!({"list": [1]}), vec![]),
        (json!({"list": [1]}), json!({"list": [1, 7]}), vec!["list[0]"]),
    ] {
        let found: Vec<String> = validate_update(&Path::default(), &new, &old, &schema)
            .into_iter()
            .map(|error| error.field)
            .collect();
        assert_eq!(found, expected, "{old} {new}");
    }
}

#[test]
fn errors_below_a_path_name_it_once() {
    let schema =
        Schema::read(&json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["m"]}));
    let found = validate(&Path::root("status"), &json!({"n": "x"}), &schema);
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            r#"status.n: Invalid value: "string": n in body must be of type integer: "string""#,
            "status.m: Required value"
        ]
    );
}
