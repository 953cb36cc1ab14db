//! Laws of every message, over values made from the schema, and the bytes of special messages.

use std::collections::BTreeSet;

use plimsoll_schema::{Node, NodeId, builtin};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::table::{Count, Message, MessageId, Shape, table};
use crate::wire::Writer;

fn encoded(id: MessageId, object: &Map<String, Value>) -> Vec<u8> {
    let mut writer = Writer::default();
    crate::encode::message(table().message(id), Some(object), &mut writer).expect("fits the schema");
    writer.finish()
}

fn decoded(id: MessageId, bytes: &[u8]) -> Map<String, Value> {
    let mut object = Map::new();
    crate::decode::message(table().message(id), bytes, &mut object, 0).expect("was just encoded");
    object
}

/// Makes values from a stream of numbers.
struct Source<'a> {
    numbers: std::iter::Cycle<std::slice::Iter<'a, u8>>,
}

impl Source<'_> {
    fn next(&mut self) -> u8 {
        *self.numbers.next().expect("a cycle does not end")
    }

    fn value(&mut self, id: NodeId, depth: usize) -> Value {
        if let Some(value) = self.union(id) {
            return value;
        }
        let number = self.next();
        match builtin().node(id) {
            Node::Any | Node::Deduced => json!({"f:a": [number, null, "x", {"b": 1.5}]}),
            Node::Boolean => json!(true),
            Node::Integer { bits: 64 } => json!(i64::from(number) * 7_000_000_000 - 900_000_000_001),
            Node::Integer { .. } => json!(i32::from(number) * 1_000_000 - 99_999_999),
            Node::Number => json!(f64::from(number) + 0.25),
            Node::String => json!(format!("text-{number} ü")),
            Node::Bytes => json!(["", "AA==", "AAH/"][usize::from(number % 3)]),
            Node::Time => json!(format!("20{:02}-02-28T23:59:{:02}Z", number % 100, number % 60)),
            Node::MicroTime => json!(format!("1960-01-01T00:00:00.{number:06}Z")),
            Node::IntOrString if number.is_multiple_of(2) => json!(format!("{number}%")),
            Node::IntOrString => json!(number),
            Node::Quantity => json!(["100m", "1Gi", "5", "-1500Mi"][usize::from(number % 4)]),
            Node::List { item, .. } => (0..=number % 2).map(|_| self.value(*item, depth + 1)).collect(),
            Node::Map { value, .. } => (0..=number % 3)
                .map(|at| (format!("key-{}", 9 - at), self.value(*value, depth + 1)))
                .collect::<Map<_, _>>()
                .into(),
            Node::Struct(shape) => {
                let names = names(&shape.name);
                let mut object = Map::new();
                for field in shape.fields.iter().filter(|field| names.contains(field.name.as_str())) {
                    if depth < 7 && self.next().is_multiple_of(3) {
                        object.insert(field.name.clone(), self.value(field.node, depth + 1));
                    }
                }
                Value::Object(object)
            }
        }
    }

    /// The types that the schema keeps opaque and protobuf does not.
    fn union(&mut self, id: NodeId) -> Option<Value> {
        let name = builtin()
            .names()
            .filter(|name| name.contains("JSONSchemaPropsOr") || name.ends_with("Status"))
            .find(|name| builtin().lookup(name) == Some(id) && *builtin().node(id) == Node::Any)?;
        let one = json!({"type": "object"});
        let second = self.next().is_multiple_of(2);
        Some(match name.rsplit('.').next()? {
            "JSONSchemaPropsOrArray" if second => json!([one, {"type": "string"}]),
            "JSONSchemaPropsOrBool" if second => json!(false),
            "JSONSchemaPropsOrStringArray" if second => json!(["a", "b"]),
            "CustomResourceSubresourceStatus" => json!({}),
            _ => one,
        })
    }
}

/// JSON names that the message of a definition carries.
fn names(definition: &str) -> BTreeSet<&'static str> {
    fn collect(message: &Message, into: &mut BTreeSet<&'static str>) {
        for field in &message.fields {
            match (field.count, field.shape) {
                (Count::Flat, Shape::Message(inner)) => collect(table().message(inner), into),
                _ => drop(into.insert(field.name)),
            }
        }
    }
    let mut names = BTreeSet::new();
    if let Some(id) = table().lookup(definition.strip_prefix("io.k8s.").unwrap_or(definition)) {
        collect(table().message(id), &mut names);
    }
    names
}

