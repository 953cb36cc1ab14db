//! Named formats (apiserver: pkg/cel/library/format.go).

use super::regexes;
use crate::evaluate::Evaluated;
use crate::types::{Opaque, Timestamp, Value};

pub(super) const TABLE: &str = "
format-named format.named global string optional(kubernetes.NamedFormat)
format-validate validate member kubernetes.NamedFormat,string optional(list(string))
";

/// A format by its name.
#[derive(Debug)]
pub struct NamedFormat {
    pub(crate) name: &'static str,
    pub(crate) max_regex_size: u64,
    validate: fn(&str) -> Vec<String>,
}

static FORMATS: [NamedFormat; 13] = [
    NamedFormat { name: "dns1123Label", max_regex_size: 30, validate: |text| label(text, false) },
    NamedFormat { name: "dns1123Subdomain", max_regex_size: 60, validate: |text| subdomain(text, false) },
    NamedFormat { name: "dns1035Label", max_regex_size: 30, validate: |text| label_1035(text, false) },
    NamedFormat { name: "qualifiedName", max_regex_size: 60, validate: qualified_name },
    NamedFormat { name: "dns1123LabelPrefix", max_regex_size: 30, validate: |text| label(text, true) },
    NamedFormat {
        name: "dns1123SubdomainPrefix",
        max_regex_size: 60,
        validate: |text| subdomain(text, true),
    },
    NamedFormat { name: "dns1035LabelPrefix", max_regex_size: 30, validate: |text| label_1035(text, true) },
    NamedFormat { name: "labelValue", max_regex_size: 40, validate: label_value },
    NamedFormat { name: "uri", max_regex_size: 1000, validate: uri },
    NamedFormat { name: "uuid", max_regex_size: 1000, validate: uuid },
    NamedFormat { name: "byte", max_regex_size: 1000, validate: byte },
    NamedFormat { name: "date", max_regex_size: 1000, validate: date },
    NamedFormat { name: "datetime", max_regex_size: 1000, validate: datetime },
];

pub(super) fn apply<'a>(function: &str, args: &[Value<'a>]) -> Option<Evaluated<'a>> {
    match (function, args) {
        ("format.named", [Value::String(name)]) => {
            let found = FORMATS.iter().find(|format| format.name == &**name);
            Some(Ok(found.map_or(Value::Optional(None), |f| Value::some(Value::Opaque(Opaque::Format(f))))))
        }
        ("validate", [Value::Opaque(Opaque::Format(format)), Value::String(text)]) => {
            let problems: Vec<Value<'a>> = (format.validate)(text).into_iter().map(Value::text).collect();
            let none = problems.is_empty();
            Some(Ok(if none { Value::Optional(None) } else { Value::some(Value::list(problems)) }))
        }
        _ => None,
    }
}

fn is(text: &str, pattern: &str) -> bool {
    regexes::pattern(&format!("^(?:{pattern})$")).is_ok_and(|regex| regex.is_match(text))
}

fn too_long(text: &str, longest: usize) -> Option<String> {
    (text.len() > longest).then(|| format!("must be no more than {longest} bytes"))
}

/// The text with the dash of a prefix made an ordinary letter.
fn without_dash(text: &str, prefix: bool) -> String {
    match text.strip_suffix('-') {
        Some(bare) if prefix && !bare.is_empty() => format!("{bare}a"),
        _ => text.to_owned(),
    }
}

fn checked(text: &str, longest: usize, pattern: &str, message: &str) -> Vec<String> {
    let mut problems: Vec<String> = too_long(text, longest).into_iter().collect();
    if !is(text, pattern) {
        problems.push(message.to_owned());
    }
    problems
}

fn label(text: &str, prefix: bool) -> Vec<String> {
    let message = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                   and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                   '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    checked(&without_dash(text, prefix), 63, "[a-z0-9]([-a-z0-9]*[a-z0-9])?", message)
}

fn subdomain(text: &str, prefix: bool) -> Vec<String> {
    let pattern = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
    let message = r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    checked(&without_dash(text, prefix), 253, pattern, message)
}

fn label_1035(text: &str, prefix: bool) -> Vec<String> {
    let message = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
                   character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
                   validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
    checked(&without_dash(text, prefix), 63, "[a-z]([-a-z0-9]*[a-z0-9])?", message)
}

const NAME: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

fn qualified_name(text: &str) -> Vec<String> {
    let message = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
                   character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                   '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let parts: Vec<&str> = text.split('/').collect();
    let mut problems = Vec::new();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else {
                problems.extend(
                    subdomain(prefix, false).into_iter().map(|problem| format!("prefix part {problem}")),
                );
            }
            name
        }
        _ => {
            return vec![format!(
                "a qualified name {message} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if let Some(problem) = too_long(name, 63) {
        problems.push(format!("name part {problem}"));
    }
    if !is(name, NAME) {
        problems.push(format!("name part {message}"));
    }
    problems
}

fn label_value(text: &str) -> Vec<String> {
    let message = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
                   must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
                   used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
    checked(text, 63, "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", message)
}

fn problem(is_right: bool, message: &str) -> Vec<String> {
    if is_right { Vec::new() } else { vec![message.to_owned()] }
}

fn uri(text: &str) -> Vec<String> {
    match super::urls::problem(text) {
        Some(why) => vec![format!("parse {text:?}: {why}")],
        None => Vec::new(),
    }
}

fn uuid(text: &str) -> Vec<String> {
    problem(
        is(text, "(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}"),
        "does not match the UUID format",
    )
}

fn byte(text: &str) -> Vec<String> {
    let pattern = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?";
    problem(is(text, pattern), "invalid base64")
}

fn date(text: &str) -> Vec<String> {
    problem(Timestamp::parse(&format!("{text}T00:00:00Z")).is_some() && text.len() == 10, "invalid date")
}

fn datetime(text: &str) -> Vec<String> {
    problem(Timestamp::parse(text).is_some(), "invalid datetime")
}
