//! Values under schemas: what rules of custom resources see.

use serde_json::{Value as Json, json};

use crate::{Bindings, Budget, Declared, Environment, Value};

fn rule(schema: &Json, value: &Json, text: &str) -> Result<bool, String> {
    let declared = Declared::of_resource(schema, "selfType").expect("the schema has a type");
    let environment = Environment::new().variable("self", declared);
    let program = environment.compile(text).map_err(|error| error.to_string())?;
    let bindings = Bindings::new().bind("self", environment.value("self", value).expect("an object"));
    match program.evaluate(&bindings, &mut Budget::new()) {
        Ok(Value::Bool(held)) => Ok(held),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn rules_see_values_by_their_schema() {
    let schema = json!({"type": "object", "properties": {
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "set2": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
        "map2": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}},
        "port": {"x-kubernetes-int-or-string": true},
        "number": {"type": "number"},
        "when": {"type": "string", "format": "date-time"},
        "span": {"type": "string", "format": "duration"},
        "data": {"type": "string", "format": "byte"},
        "maybe": {"type": "string", "nullable": true},
        "never": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "a.b/c-d__e": {"type": "string"},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    let value = json!({
        "apiVersion": "v1", "kind": "K", "metadata": {"name": "n"},
        "set": ["a", "b"], "set2": ["b", "a"],
        "map": [{"k": "x", "v": 1}, {"k": "y", "v": 2}], "map2": [{"k": "y", "v": 2}, {"k": "x", "v": 1}],
        "port": "http", "number": 1, "when": "2023-01-02T03:04:05Z", "span": "1h", "data": "YWJj",
        "maybe": null, "never": null, "labels": {"app.kubernetes.io/name": "x"}, "a.b/c-d__e": "f",
        "free": {"x": 1},
    });
    for (text, expected) in [
        ("self.set == self.set2 && dyn(self.map) == dyn(self.map2)", Ok(true)),
        ("(self.set + self.set2).size() == 2 && (self.set + ['c']).size() == 3", Ok(true)),
        ("(dyn(self.map) + dyn(self.map2)).size() == 2", Ok(true)),
        ("type(self.port) == string && self.port == 'http'", Ok(true)),
        ("self.number == 1.0", Ok(true)),
        ("self.when.getFullYear() == 2023 && self.span == duration('60m') && self.data == b'abc'", Ok(true)),
        (
            "has(self.maybe) && self.maybe == null",
            Err("found no matching overload for '_==_' applied to '(string, null)'"),
        ),
        ("self.never == ''", Err("invalid data, got null for schema with nullable=false")),
        ("self.labels['app.kubernetes.io/name'] == 'x' && self.labels.all(k, k.contains('/'))", Ok(true)),
        ("self.a__dot__b__slash__c__dash__d__underscores__e == 'f'", Ok(true)),
        ("self.metadata.name == 'n' && self.kind == 'K' && !has(self.metadata.generateName)", Ok(true)),
        ("self.free == self.free", Ok(true)),
        ("self.free.x == 1", Err("undefined field 'x'")),
        ("self.labels == self.labels && self.metadata == self.metadata", Ok(true)),
    ] {
        match (rule(&schema, &value, text), expected) {
            (Err(message), Err(part)) => assert!(message.contains(part), "{text}: {message}"),
            (got, expected) => assert_eq!(got, expected.map_err(str::to_owned), "{text}"),
        }
    }
}

#[test]
fn names_are_escaped_and_back() {
    for (name, escaped) in [
        ("plain", Some("plain")),
        ("a.b", Some("a__dot__b")),
        ("a-b", Some("a__dash__b")),
        ("a/b", Some("a__slash__b")),
        ("a__b", Some("a__underscores__b")),
        ("namespace", Some("__namespace__")),
        ("1a", None),
        ("a$", None),
    ] {
        assert_eq!(crate::escape(name).as_deref(), escaped, "{name}");
        if let Some(escaped) = escaped {
            assert_eq!(crate::unescape(escaped).as_deref(), Some(name));
        }
    }
}

#[test]
fn programs_tell_what_they_read() {
    let any = Declared::any;
    let environment =
        Environment::new().variable("self", any()).variable("oldSelf", any()).variable("variables", any());
    let program =
        environment.compile("self.a == oldSelf.a && variables.x + variables.y > 1").expect("compiles");
    assert!(program.reads("oldSelf"));
    assert_eq!(program.fields_read("variables").into_iter().collect::<Vec<_>>(), ["x", "y"]);
    let shadowed = environment.compile("[1].all(oldSelf, oldSelf == 1)").expect("compiles");
    assert!(!shadowed.reads("oldSelf"));
}

#[test]
fn mutations_make_objects() {
    let environment = Environment::new().with_mutation(None);
    for text in [
        "Object{spec: Object.spec{replicas: 3}}",
        "[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c'), value: 1}]",
    ] {
        let program = environment.compile(text).expect("compiles");
        assert!(program.evaluate(&Bindings::new(), &mut Budget::new()).is_ok(), "{text}");
    }
    let wrong = environment.compile("JSONPatch{what: 'x'}").expect_err("no such field").to_string();
    assert!(wrong.contains("undefined field 'what'"), "{wrong}");
    assert!(Environment::new().compile("Object{}").is_err());
}
