//! Versions in the order of their maturity (apimachinery: `pkg/version`).

use std::cmp::Ordering;

use serde_json::Value;

/// Stable before beta before alpha, newer before older, anything else last by its name; `Less` comes first.
pub fn compare(a: &str, b: &str) -> Ordering {
    match (parts(a), parts(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// `v2beta3`: maturity, major, minor.
fn parts(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at(digits);
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| !text.starts_with('0'));
    let major = number(major)?;
    if rest.is_empty() {
        return Some((2, major, 0));
    }
    let (maturity, minor) = match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
        (Some(minor), _) => (1, minor),
        (_, Some(minor)) => (0, minor),
        _ => return None,
    };
    Some((maturity, major, number(minor)?))
}

/// What clients of a deprecated version are told; `None` when it is not deprecated.
pub fn deprecation(definition: &Value, version: &Value) -> Option<String> {
    if version["deprecated"] != true {
        return None;
    }
    if let Some(given) = version["deprecationWarning"].as_str() {
        return Some(given.to_owned());
    }
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, kind, name) = (text(&spec["group"]), text(&spec["names"]["kind"]), text(&version["name"]));
    let versions = spec["versions"].as_array().into_iter().flatten();
    let better = versions
        .filter(|other| other["served"] == true && other["deprecated"] != true)
        .map(|other| text(&other["name"]))
        .filter(|other| compare(other, &name).is_lt())
        .min_by(|a, b| compare(a, b));
    let message = format!("{group}/{name} {kind} is deprecated");
    Some(match better {
        Some(better) => format!("{message}; use {group}/{better} {kind}"),
        None => message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn mature_versions_come_first() {
        let mut versions = [
            "foo1",
            "v1alpha1",
            "v10",
            "v11alpha2",
            "v2",
            "v1",
            "v3beta1",
            "v12alpha1",
            "foo10",
            "v11beta2",
            "v10beta3",
        ];
        versions.sort_by(|a, b| compare(a, b));
        assert_eq!(
            versions,
            [
                "v10",
                "v2",
                "v1",
                "v11beta2",
                "v10beta3",
                "v3beta1",
                "v12alpha1",
                "v11alpha2",
                "v1alpha1",
                "foo1",
                "foo10"
            ]
        );
    }

    #[test]
    fn deprecated_versions_name_their_successor() {
        let definition = json!({"spec": {"group": "g.io", "names": {"kind": "Foo"}, "versions": [
            {"name": "v1beta1", "served": true, "deprecated": true},
            {"name": "v1", "served": true},
            {"name": "v2", "served": false},
        ]}});
        let version = |at: usize| &definition["spec"]["versions"][at];
        assert_eq!(
            deprecation(&definition, version(0)).as_deref(),
            Some("g.io/v1beta1 Foo is deprecated; use g.io/v1 Foo")
        );
        assert_eq!(deprecation(&definition, version(1)), None);
        let own = json!({"name": "v0", "deprecated": true, "deprecationWarning": "go away"});
        assert_eq!(deprecation(&definition, &own).as_deref(), Some("go away"));
    }
}
