//! Specifications of devices, and the rules of their names.

use serde::Deserialize;

use super::edits::Edits;

const VERSIONS: [&str; 6] = ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0"];

/// One file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Specification {
    cdi_version: String,
    /// `vendor.com/class`
    pub(super) kind: String,
    #[serde(default, rename = "annotations")]
    _annotations: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    pub(super) devices: Vec<Device>,
    /// What any of the devices needs.
    #[serde(default)]
    pub(super) container_edits: Edits,
}

/// One device.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Device {
    pub(super) name: String,
    #[serde(default, rename = "annotations")]
    _annotations: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    pub(super) container_edits: Edits,
}

impl Specification {
    /// Whether it is one that this engine understands.
    pub(super) fn check(&self) -> Result<(), String> {
        if !VERSIONS.contains(&self.cdi_version.as_str()) {
            return Err(format!("invalid version {:?}", self.cdi_version));
        }
        let (vendor, class) =
            self.kind.split_once('/').ok_or_else(|| format!("invalid kind {:?}", self.kind))?;
        part("vendor", vendor)?;
        part("class", class)?;
        if self.devices.is_empty() {
            return Err("invalid spec, no devices".into());
        }
        self.container_edits.check()?;
        for (index, device) in self.devices.iter().enumerate() {
            name(&device.name)?;
            if self.devices[..index].iter().any(|other| other.name == device.name) {
                return Err(format!("invalid spec, multiple device {:?}", device.name));
            }
            device
                .container_edits
                .check()
                .map_err(|problem| format!("invalid device {:?}: {problem}", device.name))?;
        }
        Ok(())
    }
}

/// The kind and the name of a device: `vendor.com/class` and `name`.
pub(super) fn qualified(text: &str) -> Result<(&str, &str), String> {
    let unqualified = |what: &str| format!("unqualified device {text:?}, missing {what}");
    let (kind, device) = text.split_once('=').ok_or_else(|| unqualified("vendor"))?;
    let (vendor, class) = kind.split_once('/').ok_or_else(|| unqualified("vendor"))?;
    for (word, what) in [(vendor, "vendor"), (class, "class"), (device, "device name")] {
        if word.is_empty() {
            return Err(unqualified(what));
        }
    }
    let invalid = |problem| format!("invalid device {text:?}: {problem}");
    part("vendor", vendor).map_err(invalid)?;
    part("class", class).map_err(invalid)?;
    name(device).map_err(invalid)?;
    Ok((kind, device))
}

/// Vendors and classes begin with a letter.
fn part(what: &str, text: &str) -> Result<(), String> {
    if !text.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return Err(format!("invalid {what} {text:?}, should start with letter"));
    }
    word(what, text, "_-.")
}

fn name(text: &str) -> Result<(), String> {
    if !text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Err(format!("invalid device name {text:?}, should start with letter or digit"));
    }
    word("device name", text, "_-.:")
}

fn word(what: &str, text: &str, others: &str) -> Result<(), String> {
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !others.contains(*c)) {
        return Err(format!("invalid character '{bad}' in {what} {text:?}"));
    }
    if !text.ends_with(|last: char| last.is_ascii_alphanumeric()) {
        return Err(format!("invalid {what} {text:?}, should end with a letter or digit"));
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn names() {
        assert_eq!(qualified("a.b/c-d=0:1.2"), Ok(("a.b/c-d", "0:1.2")));
        for (name, problem) in [
            ("a/b", "unqualified device \"a/b\", missing vendor"),
            ("a=b", "unqualified device \"a=b\", missing vendor"),
            ("/b=c", "unqualified device \"/b=c\", missing vendor"),
            ("a/=c", "unqualified device \"a/=c\", missing class"),
            ("a/b=", "unqualified device \"a/b=\", missing device name"),
            ("1/b=c", "invalid device \"1/b=c\": invalid vendor \"1\", should start with letter"),
            ("a/b!=c", "invalid device \"a/b!=c\": invalid character '!' in class \"b!\""),
            (
                "a/b=c-",
                "invalid device \"a/b=c-\": invalid device name \"c-\", should end with a letter or digit",
            ),
        ] {
            assert_eq!(qualified(name), Err(problem.to_owned()));
        }
    }

    #[test]
    fn specifications_that_make_no_sense() {
        let with = |pointer: &str, value: Value| {
            let mut it = json!({"cdiVersion": "0.8.0", "kind": "a/b", "devices": [{"name": "c", "containerEdits": {}}],
                "containerEdits": {"env": []}});
            *it.pointer_mut(pointer).unwrap() = value;
            serde_json::from_value::<Specification>(it).map_err(|error| error.to_string())?.check()
        };
        assert_eq!(with("/kind", json!("a.b/c")), Ok(()));
        for (pointer, value, problem) in [
            ("/cdiVersion", json!("0.2.0"), "invalid version \"0.2.0\""),
            ("/kind", json!("a"), "invalid kind \"a\""),
            ("/devices", json!([]), "invalid spec, no devices"),
            ("/devices", json!([{"name": "c"}, {"name": "c"}]), "invalid spec, multiple device \"c\""),
            ("/containerEdits/env", json!(["A"]), "invalid environment variable \"A\""),
            (
                "/containerEdits",
                json!({"hooks": [{"hookName": "x", "path": "/x"}]}),
                "invalid hook name \"x\"",
            ),
            (
                "/containerEdits",
                json!({"hooks": [{"hookName": "prestart", "path": ""}]}),
                "invalid hook, empty path",
            ),
            (
                "/containerEdits",
                json!({"mounts": [{"hostPath": "", "containerPath": "/x"}]}),
                "invalid mount, empty host path",
            ),
            (
                "/devices/0/containerEdits",
                json!({"deviceNodes": [{"path": ""}]}),
                "invalid device \"c\": invalid (empty) device path",
            ),
            (
                "/containerEdits",
                json!({"deviceNodes": [{"path": "/x", "permissions": "rx"}]}),
                "device \"/x\": invalid permissions \"rx\"",
            ),
            (
                "/containerEdits",
                json!({"deviceNodes": [{"path": "/x", "type": "s"}]}),
                "device \"/x\": invalid type \"s\"",
            ),
            ("/containerEdits", json!({"intelRdt": {"closID": "a/b"}}), "invalid clos ID \"a/b\""),
        ] {
            assert_eq!(with(pointer, value), Err(problem.to_owned()));
        }
        let unknown = with("/containerEdits", json!({"new": 1})).unwrap_err();
        assert!(unknown.starts_with("unknown field `new`"), "{unknown}");
    }
}
