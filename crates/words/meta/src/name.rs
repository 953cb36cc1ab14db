//! Rules for names, with upstream's messages (apimachinery `pkg/util/validation`).

type Checked = Result<(), Vec<String>>;

fn checked(errors: Vec<String>) -> Checked {
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} bytes")
}

fn lower_alphanumeric(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// Non-empty, of `inner` characters, beginning with `first` and ending with `last`.
fn shaped(text: &str, first: fn(u8) -> bool, inner: fn(u8) -> bool, last: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&a), Some(&z)) => first(a) && last(z) && bytes.iter().all(|&c| inner(c)),
        _ => false,
    }
}

fn label_shape(text: &str) -> bool {
    shaped(text, lower_alphanumeric, |c| lower_alphanumeric(c) || c == b'-', lower_alphanumeric)
}

/// A label of RFC 1123, at most 63 bytes.
pub fn is_dns1123_label(text: &str) -> Checked {
    let mut errors = Vec::new();
    if text.len() > 63 {
        errors.push(too_long(63));
    }
    if !label_shape(text) {
        errors.push(if text.split('.').all(label_shape) {
            "must not contain dots".to_owned()
        } else {
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
             end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
                .to_owned()
        });
    }
    checked(errors)
}

/// A subdomain of RFC 1123, at most 253 bytes.
pub fn is_dns1123_subdomain(text: &str) -> Checked {
    let mut errors = Vec::new();
    if text.len() > 253 {
        errors.push(too_long(253));
    }
    if !text.split('.').all(label_shape) {
        errors.push(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .to_owned(),
        );
    }
    checked(errors)
}

/// A label of RFC 1035 (begins with a letter), at most 63 bytes.
pub fn is_dns1035_label(text: &str) -> Checked {
    let mut errors = Vec::new();
    if text.len() > 63 {
        errors.push(too_long(63));
    }
    if !shaped(text, |c| c.is_ascii_lowercase(), |c| lower_alphanumeric(c) || c == b'-', lower_alphanumeric) {
        errors.push(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
             validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
                .to_owned(),
        );
    }
    checked(errors)
}

fn qualified_shape(text: &str) -> bool {
    let ends = |c: u8| c.is_ascii_alphanumeric();
    shaped(text, ends, |c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'), ends)
}

const QUALIFIED_NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// `[prefix/]name`, as label keys and finalizers are.
pub fn is_qualified_name(text: &str) -> Checked {
    let mut errors = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else if let Err(found) = is_dns1123_subdomain(prefix) {
                errors.extend(found.into_iter().map(|message| format!("prefix part {message}")));
            }
            name
        }
        _ => {
            return Err(vec![format!(
                "a qualified name {QUALIFIED_NAME} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )]);
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        errors.push(format!("name part {}", too_long(63)));
    }
    if !qualified_shape(name) {
        errors.push(format!("name part {QUALIFIED_NAME}"));
    }
    checked(errors)
}

/// A label's value: empty or at most 63 bytes of the characters of a qualified name.
pub fn is_label_value(text: &str) -> Checked {
    let mut errors = Vec::new();
    if text.len() > 63 {
        errors.push(too_long(63));
    }
    if !text.is_empty() && !qualified_shape(text) {
        errors.push(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
             validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                .to_owned(),
        );
    }
    checked(errors)
}

/// A name that can stand as one segment of a path, as RBAC objects have.
pub fn is_path_segment(text: &str) -> Checked {
    if text == "." || text == ".." {
        return Err(vec![format!("may not be '{text}'")]);
    }
    checked(
        ["/", "%"]
            .iter()
            .filter(|part| text.contains(**part))
            .map(|part| format!("may not contain '{part}'"))
            .collect(),
    )
}

/// The name of a port: a service name of RFC 6335.
pub fn is_port_name(text: &str) -> Checked {
    let mut errors = Vec::new();
    if text.len() > 15 {
        errors.push(too_long(15));
    }
    if !text.bytes().all(|c| lower_alphanumeric(c) || c == b'-') || text.is_empty() {
        errors.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    checked(errors)
}

/// A key of a ConfigMap or Secret.
pub fn is_config_key(text: &str) -> Checked {
    let mut errors = Vec::new();
    if text.len() > 253 {
        errors.push(too_long(253));
    }
    if text.is_empty() || !text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
    {
        errors.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
             'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    }
    match text {
        "." => errors.push("must not be '.'".to_owned()),
        ".." => errors.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => errors.push("must not start with '..'".to_owned()),
        _ => {}
    }
    checked(errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        for (rule, good, bad) in [
            (is_dns1123_label as fn(&str) -> Checked, "a-1", "A"),
            (is_dns1123_label, "1", "a.b"),
            (is_dns1123_subdomain, "a.b-c", "a..b"),
            (is_dns1035_label, "a1", "1a"),
            (is_qualified_name, "example.com/My_Name", "/x"),
            (is_label_value, "", "-a"),
            (is_path_segment, "system:node", "a/b"),
            (is_port_name, "http-1", "80"),
            (is_config_key, ".a", ".."),
        ] {
            assert_eq!(rule(good), Ok(()), "{good}");
            assert!(rule(bad).is_err(), "{bad}");
        }
    }
}
