//! Which keywords a schema may use, place by place.

use plimsoll_meta::field::{FieldError, Path};
use serde_json::Value;

use super::{Tolerance, lists};
use crate::prune::META_FIELDS;
use crate::rules::{Audit, Scope};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

const REASONS: [&str; 4] =
    ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// `is_structural` tells that the types which rules see can be made of the schema.
pub(super) fn check(
    props: &Value,
    path: &Path,
    tolerance: Tolerance,
    is_structural: bool,
) -> Vec<FieldError> {
    let audit = is_structural.then(|| Audit::new(tolerance.costs));
    let mut walk = Walk { tolerance, errors: Vec::new(), audit };
    walk.schema(props, path, Context { is_root: true, ..Context::default() });
    walk.errors.extend(walk.audit.into_iter().flat_map(|audit| audit.finish(path)));
    walk.errors
}

pub(super) fn has_invalid_type(props: &Value) -> bool {
    props["type"].as_str().is_some_and(|kind| !kind.is_empty() && !TYPES.contains(&kind))
}

#[derive(Clone, Default)]
struct Context {
    is_root: bool,
    /// Inside of the metadata of an object.
    in_metadata: bool,
    /// Why defaults are forbidden here.
    no_defaults: Option<String>,
    /// What rules here cost and know.
    scope: Scope,
}

struct Walk {
    tolerance: Tolerance,
    errors: Vec<FieldError>,
    /// Looks at rules, where nothing else is wrong.
    audit: Option<Audit>,
}

impl Walk {
    fn forbid(&mut self, path: &Path, detail: impl Into<String>) {
        self.errors.push(FieldError::forbidden(path, detail));
    }

    fn schema(&mut self, props: &Value, path: &Path, context: Context) {
        let before = self.errors.len();
        self.standard(props, path, &context);
        if props["uniqueItems"] == true {
            let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.forbid(&path.child("uniqueItems"), detail);
        }
        self.additional(props, path, &context);
        self.properties(props, path, &context);
        let (is_root, scope) = (context.is_root, context.scope.clone());
        let plain = Context { is_root: false, ..context };
        if props["not"].is_object() {
            self.schema(&props["not"], &path.child("not"), plain.clone());
        }
        for keyword in ["allOf", "oneOf", "anyOf"] {
            for (at, branch) in props[keyword].as_array().into_iter().flatten().enumerate() {
                self.schema(branch, &path.child(keyword).index(at), plain.clone());
            }
        }
        if props["items"].is_object() {
            let below = Context { scope: scope.items(props, path), ..plain };
            self.schema(&props["items"], &path.child("items"), below);
        }
        self.errors.extend(lists::check(props, path, self.tolerance));
        for (at, rule) in props["x-kubernetes-validations"].as_array().into_iter().flatten().enumerate() {
            self.rule(rule, props, &path.child("x-kubernetes-validations").index(at));
        }
        // The types of a schema that is wrong here or below make no sense to those who write rules.
        if let Some(audit) = self.audit.as_mut().filter(|_| self.errors.len() == before) {
            audit.place(props, path, &scope, is_root);
        }
    }

    fn standard(&mut self, props: &Value, path: &Path, context: &Context) {
        let kind = props["type"].as_str().unwrap_or_default();
        if has_invalid_type(props) && !self.tolerance.types {
            self.errors.push(FieldError::not_supported(&path.child("type"), &kind.into(), &TYPES));
        }
        if let (Some(reason), false) = (&context.no_defaults, props["default"].is_null()) {
            self.forbid(&path.child("default"), format!("must not be set {reason}"));
        }
        if !props["id"].as_str().unwrap_or_default().is_empty() {
            self.forbid(&path.child("id"), "id is not supported");
        }
        for keyword in ["additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
            let there = match keyword {
                "patternProperties" | "definitions" => {
                    props[keyword].as_object().is_some_and(|map| !map.is_empty())
                }
                _ => !props[keyword].is_null(),
            };
            if there {
                self.forbid(&path.child(keyword), format!("{keyword} is not supported"));
            }
        }
        if kind == "null" {
            self.forbid(&path.child("type"), "type cannot be set to null, use nullable as an alternative");
        }
        if props["items"].as_array().is_some_and(|items| !items.is_empty()) {
            self.forbid(&path.child("items"), "items must be a schema object and not an array");
        }
        let embedded = "x-kubernetes-embedded-resource";
        if context.in_metadata && props[embedded] == true {
            self.forbid(&path.child(embedded), "must not be used inside of resource meta");
        }
    }

