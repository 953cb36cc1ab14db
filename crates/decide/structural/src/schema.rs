//! A schema, compiled: JSON enters once, everything that objects are held against leaves.
//!
//! Nested value validations (`allOf`, `anyOf`, `oneOf`, `not`) are schemas like the others; that they say
//! nothing about structure is checked in [`crate::check`].

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use crate::format::Format;

/// One place of a structural schema and all below it.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// `type`, empty when it is left open.
    pub kind: String,
    /// The format, if it is one that the type knows.
    pub(crate) format: Option<Format>,
    /// `nullable`.
    pub nullable: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-preserve-unknown-fields`.
    pub preserve: bool,
    /// `x-kubernetes-embedded-resource`.
    pub embedded: bool,
    /// `x-kubernetes-list-type`.
    pub list: Option<ListType>,
    /// `x-kubernetes-map-type: atomic`.
    pub atomic_map: bool,
    /// `properties`.
    pub properties: BTreeMap<String, Schema>,
    /// `additionalProperties`.
    pub additional: Option<Additional>,
    /// `items`.
    pub items: Option<Box<Schema>>,
    /// `default`.
    pub default: Option<Value>,
    /// Bounds of numbers, lengths and counts.
    pub limits: Limits,
    /// `pattern`.
    pub(crate) pattern: Option<Pattern>,
    /// `enum`.
    pub allowed: Vec<Value>,
    /// `required`.
    pub required: Vec<String>,
    /// `allOf`.
    pub all_of: Vec<Schema>,
    /// `anyOf`.
    pub any_of: Vec<Schema>,
    /// `oneOf`.
    pub one_of: Vec<Schema>,
    /// `not`.
    pub not: Option<Box<Schema>>,
    /// `x-kubernetes-validations`, in their order.
    pub rules: Vec<Rule>,
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListType {
    /// One value.
    Atomic,
    /// Elements are unique.
    Set,
    /// These fields of an element are unique.
    Map(Vec<String>),
}

/// `additionalProperties`.
#[derive(Clone, Debug)]
pub enum Additional {
    /// A boolean: anything, or nothing.
    Any(bool),
    /// Each value has this schema.
    Schema(Box<Schema>),
}

/// Bounds, absent where the schema sets none.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// `maximum`.
    pub maximum: Option<f64>,
    /// `exclusiveMaximum`.
    pub exclusive_maximum: bool,
    /// `minimum`.
    pub minimum: Option<f64>,
    /// `exclusiveMinimum`.
    pub exclusive_minimum: bool,
    /// `multipleOf`.
    pub multiple_of: Option<f64>,
    /// `maxLength` in code points.
    pub max_length: Option<i64>,
    /// `minLength` in code points.
    pub min_length: Option<i64>,
    /// `maxItems`.
    pub max_items: Option<i64>,
    /// `minItems`.
    pub min_items: Option<i64>,
    /// `uniqueItems`.
    pub unique_items: bool,
    /// `maxProperties`.
    pub max_properties: Option<i64>,
    /// `minProperties`.
    pub min_properties: Option<i64>,
}

/// A pattern with its text, which messages show.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    pub(crate) text: String,
    pub(crate) regex: Result<Regex, String>,
}

/// One entry of `x-kubernetes-validations`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The expression.
    pub rule: String,
    /// What is said when it does not hold.
    pub message: String,
    /// An expression for what is said.
    pub message_expression: String,
    /// `FieldValueInvalid` and its like; empty for the default.
    pub reason: String,
    /// Where the error is shown, relative to the schema.
    pub field_path: String,
    /// `optionalOldSelf`; `None` when it is left open.
    pub optional_old_self: Option<bool>,
}

impl Schema {
    /// Reads `openAPIV3Schema`. Types were checked before; what has another type counts as absent.
    pub fn read(props: &Value) -> Schema {
        let list = |key: &str| props[key].as_array().into_iter().flatten();
        let schemas = |key: &str| list(key).map(Schema::read).collect();
        let flag = |key: &str| props[key].as_bool().unwrap_or(false);
        let kind = text(props, "type");
        Schema {
            format: Format::of(&kind, props["format"].as_str().unwrap_or_default()),
            kind,
            nullable: flag("nullable"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            preserve: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            list: list_type(props),
            atomic_map: props["x-kubernetes-map-type"] == "atomic",
            properties: props["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, schema)| (name.clone(), Schema::read(schema)))
                .collect(),
            additional: additional(&props["additionalProperties"]),
            items: nested(&props["items"]),
            default: props.get("default").filter(|value| !value.is_null()).cloned(),
            limits: Limits::read(props),
            pattern: pattern(props),
            allowed: list("enum").cloned().collect(),
            required: list("required").filter_map(Value::as_str).map(str::to_owned).collect(),
            all_of: schemas("allOf"),
            any_of: schemas("anyOf"),
            one_of: schemas("oneOf"),
            not: nested(&props["not"]),
            rules: list("x-kubernetes-validations").map(Rule::read).collect(),
        }
    }

    /// The schema of the entry `key` of an object.
    pub fn child(&self, key: &str) -> Option<&Schema> {
        self.properties.get(key).or(match &self.additional {
            Some(Additional::Schema(schema)) => Some(schema),
            _ => None,
        })
    }

    /// Whether a rule is anywhere in this schema.
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
            || self.properties.values().any(Schema::has_rules)
            || self.items.as_deref().is_some_and(Schema::has_rules)
            || matches!(&self.additional, Some(Additional::Schema(entry)) if entry.has_rules())
    }

    /// The types that a value may have; none when it is open.
    pub(crate) fn types(&self) -> Vec<&str> {
        match (self.int_or_string, self.kind.as_str()) {
            (true, _) => vec!["integer", "string"],
            (false, "") => Vec::new(),
            (false, kind) => vec![kind],
        }
    }
}

impl Limits {
    fn read(props: &Value) -> Limits {
        let number = |key: &str| props[key].as_f64();
        let count = |key: &str| props[key].as_i64();
        let flag = |key: &str| props[key].as_bool().unwrap_or(false);
        Limits {
            maximum: number("maximum"),
            exclusive_maximum: flag("exclusiveMaximum"),
            minimum: number("minimum"),
            exclusive_minimum: flag("exclusiveMinimum"),
            multiple_of: number("multipleOf"),
            max_length: count("maxLength"),
            min_length: count("minLength"),
            max_items: count("maxItems"),
            min_items: count("minItems"),
            unique_items: flag("uniqueItems"),
            max_properties: count("maxProperties"),
            min_properties: count("minProperties"),
        }
    }
}

impl Rule {
    pub(crate) fn read(value: &Value) -> Rule {
        Rule {
            rule: text(value, "rule"),
            message: text(value, "message"),
            message_expression: text(value, "messageExpression"),
            reason: text(value, "reason"),
            field_path: text(value, "fieldPath"),
            optional_old_self: value["optionalOldSelf"].as_bool(),
        }
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn nested(value: &Value) -> Option<Box<Schema>> {
    value.is_object().then(|| Box::new(Schema::read(value)))
}

fn additional(value: &Value) -> Option<Additional> {
    match value {
        Value::Bool(allowed) => Some(Additional::Any(*allowed)),
        Value::Object(_) => Some(Additional::Schema(Box::new(Schema::read(value)))),
        _ => None,
    }
}

fn list_type(props: &Value) -> Option<ListType> {
    match props["x-kubernetes-list-type"].as_str()? {
        "set" => Some(ListType::Set),
        "map" => {
            let keys = props["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
            Some(ListType::Map(keys.filter_map(Value::as_str).map(str::to_owned).collect()))
        }
        _ => Some(ListType::Atomic),
    }
}

fn pattern(props: &Value) -> Option<Pattern> {
    let text = props["pattern"].as_str().filter(|text| !text.is_empty())?;
    Some(Pattern { text: text.to_owned(), regex: crate::pattern::compiled(text) })
}