/// Whether `after` is `before` and zero values only.
fn only_zeros_added(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            before.keys().all(|key| after.contains_key(key))
                && after.iter().all(|(key, value)| match before.get(key) {
                    Some(before) => only_zeros_added(before, value),
                    None => is_zero(value),
                })
        }
        (Value::Array(before), Value::Array(after)) => {
            before.len() == after.len()
                && before.iter().zip(after).all(|(before, after)| only_zeros_added(before, after))
        }
        _ => before == after,
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.values().all(is_zero),
        Value::String(text) => text.is_empty() || text == "0",
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(value) => !value,
        Value::Array(_) | Value::Null => false,
    }
}

/// A definition and an object of it.
fn object(chosen: usize, numbers: &[u8]) -> (MessageId, Map<String, Value>) {
    let mut known: Vec<(&str, MessageId)> = builtin()
        .names()
        .filter_map(|name| Some((name, table().lookup(name.strip_prefix("io.k8s.")?)?)))
        .collect();
    known.sort_by_key(|&(name, _)| name);
    let (name, message) = known[chosen % known.len()];
    let schema = builtin().lookup(name).expect("one of its names");
    let mut source = Source { numbers: numbers.iter().cycle() };
    match source.value(schema, 0) {
        Value::Object(object) => (message, object),
        _ => (message, Map::new()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn encoding_loses_nothing(chosen: usize, numbers in prop::collection::vec(any::<u8>(), 64..512)) {
        let (id, object) = object(chosen, &numbers);
        let bytes = encoded(id, &object);
        let again = decoded(id, &bytes);
        prop_assert!(
            only_zeros_added(&Value::Object(object.clone()), &Value::Object(again.clone())),
            "{object:?}\n{again:?}"
        );
        prop_assert_eq!(encoded(id, &again), bytes);
    }

    #[test]
    fn damaged_bytes_are_refused_or_read(
        chosen: usize,
        numbers in prop::collection::vec(any::<u8>(), 64..256),
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 1..8),
        length: usize,
    ) {
        let (id, object) = object(chosen, &numbers);
        let mut bytes = encoded(id, &object);
        for (at, byte) in damage {
            let length = bytes.len().max(1);
            if let Some(place) = bytes.get_mut(at % length) {
                *place = byte;
            }
        }
        bytes.truncate(length % (bytes.len() + 1));
        let mut into = Map::new();
        if crate::decode::message(table().message(id), &bytes, &mut into, 0).is_ok() {
            // Whatever is read can be stored as JSON and read again.
            let text = Value::Object(into).to_string();
            prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let enveloped = [&crate::envelope::MAGIC[..], &bytes].concat();
        drop((crate::decode(&bytes), crate::decode(&enveloped), crate::watch_event(&mut &bytes[..])));
    }
}

/// Definition, JSON, bytes.
fn special() -> Vec<(&'static str, Value, Vec<u8>)> {
    let minus_one = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    vec![
        // Quantity, in a map.
        (
            "api.core.v1.ResourceQuotaSpec",
            json!({"hard": {"cpu": "1", "a": "2"}}),
            b"\x0a\x08\x0a\x01a\x12\x03\x0a\x012\x0a\x0a\x0a\x03cpu\x12\x03\x0a\x011".to_vec(),
        ),
        // IntOrString.
        (
            "api.networking.v1.NetworkPolicyPort",
            json!({"port": 80}),
            b"\x12\x06\x08\x00\x10\x50\x1a\x00".to_vec(),
        ),
        (
            "api.networking.v1.NetworkPolicyPort",
            json!({"port": "http"}),
            b"\x12\x0a\x08\x01\x10\x00\x1a\x04http".to_vec(),
        ),
        // Time, and Go's zero time.
        (
            "api.core.v1.ContainerStateRunning",
            json!({"startedAt": "1970-01-01T00:00:01Z"}),
            b"\x0a\x04\x08\x01\x10\x00".to_vec(),
        ),
        ("api.core.v1.ContainerStateRunning", json!({}), b"\x0a\x00".to_vec()),
        // MicroTime.
        (
            "api.coordination.v1.LeaseSpec",
            json!({"acquireTime": "1970-01-01T00:00:00.000001Z"}),
            b"\x1a\x05\x08\x00\x10\xe8\x07".to_vec(),
        ),
        // RawExtension.
        (
            "api.resource.v1.OpaqueDeviceConfiguration",
            json!({"driver": "d", "parameters": {"a": 1}}),
            b"\x0a\x01d\x12\x09\x0a\x07{\"a\":1}".to_vec(),
        ),
        // FieldsV1, between strings that are always written.
        (
            "apimachinery.pkg.apis.meta.v1.ManagedFieldsEntry",
            json!({"manager": "m", "fieldsV1": {"f:a": {}}}),
            b"\x0a\x01m\x12\x00\x1a\x00\x32\x00\x3a\x0c\x0a\x0a{\"f:a\":{}}\x42\x00".to_vec(),
        ),
        // ExtraValue.
        (
            "api.authentication.v1.UserInfo",
            json!({"extra": {"k": ["v", "w"]}}),
            b"\x0a\x00\x12\x00\x22\x0b\x0a\x01k\x12\x06\x0a\x01v\x0a\x01w".to_vec(),
        ),
        // Messages that lie flat in JSON.
        (
            "api.core.v1.ConfigMapKeySelector",
            json!({"name": "n", "key": "k", "optional": false}),
            b"\x0a\x03\x0a\x01n\x12\x01k\x18\x00".to_vec(),
        ),
        (
            "api.core.v1.Volume",
            json!({"name": "v", "emptyDir": {}}),
            b"\x0a\x01v\x12\x04\x12\x02\x0a\x00".to_vec(),
        ),
        ("api.core.v1.Volume", json!({"name": "v"}), b"\x0a\x01v\x12\x00".to_vec()),
        // Numbers: unpacked lists, negative ones.
        (
            "api.core.v1.PodSecurityContext",
            json!({"supplementalGroups": [1, 300]}),
            b"\x20\x01\x20\xac\x02".to_vec(),
        ),
        (
            "apimachinery.pkg.apis.meta.v1.DeleteOptions",
            json!({"gracePeriodSeconds": -1}),
            [&[0x08][..], &minus_one].concat(),
        ),
        (
            "api.autoscaling.v2.HPAScalingRules",
            json!({"stabilizationWindowSeconds": -1}),
            [&[0x18][..], &minus_one].concat(),
        ),
        // Bytes, also empty ones.
        ("api.core.v1.Secret", json!({"metadata": {}, "data": {"a": "/w==", "b": ""}}), {
            let metadata = b"\x0a\x10\x0a\x00\x12\x00\x1a\x00\x22\x00\x2a\x00\x32\x00\x38\x00\x42\x00";
            [&metadata[..], b"\x12\x06\x0a\x01a\x12\x01\xff\x12\x05\x0a\x01b\x12\x00\x1a\x00"].concat()
        }),
    ]
}

#[test]
fn special_messages_have_their_published_bytes() {
    for (definition, object, bytes) in special() {
        let id = table().lookup(definition).expect(definition);
        let fields = object.as_object().expect("an object");
        assert_eq!(encoded(id, fields), bytes, "{object}");
        assert_eq!(&decoded(id, &bytes), fields, "{object}");
    }
}

#[test]
fn unions_of_schemas_keep_their_form() {
    let id = table()
        .lookup("apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps")
        .expect("a message");
    for object in [
        json!({"additionalProperties": true, "items": {"type": "string"}}),
        json!({"additionalProperties": false, "items": [{"type": "string"}, {"type": "integer"}]}),
        json!({"additionalProperties": {"minimum": 0.5}, "dependencies": {"a": ["b", "c"], "d": {"type": "x"}}}),
        json!({"default": {"a": [1, "x", null]}, "enum": ["a", null, 1], "x-kubernetes-preserve-unknown-fields": false}),
    ] {
        let fields = object.as_object().expect("an object");
        assert_eq!(&decoded(id, &encoded(id, fields)), fields, "{object}");
    }
}

#[test]
fn other_forms_on_the_wire_are_read() {
    let read = |definition: &str, bytes: &[u8]| {
        Value::Object(decoded(table().lookup(definition).expect(definition), bytes))
    };
    let security = "api.core.v1.PodSecurityContext";
    let selector = "apimachinery.pkg.apis.meta.v1.LabelSelector";
    for (definition, bytes, object) in [
        (security, &b"\x22\x03\x01\xac\x02"[..], json!({"supplementalGroups": [1, 300]})), // packed
        (security, b"\x10\x05\x10\x06", json!({"runAsUser": 6})), // the last one counts
        (security, b"\xf8\x7f\x01\x10\x06\xfd\x7f\x01\x02\x03\x04", json!({"runAsUser": 6})), // unknown fields
        (selector, b"\x0a\x03\x0a\x01a\x0a\x03\x0a\x01b", json!({"matchLabels": {"a": "", "b": ""}})),
        (
            "api.core.v1.Affinity", // two halves of one message
            b"\x0a\x00\x0a\x02\x0a\x00",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}),
        ),
    ] {
        assert_eq!(read(definition, bytes), object);
    }
}
