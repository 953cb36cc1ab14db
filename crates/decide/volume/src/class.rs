//! What a class of storage says.

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::api::storage::v1::StorageClass;

use crate::annotation::{BETA_DEFAULT_CLASS, DEFAULT_CLASS};

/// Whether its claims wait for the first pod that uses them.
pub fn delays(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// Whether it is meant for claims that name no class.
pub fn is_default(class: &StorageClass) -> bool {
    let annotations = class.metadata.annotations.as_ref();
    let says = |key: &str| annotations.and_then(|all| all.get(key)).is_some_and(|value| value == "true");
    says(DEFAULT_CLASS) || says(BETA_DEFAULT_CLASS)
}

/// The class of claims that name none: of several the newest, then the first by name.
pub fn default_class(classes: &[Arc<StorageClass>]) -> Option<&Arc<StorageClass>> {
    let defaults = classes.iter().filter(|class| is_default(class));
    defaults.min_by_key(|class| {
        let created = class.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (Reverse(created), class.metadata.name.clone())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::object;

    #[test]
    fn the_newest_default_is_taken() {
        let class = |name: &str, created: &str, key: &str, value: &str| -> Arc<StorageClass> {
            Arc::new(object(json!({"provisioner": "p",
                "metadata": {"name": name, "creationTimestamp": created, "annotations": {key: value}}})))
        };
        let (old, new) = ("2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z");
        let cases = [
            (vec![], None),
            (vec![class("a", new, DEFAULT_CLASS, "false")], None),
            (vec![class("a", old, DEFAULT_CLASS, "true"), class("b", new, DEFAULT_CLASS, "true")], Some("b")),
            (vec![class("b", old, DEFAULT_CLASS, "true"), class("a", old, DEFAULT_CLASS, "true")], Some("a")),
            (vec![class("a", old, BETA_DEFAULT_CLASS, "true"), class("b", new, "x", "true")], Some("a")),
        ];
        for (classes, expected) in cases {
            let found = default_class(&classes).and_then(|class| class.metadata.name.as_deref());
            assert_eq!(found, expected, "{classes:?}");
        }
    }
}
