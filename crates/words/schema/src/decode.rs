//! Holds a JSON document against a shape.
//!
//! Upstream decodes into Go structs: fields it does not know vanish (or are reported when the
//! client asks), explicit nulls count as absent, and a wrong type is an error that names the Go type.

use serde_json::Value;

use crate::base64;
use crate::time;
use crate::{Field, Node, NodeId, Schemas, Struct};

/// Numbers that are written with a point or an exponent are whole up to here.
const MOST_WHOLE: f64 = 9e18;

/// What [`check`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// `unknown field "spec.foo"`, one for each field that was removed, of the first 100.
    pub unknown: Vec<String>,
}

/// How many unknown fields are told, as upstream does.
const MOST: usize = 100;

/// A value of a wrong type, in the two wordings that upstream has for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// As Go's JSON decoder says it.
    pub decoding: String,
    /// As upstream says it about what a strategic merge patch made.
    pub restoring: String,
}

/// [`fit`], with the decoder's wording of the error.
pub fn check(schemas: &Schemas, root: NodeId, value: &mut Value) -> Result<Decoded, String> {
    fit(schemas, root, value).map_err(|misfit| misfit.decoding)
}

/// Removes what the shape does not know, nulls, and what Go does not write of built-in types: optional
/// lists and maps without elements. Fails on values of a wrong type.
pub fn fit(schemas: &Schemas, root: NodeId, value: &mut Value) -> Result<Decoded, Misfit> {
    let mut walk = Walk { schemas, path: Vec::new(), found: Decoded::default(), owner: "" };
    walk.node(root, value)?;
    Ok(walk.found)
}

/// Optional lists that upstream writes even if they are empty, or that mean something when they are.
const WRITTEN_EMPTY: [(&str, &str); 10] = [
    ("io.k8s.api.autoscaling.v2.HPAScalingRules", "policies"),
    ("io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerStatus", "currentMetrics"),
    ("io.k8s.api.batch.v1.PodFailurePolicyRule", "onPodConditions"),
    ("io.k8s.api.core.v1.ProjectedVolumeSource", "sources"),
    ("io.k8s.api.discovery.v1.EndpointSlice", "ports"),
    ("io.k8s.api.rbac.v1.ClusterRole", "rules"),
    ("io.k8s.api.rbac.v1.Role", "rules"),
    ("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "managedFields"),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus", "conditions"),
    (
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinitionStatus",
        "storedVersions",
    ),
];

/// One step from a value to a part of it.
enum Step<'a> {
    Field(&'a str),
    Key(String),
    Item(usize),
}

struct Walk<'a> {
    schemas: &'a Schemas,
    path: Vec<Step<'a>>,
    found: Decoded,
    /// Name of the struct that the current value is a field of.
    owner: &'a str,
}

impl<'a> Walk<'a> {
    fn node(&mut self, id: NodeId, value: &mut Value) -> Result<(), Misfit> {
        match self.schemas.node(id) {
            Node::Any | Node::Deduced => Ok(()),
            Node::Boolean => self.expect(value.is_boolean(), value, "bool"),
            Node::Integer { bits } => self.integer(*bits, value),
            Node::Number => self.expect(value.is_number(), value, "float64"),
            Node::String => self.expect(value.is_string(), value, "string"),
            Node::Bytes => self.bytes(value),
            Node::Time => self.time(value, time::check),
            Node::MicroTime => self.time(value, time::check_micro),
            Node::IntOrString => {
                self.expect(value.is_string() || value.is_i64(), value, "intstr.IntOrString")
            }
            Node::Quantity => self.quantity(value),
            Node::Map { value: inner, .. } => self.map(*inner, value),
            Node::List { item, .. } => self.list(*item, value),
            Node::Struct(shape) => self.fields(shape, value),
        }
    }

    fn fields(&mut self, shape: &'a Struct, value: &mut Value) -> Result<(), Misfit> {
        let Value::Object(object) = value else {
            return Err(self.mismatch(value, &go_type(&shape.name)));
        };
        let outer = std::mem::replace(&mut self.owner, &shape.name);
        let mut unknown = Vec::new();
        let mut empty = Vec::new();
        for (key, inner) in object.iter_mut() {
            match shape.field(key) {
                None => unknown.push(key.clone()),
                Some(_) if inner.is_null() => empty.push(key.clone()),
                Some(field) => {
                    self.path.push(Step::Field(&field.name));
                    self.node(field.node, inner)?;
                    self.path.pop();
                    if self.vanishes(shape, field, inner) {
                        empty.push(key.clone());
                    }
                }
            }
        }
        for key in empty {
            object.remove(&key);
        }
        for key in unknown {
            object.remove(&key);
            self.path.push(Step::Key(key));
            if self.found.unknown.len() < MOST {
                self.found.unknown.push(format!("unknown field \"{}\"", self.place()));
            }
            self.path.pop();
        }
        self.owner = outer;
        Ok(())
    }

