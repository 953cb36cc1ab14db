//! Label and field selectors.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::label_text;

/// One condition on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What its value must fulfil.
    pub operator: Operator,
}

/// What a label's value must fulfil.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// The value is one of these (`=`, `==`, `in`).
    In(Vec<String>),
    /// The label is absent or its value is none of these (`!=`, `notin`).
    NotIn(Vec<String>),
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
    /// The value is a whole number above this.
    GreaterThan(i64),
    /// The value is a whole number below this.
    LessThan(i64),
}

/// Conditions that must all hold; none selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(pub Vec<Requirement>);

impl Requirement {
    /// Does an object with these labels fulfil it?
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        let value = label(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
            Operator::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan(bound) => number(value).is_some_and(|number| number > *bound),
            Operator::LessThan(bound) => number(value).is_some_and(|number| number < *bound),
        }
    }
}

fn number(value: Option<&str>) -> Option<i64> {
    value?.parse().ok()
}

impl Labels {
    /// Does it select everything?
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Does an object with these labels fulfil all conditions?
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|requirement| requirement.matches(&label))
    }

    /// [`Labels::matches`] for a map as objects have it.
    pub fn matches_map(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.matches(|key| labels.and_then(|map| map.get(key)).map(String::as_str))
    }

    /// Equality on each of these labels.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let equal = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::In(vec![value.clone()]),
        };
        Self(labels.iter().map(equal).collect())
    }

    /// Reads the notation of query parameters: `a=b,c in (d,e),!f,g`.
    pub fn parse(text: &str) -> Result<Self, String> {
        label_text::parse(text).map(Self)
    }
}

impl From<&LabelSelector> for Labels {
    /// The API's selector; an unknown operator (refused by validation) selects nothing.
    fn from(selector: &LabelSelector) -> Self {
        let mut labels = selector.match_labels.as_ref().map(Self::from_map).unwrap_or_default();
        for expression in selector.match_expressions.iter().flatten() {
            let values = || expression.values.clone().unwrap_or_default();
            let operator = match expression.operator.as_str() {
                "In" => Operator::In(values()),
                "NotIn" => Operator::NotIn(values()),
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                _ => Operator::In(Vec::new()),
            };
            labels.0.push(Requirement { key: expression.key.clone(), operator });
        }
        labels
    }
}

/// Conditions on fields: `metadata.name=a,status.phase!=Running`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<FieldRequirement>);

/// One condition on a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// Path of the field.
    pub field: String,
    /// The value it is compared with.
    pub value: String,
    /// Must it be equal, or different?
    pub equal: bool,
}

impl Fields {
    /// Does it select everything?
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the notation of query parameters; `\` escapes `,`, `=` and itself.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for part in split_unescaped(text) {
            if part.is_empty() {
                continue;
            }
            let at = (0..part.len())
                .find(|&at| {
                    part.is_char_boundary(at) && (part[at..].starts_with("!=") || part[at..].starts_with('='))
                })
                .ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{part}'"))?;
            let (field, rest) = part.split_at(at);
            let equal = !rest.starts_with('!');
            let value = rest
                .strip_prefix("!=")
                .or_else(|| rest.strip_prefix("=="))
                .or_else(|| rest.strip_prefix('='));
            let value = unescape(value.unwrap_or_default())
                .map_err(|cause| format!("invalid field selector: {cause}"))?;
            requirements.push(FieldRequirement { field: field.to_owned(), value, equal });
        }
        Ok(Self(requirements))
    }

    /// Does an object whose fields are given by `value` fulfil all conditions?
    pub fn matches<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|one| (value(&one.field).unwrap_or_default() == one.value) == one.equal)
    }

    /// The value that the field must equal, if a condition says so.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|one| one.equal && one.field == field).map(|one| one.value.as_str())
    }
}

fn split_unescaped(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescape(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                Some(other) => return Err(format!("invalid escape sequence: \\{other}")),
                None => return Err("invalid escape sequence: \\".to_owned()),
            },
            ',' | '=' => return Err(format!("unescaped character in value: {}", u32::from(letter))),
            other => plain.push(other),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let parsed = Labels::parse(selector).unwrap_or_else(|error| panic!("{selector}: {error}"));
        parsed.matches(|key| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value))
    }

    #[test]
    fn label_selectors() {
        let labels = [("app", "web"), ("tier", "3")];
        for (selector, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier=3", true),
            ("app!=web", false),
            ("missing!=x", true),
            ("app in (db, web)", true),
            ("app notin (db,web)", false),
            ("app", true),
            ("!app", false),
            ("!missing", true),
            ("tier>2", true),
            ("tier<2", false),
            ("app in (web),tier", true),
        ] {
            assert_eq!(selects(selector, &labels), expected, "{selector}");
        }
    }

    #[test]
    fn bad_label_selectors_are_refused() {
        for selector in ["app in web", "app=a b", "=x", "a,,b", "app~web x", "a>b"] {
            assert!(Labels::parse(selector).is_err(), "{selector}");
        }
    }

    #[test]
    fn field_selectors() {
        let fields = Fields::parse(r"metadata.name=a\,b,status.phase!=Running").expect("parses");
        let value = |field: &str| match field {
            "metadata.name" => Some("a,b"),
            "status.phase" => Some("Pending"),
            _ => None,
        };
        assert!(fields.matches(value));
        assert_eq!(fields.exact("metadata.name"), Some("a,b"));
        for (text, message) in [
            ("nonsense", "invalid selector: 'nonsense'; can't understand 'nonsense'"),
            ("a=b=c", "invalid field selector: unescaped character in value: 61"),
            (r"a=b\x", r"invalid field selector: invalid escape sequence: \x"),
            (r"a=b\", r"invalid field selector: invalid escape sequence: \"),
        ] {
            assert_eq!(Fields::parse(text), Err(message.to_owned()));
        }
    }
}
