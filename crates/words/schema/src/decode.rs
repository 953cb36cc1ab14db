//! Holds a JSON document against a shape.
//!
//! Upstream decodes into Go structs: fields it does not know vanish (or are reported when the
//! client asks), explicit nulls count as absent, and a wrong type is an error that names the Go type.

use serde_json::Value;

use crate::{Node, NodeId, Schemas};

/// What [`check`] found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// `unknown field "spec.foo"`, one for each field that was removed.
    pub unknown: Vec<String>,
}

/// Removes what the shape does not know, and nulls; fails on values of a wrong type.
///
/// The error is a fragment as Go's decoder would word it.
pub fn check(schemas: &Schemas, root: NodeId, value: &mut Value) -> Result<Decoded, String> {
    let mut walk = Walk { schemas, path: Vec::new(), found: Decoded::default(), owner: "" };
    walk.node(root, value)?;
    Ok(walk.found)
}

struct Walk<'a> {
    schemas: &'a Schemas,
    path: Vec<String>,
    found: Decoded,
    /// Name of the struct that the current value is a field of.
    owner: &'a str,
}

impl<'a> Walk<'a> {
    fn node(&mut self, id: NodeId, value: &mut Value) -> Result<(), String> {
        match self.schemas.node(id) {
            Node::Any => Ok(()),
            Node::Boolean => self.expect(value.is_boolean(), value, "bool"),
            Node::Integer { bits } => self.integer(*bits, value),
            Node::Number => self.expect(value.is_number(), value, "float64"),
            Node::String => self.expect(value.is_string(), value, "string"),
            Node::Bytes => self.expect(value.is_string(), value, "[]uint8"),
            Node::Time | Node::MicroTime => self.expect(value.is_string(), value, "v1.Time"),
            Node::IntOrString => {
                self.expect(value.is_string() || value.is_i64(), value, "intstr.IntOrString")
            }
            Node::Quantity => self.quantity(value),
            Node::Map { value: inner, .. } => self.map(*inner, value),
            Node::List { item, .. } => self.list(*item, value),
            Node::Struct(shape) => self.fields(shape, value),
        }
    }

    fn fields(&mut self, shape: &'a crate::Struct, value: &mut Value) -> Result<(), String> {
        let Value::Object(object) = value else {
            return self.mismatch(value, &go_type(&shape.name));
        };
        let outer = std::mem::replace(&mut self.owner, &shape.name);
        let mut unknown = Vec::new();
        let mut nulls = Vec::new();
        for (key, inner) in object.iter_mut() {
            match shape.field(key) {
                None => unknown.push(key.clone()),
                Some(_) if inner.is_null() => nulls.push(key.clone()),
                Some(field) => {
                    self.path.push(key.clone());
                    self.node(field.node, inner)?;
                    self.path.pop();
                }
            }
        }
        for key in nulls {
            object.remove(&key);
        }
        for key in unknown {
            object.remove(&key);
            let path = self.child(&key);
            self.found.unknown.push(format!("unknown field \"{path}\""));
        }
        self.owner = outer;
        Ok(())
    }

    fn map(&mut self, inner: NodeId, value: &mut Value) -> Result<(), String> {
        let Value::Object(object) = value else {
            return self.mismatch(value, &format!("map[string]{}", self.go_name(inner)));
        };
        let scalar = matches!(self.schemas.node(inner), Node::String | Node::Bytes);
        for (key, entry) in object.iter_mut() {
            if entry.is_null() && scalar {
                // Go's zero value.
                *entry = Value::String(String::new());
            }
            self.path.push(key.clone());
            self.node(inner, entry)?;
            self.path.pop();
        }
        Ok(())
    }

    fn list(&mut self, item: NodeId, value: &mut Value) -> Result<(), String> {
        let Value::Array(items) = value else {
            return self.mismatch(value, &format!("[]{}", self.go_name(item)));
        };
        for (at, entry) in items.iter_mut().enumerate() {
            let last = self.path.len();
            match self.path.last_mut() {
                Some(name) => name.push_str(&format!("[{at}]")),
                None => self.path.push(format!("[{at}]")),
            }
            self.node(item, entry)?;
            self.path.truncate(last);
            if let Some(name) = self.path.last_mut() {
                name.truncate(name.rfind('[').unwrap_or(name.len()));
            }
        }
        Ok(())
    }

    fn integer(&self, bits: u8, value: &mut Value) -> Result<(), String> {
        // Go's YAML to JSON path and other clients may write 3.0.
        if let Some(whole) = value.as_f64().filter(|n| n.fract() == 0.0 && !value.is_i64() && !value.is_u64())
        {
            *value = Value::from(whole as i64);
        }
        let fits = value.as_i64().is_some_and(|n| bits == 64 || i32::try_from(n).is_ok());
        if value.is_number() && !fits {
            let field = self.path.join(".");
            return Err(format!(
                "json: cannot unmarshal number {value} into Go struct field {}.{field} of type int{bits}",
                self.owner_name()
            ));
        }
        self.expect(fits, value, if bits == 64 { "int64" } else { "int32" })
    }

    fn quantity(&self, value: &mut Value) -> Result<(), String> {
        if value.is_number() {
            *value = Value::String(value.to_string());
        }
        let Value::String(text) = value else {
            return self.mismatch(value, "resource.Quantity");
        };
        match text.parse::<plimsoll_meta::quantity::Quantity>() {
            Ok(quantity) => {
                *text = quantity.to_string();
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn expect(&self, holds: bool, value: &Value, wanted: &str) -> Result<(), String> {
        if holds { Ok(()) } else { self.mismatch(value, wanted) }
    }

    fn mismatch(&self, value: &Value, wanted: &str) -> Result<(), String> {
        let got = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let path: Vec<&str> = self.path.iter().map(|part| part.split('[').next().unwrap_or(part)).collect();
        Err(format!(
            "json: cannot unmarshal {got} into Go struct field {}.{} of type {wanted}",
            self.owner_name(),
            path.join(".")
        ))
    }

    fn owner_name(&self) -> &str {
        self.owner.rsplit('.').next().unwrap_or_default()
    }

    fn child(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path.join(".")) }
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
                "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels.a of type string",
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
}