    /// Does Go leave the value out when it writes the object?
    fn vanishes(&self, shape: &Struct, field: &Field, value: &Value) -> bool {
        let empty = match self.schemas.node(field.node) {
            Node::List { .. } => value.as_array().is_some_and(Vec::is_empty),
            Node::Map { .. } => value.as_object().is_some_and(serde_json::Map::is_empty),
            _ => false,
        };
        empty
            && !field.required
            && shape.name.starts_with("io.k8s.")
            && !WRITTEN_EMPTY.contains(&(shape.name.as_str(), field.name.as_str()))
    }

    fn map(&mut self, inner: NodeId, value: &mut Value) -> Result<(), Misfit> {
        let Value::Object(object) = value else {
            return Err(self.mismatch(value, &format!("map[string]{}", self.go_name(inner))));
        };
        for (key, entry) in object.iter_mut() {
            self.zero(inner, entry);
            self.path.push(Step::Key(key.clone()));
            self.node(inner, entry)?;
            self.path.pop();
        }
        Ok(())
    }

    fn list(&mut self, item: NodeId, value: &mut Value) -> Result<(), Misfit> {
        let Value::Array(items) = value else {
            return Err(self.mismatch(value, &format!("[]{}", self.go_name(item))));
        };
        for (at, entry) in items.iter_mut().enumerate() {
            self.zero(item, entry);
            self.path.push(Step::Item(at));
            self.node(item, entry)?;
            self.path.pop();
        }
        Ok(())
    }

    /// An element that is null is the type's zero value in Go.
    fn zero(&self, id: NodeId, value: &mut Value) {
        if value.is_null() {
            match self.schemas.node(id) {
                Node::String | Node::Bytes => *value = Value::String(String::new()),
                Node::Struct(_) => *value = Value::Object(serde_json::Map::new()),
                _ => {}
            }
        }
    }

    fn integer(&self, bits: u8, value: &mut Value) -> Result<(), Misfit> {
        // Go's YAML to JSON path and other clients may write 3.0.
        let is_whole = |n: &f64| n.fract() == 0.0 && n.abs() < MOST_WHOLE;
        if let Some(whole) = value.as_f64().filter(|n| is_whole(n) && !value.is_i64() && !value.is_u64()) {
            *value = Value::from(whole as i64);
        }
        let fits = value.as_i64().is_some_and(|n| bits == 64 || i32::try_from(n).is_ok());
        self.expect(fits, value, if bits == 64 { "int64" } else { "int32" })
    }

    fn bytes(&self, value: &Value) -> Result<(), Misfit> {
        let Value::String(text) = value else { return Err(self.mismatch(value, "[]uint8")) };
        match base64::first_error(text.as_bytes()) {
            None => Ok(()),
            Some(at) => {
                let message = format!("illegal base64 data at input byte {at}");
                let restoring = format!("error decoding from json: {message}");
                Err(Misfit { decoding: message, restoring })
            }
        }
    }

    fn time(&self, value: &Value, check: fn(&str) -> Result<(), String>) -> Result<(), Misfit> {
        let Value::String(text) = value else { return Err(self.mismatch(value, "string")) };
        check(text).map_err(|message| Misfit { decoding: message.clone(), restoring: message })
    }

    fn quantity(&self, value: &mut Value) -> Result<(), Misfit> {
        if value.is_number() {
            *value = Value::String(value.to_string());
        }
        let Value::String(text) = value else {
            return Err(self.mismatch(value, "resource.Quantity"));
        };
        match text.parse::<plimsoll_meta::quantity::Quantity>() {
            Ok(quantity) => {
                *text = quantity.to_string();
                Ok(())
            }
            Err(error) => Err(Misfit { decoding: error.to_string(), restoring: error.to_string() }),
        }
    }

    fn expect(&self, holds: bool, value: &Value, wanted: &str) -> Result<(), Misfit> {
        if holds { Ok(()) } else { Err(self.mismatch(value, wanted)) }
    }

    fn mismatch(&self, value: &Value, wanted: &str) -> Misfit {
        let got = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) if wanted.starts_with("int") => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        let fields = self.path.iter().filter_map(|step| match step {
            Step::Field(name) => Some(*name),
            Step::Key(_) | Step::Item(_) => None,
        });
        let decoding = format!(
            "json: cannot unmarshal {got} into Go struct field {}.{} of type {wanted}",
            self.owner.rsplit('.').next().unwrap_or_default(),
            fields.collect::<Vec<_>>().join(".")
        );
        Misfit { decoding, restoring: restoring(value, wanted) }
    }

    /// The path so far, for people.
    fn place(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Item(at) => text.push_str(&format!("[{at}]")),
                Step::Field(name) => join(&mut text, name),
                Step::Key(name) => join(&mut text, name),
            }
        }
        text
    }

    fn go_name(&self, id: NodeId) -> String {
        match self.schemas.node(id) {
            Node::String => "string".to_owned(),
            Node::Struct(shape) => go_type(&shape.name),
            Node::Quantity => "resource.Quantity".to_owned(),
            Node::Integer { bits } => format!("int{bits}"),
            Node::Bytes => "[]uint8".to_owned(),
            _ => "interface {}".to_owned(),
        }
    }
}

