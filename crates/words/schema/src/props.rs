//! A type written out as a JSON schema, with everything that it refers to in place: what expressions are
//! checked against.

use serde_json::{Map, Value, json};

use crate::{Node, NodeId, Schemas};

/// The schema of a type. A type inside of itself is an object of which nothing else is said.
pub fn props(schemas: &Schemas, id: NodeId) -> Value {
    write(schemas, id, &mut Vec::new())
}

fn write(schemas: &Schemas, id: NodeId, above: &mut Vec<NodeId>) -> Value {
    if above.contains(&id) {
        return json!({"type": "object"});
    }
    above.push(id);
    let props = match schemas.node(id) {
        Node::Struct(inner) => {
            let properties: Map<String, Value> = inner
                .fields
                .iter()
                .map(|field| (field.name.clone(), write(schemas, field.node, above)))
                .collect();
            json!({"type": "object", "properties": properties})
        }
        Node::Map { value, .. } => {
            json!({"type": "object", "additionalProperties": write(schemas, *value, above)})
        }
        Node::List { item, .. } => json!({"type": "array", "items": write(schemas, *item, above)}),
        Node::Boolean => json!({"type": "boolean"}),
        Node::Integer { .. } => json!({"type": "integer"}),
        Node::Number => json!({"type": "number"}),
        Node::String => json!({"type": "string"}),
        Node::Bytes => json!({"type": "string", "format": "byte"}),
        Node::Time | Node::MicroTime => json!({"type": "string", "format": "date-time"}),
        // Quantities are written as numbers, too.
        Node::IntOrString | Node::Quantity => json!({"x-kubernetes-int-or-string": true}),
        _ => json!({"type": "object"}),
    };
    above.pop();
    props
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_written_out() {
        let schemas = crate::builtin();
        let of = |name: &str| props(schemas, schemas.lookup(name).expect("a type"));
        let deployment = of("io.k8s.api.apps.v1.Deployment");
        for (path, expected) in [
            ("/properties/spec/properties/replicas", json!({"type": "integer"})),
            (
                "/properties/spec/properties/strategy/properties/rollingUpdate/properties/maxSurge",
                json!({"x-kubernetes-int-or-string": true}),
            ),
            (
                "/properties/metadata/properties/labels",
                json!({"type": "object", "additionalProperties": {"type": "string"}}),
            ),
            (
                "/properties/metadata/properties/creationTimestamp",
                json!({"type": "string", "format": "date-time"}),
            ),
        ] {
            assert_eq!(deployment.pointer(path), Some(&expected), "{path}");
        }
        let recursive = of("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps");
        assert_eq!(recursive.pointer("/properties/not"), Some(&json!({"type": "object"})));
    }
}
