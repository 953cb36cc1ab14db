//! PersistentVolumeClaimResize: claims grow where their class allows it.

use std::str::FromStr;

use plimsoll_meta::quantity::Quantity;
use serde_json::Value;

/// Whether the claim may have the size that it asks for now; `class` finds a storage class by name.
///
/// # Errors
/// Why not.
pub fn check_resize(
    new: &Value,
    old: &Value,
    class: impl FnOnce(&str) -> Option<Value>,
) -> Result<(), &'static str> {
    let size = |claim: &Value| {
        let text = claim["spec"]["resources"]["requests"]["storage"].as_str();
        text.and_then(|text| Quantity::from_str(text).ok()).unwrap_or_else(|| Quantity::from_units(0))
    };
    if size(new) <= size(old) {
        return Ok(());
    }
    if old["status"]["phase"] != "Bound" {
        return Err("Only bound persistent volume claims can be expanded");
    }
    let (wanted, before) = (class_of(new), class_of(old));
    let expands = !wanted.is_empty()
        && wanted == before
        && class(wanted).is_some_and(|class| class["allowVolumeExpansion"] == true);
    match expands {
        true => Ok(()),
        false => Err(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
        ),
    }
}

/// The class of a claim: the old annotation, then the field.
fn class_of(claim: &Value) -> &str {
    claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"]
        .as_str()
        .or_else(|| claim["spec"]["storageClassName"].as_str())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_grow_where_their_class_allows_it() {
        let claim = |class: &str, size: &str, phase: &str| json!({"spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}, "status": {"phase": phase}});
        for (new, old, fine) in [
            (claim("grows", "2Gi", "Bound"), claim("grows", "1Gi", "Bound"), true),
            (claim("grows", "1024Mi", "Bound"), claim("grows", "1Gi", "Pending"), true),
            (claim("grows", "2Gi", "Pending"), claim("grows", "1Gi", "Pending"), false),
            (claim("fixed", "2Gi", "Bound"), claim("fixed", "1Gi", "Bound"), false),
            (claim("gone", "2Gi", "Bound"), claim("gone", "1Gi", "Bound"), false),
            (claim("", "2Gi", "Bound"), claim("", "1Gi", "Bound"), false),
            (claim("fixed", "1Gi", "Bound"), claim("fixed", "2Gi", "Bound"), true),
        ] {
            let outcome = check_resize(&new, &old, |name| match name {
                "grows" => Some(json!({"allowVolumeExpansion": true})),
                "fixed" => Some(json!({})),
                _ => None,
            });
            assert_eq!(outcome.is_ok(), fine, "{new} {outcome:?}");
        }
    }
}
