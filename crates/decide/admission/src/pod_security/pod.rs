//! A pod as the checks look at it.

use serde_json::Value;

/// Metadata and specification of a pod or of a pod's template.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pod<'a> {
    pub(crate) metadata: &'a Value,
    pub(crate) spec: &'a Value,
}

/// What a violated check says: why, and where exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) reason: String,
    pub(crate) detail: String,
}

impl Violation {
    pub(crate) fn new(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { reason: reason.into(), detail: detail.into() }
    }
}

impl<'a> Pod<'a> {
    pub(crate) fn of(object: &'a Value) -> Self {
        Self { metadata: &object["metadata"], spec: &object["spec"] }
    }

    /// Containers of all three lists, in upstream's order.
    pub(crate) fn containers(self) -> impl Iterator<Item = &'a Value> {
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |list| items(&self.spec[list]))
    }

    /// The names of the containers that `bad` is true for.
    pub(crate) fn containers_that(self, mut bad: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        self.containers()
            .filter(|container| bad(container))
            .map(|container| text(&container["name"]))
            .collect()
    }

    pub(crate) fn annotations(self) -> impl Iterator<Item = (&'a String, &'a str)> {
        let annotations = self.metadata["annotations"].as_object();
        annotations.into_iter().flatten().map(|(key, value)| (key, text(value)))
    }

    /// The pod says that it is for Windows.
    pub(crate) fn is_windows(self) -> bool {
        self.spec["os"]["name"] == "windows"
    }

    /// Users inside the pod are other users than those of the host.
    pub(crate) fn has_own_users(self) -> bool {
        self.spec["hostUsers"] == false
    }
}

pub(crate) fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// `container "a"`, `containers "a", "b"`
pub(crate) fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

pub(crate) fn plural<'t>(one: &'t str, many: &'t str, count: usize) -> &'t str {
    if count == 1 { one } else { many }
}

/// `"a", "b"`, without escapes, as upstream joins them.
pub(crate) fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect::<Vec<_>>().join(", ")
}

/// `pod and container "a"`: who set something forbidden.
pub(crate) fn setters(pod: bool, names: &[&str]) -> Option<String> {
    let containers = (!names.is_empty()).then(|| containers(names));
    let parts: Vec<String> = pod.then(|| "pod".to_owned()).into_iter().chain(containers).collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}