fn join(text: &mut String, name: &str) {
    if !text.is_empty() {
        text.push('.');
    }
    text.push_str(name);
}

/// How upstream's converter from untyped values words it.
fn restoring(value: &Value, wanted: &str) -> String {
    let got = match value {
        Value::Null => "interface",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    };
    if wanted.starts_with("[]") {
        format!("cannot restore slice from {got}")
    } else if wanted.starts_with("map[") {
        format!("cannot restore map from {got}")
    } else if wanted.contains('.') {
        format!("cannot restore struct from: {got}")
    } else {
        format!("unrecognized type: {wanted}")
    }
}

/// `io.k8s.api.core.v1.Container` → `v1.Container`.
fn go_type(definition: &str) -> String {
    let mut parts = definition.rsplit('.');
    let name = parts.next().unwrap_or_default();
    parts.next().map_or_else(|| name.to_owned(), |version| format!("{version}.{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;
    use serde_json::json;

    fn pod(mut value: Value) -> (Result<Decoded, String>, Value) {
        let root = builtin().lookup("io.k8s.api.core.v1.Pod").expect("pod");
        (check(builtin(), root, &mut value), value)
    }

    #[test]
    fn unknown_fields_are_named_and_removed() {
        let (found, value) =
            pod(json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "imagee": "x"}], "bar": 1}}));
        let mut unknown = found.expect("decodes").unknown;
        unknown.sort();
        assert_eq!(unknown, [r#"unknown field "spec.bar""#, r#"unknown field "spec.containers[1].imagee""#]);
        assert_eq!(value, json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}));
    }

    #[test]
    fn wrong_types_are_worded_as_go_words_them() {
        for (value, message) in [
            (
                json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": "http"}]}]}}),
                "json: cannot unmarshal string into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
            ),
            (
                json!({"metadata": {"labels": {"a": 1}}}),
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
            ),
            (
                json!({"spec": []}),
                "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
            ),
        ] {
            assert_eq!(pod(value).0, Err(message.to_owned()));
        }
    }

    #[test]
    fn nulls_count_as_absent_and_quantities_become_canonical_text() {
        let (found, value) = pod(json!({"spec": {"nodeName": null, "containers": [
            {"name": "a", "resources": {"limits": {"cpu": 1, "memory": "1024Ki"}}}]}}));
        assert_eq!(found, Ok(Decoded::default()));
        assert_eq!(
            value["spec"]["containers"][0]["resources"]["limits"],
            json!({"cpu": "1", "memory": "1Mi"})
        );
        assert!(value["spec"].get("nodeName").is_none());
    }

    #[test]
    fn what_go_does_not_write_is_left_out() {
        let (found, value) = pod(json!({"metadata": {"labels": {}}, "spec": {
            "volumes": [], "nodeSelector": {}, "securityContext": {},
            "containers": [{"name": "a", "env": [], "command": [null]}]}}));
        assert_eq!(found, Ok(Decoded::default()));
        let containers = json!([{"name": "a", "command": [""]}]);
        assert_eq!(value, json!({"metadata": {}, "spec": {"securityContext": {}, "containers": containers}}));
        let root = builtin().lookup("io.k8s.api.rbac.v1.Role").expect("role");
        let mut role = json!({"rules": []});
        check(builtin(), root, &mut role).expect("fits");
        assert_eq!(role, json!({"rules": []}));
    }

    #[test]
    fn misfits_have_two_wordings() {
        let root = builtin().lookup("io.k8s.api.core.v1.Pod").expect("pod");
        for (mut value, decoding, restoring) in [
            (
                json!({"spec": {"containers": "x"}}),
                "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container",
                "cannot restore slice from string",
            ),
            (
                json!({"spec": []}),
                "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
                "cannot restore struct from: slice",
            ),
            (
                json!({"spec": {"hostNetwork": "yes"}}),
                "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
                "unrecognized type: bool",
            ),
            (
                json!({"spec": {"containers": [{"ports": [{"containerPort": 80.5}]}]}}),
                "json: cannot unmarshal number 80.5 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
                "unrecognized type: int32",
            ),
        ] {
            let misfit = fit(builtin(), root, &mut value).expect_err(decoding);
            assert_eq!((misfit.decoding.as_str(), misfit.restoring.as_str()), (decoding, restoring));
        }
    }
}
