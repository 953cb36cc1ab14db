//! Semantic versions (apiserver: pkg/cel/library/semverlib.go).

use std::cmp::Ordering;
use std::sync::Arc;

use super::{bool, fail};
use crate::evaluate::Evaluated;
use crate::types::{Opaque, Value};

pub(super) const TABLE: &str = "
string_to_semver semver global string kubernetes.Semver
string_bool_to_semver semver global string,bool kubernetes.Semver
is_semver_string isSemver global string bool
is_semver_string_bool isSemver global string,bool bool
semver_is_greater_than isGreaterThan member kubernetes.Semver,kubernetes.Semver bool
semver_is_less_than isLessThan member kubernetes.Semver,kubernetes.Semver bool
semver_compare_to compareTo member kubernetes.Semver,kubernetes.Semver int
semver_major major member kubernetes.Semver int
semver_minor minor member kubernetes.Semver int
semver_patch patch member kubernetes.Semver int
";

/// A semantic version.
#[derive(Clone, Debug)]
pub struct Version {
    numbers: [u64; 3],
    pre: Vec<String>,
}

impl Version {
    /// The version that a text is, if any.
    pub(crate) fn read(text: &str) -> Option<Self> {
        parse(text).ok()
    }

    pub(crate) fn same(&self, other: &Self) -> bool {
        self.order(other) == Ordering::Equal
    }

    /// By precedence; what stands behind `+` does not count.
    fn order(&self, other: &Self) -> Ordering {
        let pre = match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let parts = self.pre.iter().zip(&other.pre).map(|(a, b)| order_parts(a, b));
                parts.fold(Ordering::Equal, Ordering::then).then(self.pre.len().cmp(&other.pre.len()))
            }
        };
        self.numbers.cmp(&other.numbers).then(pre)
    }
}

fn order_parts(a: &str, b: &str) -> Ordering {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

pub(super) fn apply<'a>(function: &str, args: &[Value<'a>]) -> Option<Evaluated<'a>> {
    Some(match (function, args) {
        ("isSemver", [Value::String(text)]) => bool(parse(text).is_ok()),
        ("isSemver", [Value::String(text), Value::Bool(lenient)]) => bool(read(text, *lenient).is_ok()),
        ("semver", [Value::String(text)]) => made(parse(text)),
        ("semver", [Value::String(text), Value::Bool(lenient)]) => made(read(text, *lenient)),
        (_, [Value::Opaque(Opaque::Semver(a))]) => {
            let at = ["major", "minor", "patch"].iter().position(|name| *name == function)?;
            Ok(Value::Int(a.numbers[at] as i64))
        }
        (_, [Value::Opaque(Opaque::Semver(a)), Value::Opaque(Opaque::Semver(b))]) => match function {
            "isGreaterThan" => bool(a.order(b).is_gt()),
            "isLessThan" => bool(a.order(b).is_lt()),
            "compareTo" => Ok(Value::Int(a.order(b) as i64)),
            _ => return None,
        },
        _ => return None,
    })
}

fn made<'a>(version: Result<Version, String>) -> Evaluated<'a> {
    match version {
        Ok(version) => Ok(Value::Opaque(Opaque::Semver(Arc::new(version)))),
        Err(message) => fail(message),
    }
}

/// Reads `text`; leniently, with a leading `v`, with zeros in front and with parts left out.
fn read(text: &str, lenient: bool) -> Result<Version, String> {
    if lenient { parse(&normalized(text)) } else { parse(text) }
}

fn normalized(text: &str) -> String {
    let text = text.trim_start_matches('v');
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let mut parts: Vec<String> = numbers
        .splitn(3, '.')
        .map(|part| {
            let bare = part.trim_start_matches('0');
            if bare.is_empty() || !bare.starts_with(|c: char| c.is_ascii_digit()) {
                format!("0{bare}")
            } else {
                bare.to_owned()
            }
        })
        .collect();
    if rest.is_empty() {
        parts.resize(3, "0".to_owned());
    }
    format!("{}{rest}", parts.join("."))
}

fn parse(text: &str) -> Result<Version, String> {
    if text.is_empty() {
        return Err("Version string empty".to_owned());
    }
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (numbers, pre) = rest.split_once('-').map_or((rest, None), |(numbers, pre)| (numbers, Some(pre)));
    let parts: Vec<&str> = numbers.splitn(3, '.').collect();
    let [major, minor, patch] = parts.as_slice() else {
        return Err("No Major.Minor.Patch elements found".to_owned());
    };
    let numbers = [number(major, "major")?, number(minor, "minor")?, number(patch, "patch")?];
    let pre: Vec<String> = pre.map_or_else(Vec::new, |pre| pre.split('.').map(str::to_owned).collect());
    for part in &pre {
        identifier(part, "Prerelease is empty", "prerelease")?;
        if part.len() > 1 && part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("Numeric PreRelease version must not contain leading zeroes {part:?}"));
        }
    }
    for part in build.into_iter().flat_map(|build| build.split('.')) {
        identifier(part, "Build meta data is empty", "build meta data")?;
    }
    Ok(Version { numbers, pre })
}

fn number(text: &str, what: &str) -> Result<u64, String> {
    let title = format!("{}{}", what[..1].to_uppercase(), &what[1..]);
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("Invalid character(s) found in {what} number {text:?}"));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("{title} number must not contain leading zeroes {text:?}"));
    }
    text.parse().map_err(|_| format!("strconv.ParseUint: parsing {text:?}: value out of range"))
}

fn identifier(part: &str, empty: &str, what: &str) -> Result<(), String> {
    if part.is_empty() {
        return Err(empty.to_owned());
    }
    if !part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(format!("Invalid character(s) found in {what} {part:?}"));
    }
    Ok(())
}
