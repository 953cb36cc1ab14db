//! What only the root of a schema may not do.

use plimsoll_meta::field::{FieldError, Path};
use serde_json::Value;

use super::structure::is_zero;

/// Keywords by their JSON and Go names, in the order of the Go type.
const KEYWORDS: [(&str, &str); 39] = [
    ("id", "ID"),
    ("$schema", "Schema"),
    ("$ref", "Ref"),
    ("description", "Description"),
    ("type", "Type"),
    ("nullable", "Nullable"),
    ("format", "Format"),
    ("title", "Title"),
    ("default", "Default"),
    ("maximum", "Maximum"),
    ("exclusiveMaximum", "ExclusiveMaximum"),
    ("minimum", "Minimum"),
    ("exclusiveMinimum", "ExclusiveMinimum"),
    ("maxLength", "MaxLength"),
    ("minLength", "MinLength"),
    ("pattern", "Pattern"),
    ("maxItems", "MaxItems"),
    ("minItems", "MinItems"),
    ("uniqueItems", "UniqueItems"),
    ("multipleOf", "MultipleOf"),
    ("enum", "Enum"),
    ("maxProperties", "MaxProperties"),
    ("minProperties", "MinProperties"),
    ("required", "Required"),
    ("items", "Items"),
    ("allOf", "AllOf"),
    ("oneOf", "OneOf"),
    ("anyOf", "AnyOf"),
    ("not", "Not"),
    ("properties", "Properties"),
    ("additionalProperties", "AdditionalProperties"),
    ("patternProperties", "PatternProperties"),
    ("dependencies", "Dependencies"),
    ("additionalItems", "AdditionalItems"),
    ("definitions", "Definitions"),
    ("externalDocs", "ExternalDocs"),
    ("example", "Example"),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
    ("x-kubernetes-validations", "XValidations"),
];

/// Those that keep their meaning when the status is held against its part of the schema alone.
const ALLOWED: [&str; 22] = [
    "Description",
    "Type",
    "Format",
    "Title",
    "Maximum",
    "ExclusiveMaximum",
    "Minimum",
    "ExclusiveMinimum",
    "MaxLength",
    "MinLength",
    "Pattern",
    "MaxItems",
    "MinItems",
    "UniqueItems",
    "MultipleOf",
    "Required",
    "Items",
    "Properties",
    "ExternalDocs",
    "Example",
    "XPreserveUnknownFields",
    "XValidations",
];

pub(super) fn check(props: &Value, has_status: bool, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if has_status {
        errors.extend(for_status(props, path));
    }
    if props["nullable"] == true {
        let at = path.child("openAPIV3Schema.nullable");
        errors.push(FieldError::forbidden(&at, "nullable cannot be true at the root"));
    }
    errors
}

fn for_status(props: &Value, path: &Path) -> Option<FieldError> {
    for (keyword, name) in KEYWORDS {
        if is_zero(&props[keyword]) {
            continue;
        }
        if keyword == "type" && props["type"] != "object" {
            let detail = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
            return Some(FieldError::invalid(&path.child("openAPIV3Schema.type"), &props["type"], detail));
        }
        if !ALLOWED.contains(&name) {
            let detail = format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                ALLOWED.join(" ")
            );
            return Some(FieldError::invalid(&path.child("openAPIV3Schema"), props, detail));
        }
    }
    None
}