    fn additional(&mut self, props: &Value, path: &Path, context: &Context) {
        let additional = &props["additionalProperties"];
        let has_properties = props["properties"].as_object().is_some_and(|map| !map.is_empty());
        let at = path.child("additionalProperties");
        if has_properties && !additional.is_null() && *additional != true {
            self.forbid(&at, "additionalProperties and properties are mutual exclusive");
        }
        if !additional.is_object() {
            return;
        }
        let mut below = Context { is_root: false, scope: context.scope.below(props), ..context.clone() };
        if context.in_metadata {
            below.no_defaults = Some("inside additionalProperties applying to object metadata".to_owned());
        }
        self.schema(additional, &at, below);
    }

    fn properties(&mut self, props: &Value, path: &Path, context: &Context) {
        let embedded = props["x-kubernetes-embedded-resource"] == true;
        for (name, property) in props["properties"].as_object().into_iter().flatten() {
            let mut below = Context { is_root: false, scope: context.scope.below(props), ..context.clone() };
            if (context.is_root || embedded) && META_FIELDS.contains(&name.as_str()) {
                below.in_metadata = true;
                if context.is_root {
                    below.no_defaults = Some(format!("in top-level {name}"));
                }
            }
            self.schema(property, &path.child("properties").key(name), below);
        }
    }

    /// An entry of `x-kubernetes-validations`, its expressions aside.
    fn rule(&mut self, rule: &Value, props: &Value, path: &Path) {
        let text = |key: &str| rule[key].as_str().unwrap_or_default();
        let breaks = |text: &str| text.contains(['\n', '\r']);
        let (expression, message) = (text("rule").trim(), text("message").trim());
        let mut invalid = |key: &str, detail: &str| {
            self.errors.push(FieldError::invalid(&path.child(key), &rule[key], detail));
        };
        if !expression.is_empty() {
            if !text("message").is_empty() && message.is_empty() {
                invalid("message", "message must be non-empty if specified");
            } else if breaks(message) {
                invalid("message", "message must not contain line breaks");
            }
        }
        let field_path = text("fieldPath");
        if !field_path.is_empty() && field_path.trim().is_empty() {
            invalid("fieldPath", "fieldPath must be non-empty if specified");
        }
        if breaks(field_path) {
            invalid("fieldPath", "fieldPath must not contain line breaks");
        }
        if !field_path.is_empty() && crate::path::resolve(field_path, props).is_err() {
            invalid("fieldPath", "fieldPath must be a valid path");
        }
        let mut required = |key: &str, detail: &str| {
            self.errors.push(FieldError::required(&path.child(key), detail));
        };
        if expression.is_empty() {
            required("rule", "rule is not specified");
        } else if breaks(expression) && message.is_empty() && text("message").is_empty() {
            required("message", "message must be specified if rule contains line breaks");
        }
        if !text("messageExpression").is_empty() && text("messageExpression").trim().is_empty() {
            required("messageExpression", "messageExpression must be non-empty if specified");
        }
        if !text("reason").is_empty() && !REASONS.contains(&text("reason")) {
            let at = path.child("reason");
            self.errors.push(FieldError::not_supported(&at, &rule["reason"], &REASONS));
        }
    }
}
