//! From a structural schema to a declaration (apiserver: pkg/cel/common/schemas.go).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::declared::MAX_REQUEST;
use super::{Declared, Field, ListKind, ObjectType, Shape};

impl Declared {
    /// What `schema` (a JSONSchemaProps document) declares, with `name` for the object types in it; none if
    /// expressions cannot reach values of such a schema.
    pub fn of_schema(schema: &Json, name: &str) -> Option<Self> {
        declare(schema, name, is_set(schema, "x-kubernetes-embedded-resource"))
    }

    /// The same for the root of a custom resource: `apiVersion`, `kind`, `metadata.name` and
    /// `metadata.generateName` are always there.
    pub fn of_resource(schema: &Json, name: &str) -> Option<Self> {
        declare(schema, name, true)
    }
}

fn is_set(schema: &Json, key: &str) -> bool {
    schema.get(key).and_then(Json::as_bool).unwrap_or(false)
}

fn limit(schema: &Json, key: &str) -> Option<u64> {
    let limit = schema.get(key)?;
    limit.as_u64().or_else(|| limit.as_f64().map(|f| f.max(0.0) as u64))
}

fn declare(schema: &Json, name: &str, resource: bool) -> Option<Declared> {
    let nullable = is_set(schema, "nullable");
    let mut declared = if is_set(schema, "x-kubernetes-int-or-string") {
        let max_elements = limit(schema, "maxLength").map_or(MAX_REQUEST - 2, |max| max.saturating_mul(4));
        Declared { max_elements, ..Declared::new(Shape::IntOrString) }
    } else {
        match schema.get("type").and_then(Json::as_str)? {
            "array" => list(schema, name)?,
            "object" => object(schema, name, resource)?,
            "string" => text(schema),
            "boolean" => Declared { min_size: 4, max_elements: 0, ..Declared::new(Shape::Bool) },
            "number" => Declared { max_elements: 0, ..Declared::new(Shape::Double) },
            "integer" => Declared { max_elements: 0, ..Declared::new(Shape::Int) },
            _ => return None,
        }
    };
    declared.nullable = nullable;
    Some(declared)
}

/// What stands below this schema even if expressions cannot reach it.
fn nested(schema: &Json, name: &str) -> (Declared, bool) {
    match Declared::of_schema(schema, name) {
        Some(declared) => (declared, true),
        None => (Declared { nullable: true, ..Declared::new(Shape::Unknown) }, false),
    }
}

fn list(schema: &Json, name: &str) -> Option<Declared> {
    let item = Declared::of_schema(schema.get("items")?, &format!("{name}.@idx"))?;
    let max_elements = limit(schema, "maxItems").unwrap_or((MAX_REQUEST - 2) / (item.min_size + 1));
    let kind = match schema.get("x-kubernetes-list-type").and_then(Json::as_str) {
        Some("set") => ListKind::Set,
        Some("map") => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Json::as_array);
            ListKind::Map(keys.into_iter().flatten().filter_map(|k| Some(k.as_str()?.to_owned())).collect())
        }
        _ => ListKind::Atomic,
    };
    Some(Declared { max_elements, min_size: 2, ..Declared::new(Shape::List { item: Arc::new(item), kind }) })
}

fn object(schema: &Json, name: &str, resource: bool) -> Option<Declared> {
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        let value = Declared::of_schema(values, &format!("{name}.@elem"))?;
        let max_elements = limit(schema, "maxProperties").unwrap_or((MAX_REQUEST - 2) / (value.min_size + 6));
        return Some(Declared { max_elements, min_size: 2, ..Declared::new(Shape::Map(Arc::new(value))) });
    }
    let required = schema.get("required").and_then(Json::as_array);
    let is_required = |name: &str| required.is_some_and(|r| r.iter().any(|n| n.as_str() == Some(name)));
    let mut fields = BTreeMap::new();
    let mut min_size = 2;
    for (property, of) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
        let (declared, exposed) = nested(of, &format!("{name}.{property}"));
        if exposed && is_required(property) && of.get("default").is_none() {
            min_size += property.len() as u64 + declared.min_size + 4;
        }
        fields.insert(property.clone(), Field { declared: Arc::new(declared), exposed });
    }
    if resource && !has_object_meta(schema) {
        add_object_meta(&mut fields, name);
    }
    let object = ObjectType::new(name, fields);
    Some(Declared { max_elements: 0, min_size, ..Declared::new(Shape::Object(Arc::new(object))) })
}

fn has_object_meta(schema: &Json) -> bool {
    let is = |path: &str, ty: &str| schema.pointer(path).and_then(Json::as_str) == Some(ty);
    is("/properties/kind/type", "string")
        && is("/properties/apiVersion/type", "string")
        && is("/properties/metadata/type", "object")
        && is("/properties/metadata/properties/name/type", "string")
        && is("/properties/metadata/properties/generateName/type", "string")
}

fn add_object_meta(fields: &mut BTreeMap<String, Field>, name: &str) {
    let text = || Field { declared: Arc::new(plain_text()), exposed: true };
    fields.insert("kind".to_owned(), text());
    fields.insert("apiVersion".to_owned(), text());
    let meta = BTreeMap::from([("name".to_owned(), text()), ("generateName".to_owned(), text())]);
    let meta = Shape::Object(Arc::new(ObjectType::new(format!("{name}.metadata"), meta)));
    let declared = Arc::new(Declared { max_elements: 0, min_size: 2, ..Declared::new(meta) });
    fields.insert("metadata".to_owned(), Field { declared, exposed: true });
}

fn plain_text() -> Declared {
    Declared { min_size: 2, ..Declared::new(Shape::String) }
}

fn text(schema: &Json) -> Declared {
    let max_length = limit(schema, "maxLength");
    let (shape, min_size, max_elements) = match schema.get("format").and_then(Json::as_str) {
        Some("byte") => (Shape::Bytes, 2, max_length.unwrap_or(MAX_REQUEST - 2)),
        Some("duration") => (Shape::Duration, 3, 32),
        Some("date") => (Shape::Date, 12, 12),
        Some("date-time") => (Shape::DateTime, 21, 32),
        _ => (Shape::String, 2, max_length.map_or_else(|| longest_enum(schema), |max| max.saturating_mul(4))),
    };
    Declared { max_elements, min_size, ..Declared::new(shape) }
}

fn longest_enum(schema: &Json) -> u64 {
    let values = schema.get("enum").and_then(Json::as_array).filter(|values| !values.is_empty());
    let lengths =
        values.map(|v| v.iter().filter_map(Json::as_str).map(|s| s.len() as u64).max().unwrap_or(0));
    lengths.unwrap_or(MAX_REQUEST - 2)
}
