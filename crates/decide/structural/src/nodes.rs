//! A schema as the shapes that patches, server-side apply and managed fields know.

use plimsoll_schema::{Field, ListKind, MapKind, Node, NodeId, Patch, Schemas, Struct};

use crate::schema::{Additional, ListType, Schema};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The types of a custom kind, and the one of whole objects; without a schema everything is deduced.
pub fn nodes(schema: Option<&Schema>) -> (Schemas, NodeId) {
    let mut builder = Builder { schemas: Schemas::default(), metadata: None };
    let root = match schema {
        Some(schema) => {
            let node = builder.structure(schema, true);
            builder.schemas.push(node)
        }
        None => {
            let rest = builder.schemas.push(Node::Deduced);
            let node = builder.resource(Vec::new(), MapKind::Granular, Some(rest));
            builder.schemas.push(node)
        }
    };
    (builder.schemas, root)
}

struct Builder {
    schemas: Schemas,
    metadata: Option<NodeId>,
}

impl Builder {
    fn place(&mut self, schema: &Schema) -> NodeId {
        let node = self.node(schema);
        self.schemas.push(node)
    }

    fn node(&mut self, schema: &Schema) -> Node {
        match schema.kind.as_str() {
            _ if schema.int_or_string => Node::IntOrString,
            "boolean" => Node::Boolean,
            "integer" => Node::Integer { bits: 64 },
            "number" => Node::Number,
            "string" => Node::String,
            "array" => self.list(schema),
            "object" => self.object(schema),
            _ if !schema.properties.is_empty() => self.object(schema),
            _ => Node::Deduced,
        }
    }

    fn list(&mut self, schema: &Schema) -> Node {
        let Some(item) = schema.items.as_deref() else { return Node::Deduced };
        let kind = match &schema.list {
            Some(ListType::Set) => ListKind::Set,
            Some(ListType::Map(keys)) => ListKind::Map(keys.clone()),
            Some(ListType::Atomic) | None => ListKind::Atomic,
        };
        Node::List { item: self.place(item), kind }
    }

    fn object(&mut self, schema: &Schema) -> Node {
        let kind = if schema.atomic_map { MapKind::Atomic } else { MapKind::Granular };
        match &schema.additional {
            _ if schema.embedded || !schema.properties.is_empty() => self.structure(schema, schema.embedded),
            Some(Additional::Schema(entry)) => Node::Map { value: self.place(entry), kind },
            _ => Node::Map { value: self.schemas.push(Node::Deduced), kind },
        }
    }

    fn structure(&mut self, schema: &Schema, is_resource: bool) -> Node {
        let kind = if schema.atomic_map { MapKind::Atomic } else { MapKind::Granular };
        let own = |name: &str| is_resource && crate::prune::META_FIELDS.contains(&name);
        let properties: Vec<_> = schema.properties.iter().filter(|(name, _)| !own(name)).collect();
        let mut fields = Vec::with_capacity(properties.len() + 3);
        for (name, property) in properties {
            let node = self.place(property);
            let required = schema.required.contains(name);
            fields.push(Field { default: property.default.clone(), required, ..field(name, node) });
        }
        let rest = match (&schema.additional, schema.preserve) {
            (_, true) | (Some(Additional::Any(true)), _) => Some(self.schemas.push(Node::Deduced)),
            _ => None,
        };
        match is_resource {
            true => self.resource(fields, kind, rest),
            false => Node::Struct(Struct { name: String::new(), fields, kind, rest }),
        }
    }

    /// A struct that has the three fields of every object.
    fn resource(&mut self, mut fields: Vec<Field>, kind: MapKind, rest: Option<NodeId>) -> Node {
        let text = self.schemas.push(Node::String);
        let metadata = self.metadata();
        fields.extend([field("apiVersion", text), field("kind", text), field("metadata", metadata)]);
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        Node::Struct(Struct { name: String::new(), fields, kind, rest })
    }

    fn metadata(&mut self) -> NodeId {
        if let Some(there) = self.metadata {
            return there;
        }
        let builtin = plimsoll_schema::builtin();
        let place = match builtin.lookup(OBJECT_META) {
            Some(id) => self.schemas.adopt(builtin, id),
            None => self.schemas.push(Node::Deduced),
        };
        self.metadata = Some(place);
        place
    }
}

fn field(name: &str, node: NodeId) -> Field {
    Field { name: name.to_owned(), node, required: false, patch: Patch::default(), default: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_and_maps_carry_their_rules() {
        let schema = Schema::read(&json!({"type": "object", "properties": {
        "metadata": {"type": "object"},
        "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "required": ["list"], "properties": {
            "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                     "items": {"type": "object", "properties": {"k": {"type": "string", "default": "d"}}}},
            "map": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "integer"}},
            "free": {"type": "object"},
        }}}}));
        let (schemas, root) = nodes(Some(&schema));
        let of = |id: NodeId| match schemas.node(id) {
            Node::Struct(shape) => shape,
            other => panic!("no struct: {other:?}"),
        };
        let names: Vec<&str> = of(root).fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(names, ["apiVersion", "kind", "metadata", "spec"]);
        assert!(of(of(root).field("metadata").expect("metadata").node).field("finalizers").is_some());
        let spec = of(of(root).field("spec").expect("spec").node);
        assert!(spec.rest.is_some());
        let list = spec.field("list").expect("list");
        assert!(list.required);
        let Node::List { item, kind: ListKind::Map(keys) } = schemas.node(list.node) else {
            panic!("no map")
        };
        assert_eq!(
            (keys.as_slice(), &of(*item).field("k").expect("k").default),
            (&["k".to_owned()][..], &Some(json!("d")))
        );
        let node = |name: &str| schemas.node(spec.field(name).expect(name).node);
        assert!(matches!(node("map"), Node::Map { kind: MapKind::Atomic, .. }));
        let Node::Map { value, .. } = node("free") else { panic!("no map") };
        assert_eq!(*schemas.node(*value), Node::Deduced);
    }
}
