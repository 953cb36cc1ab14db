//! How a volume is mounted into a container (kubelet: pkg/kubelet/kubelet_pods.go).

use k8s_openapi::api::core::v1::VolumeMount;

/// How mounts travel between a container and its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    None,
    /// From the node into the container.
    HostToContainer,
    /// Both ways.
    Bidirectional,
}

/// How mounts below this one travel.
///
/// # Errors
/// When the word is none of the API's.
pub fn propagation(mount: &VolumeMount) -> Result<Propagation, String> {
    match mount.mount_propagation.as_deref() {
        None | Some("None") => Ok(Propagation::None),
        Some("HostToContainer") => Ok(Propagation::HostToContainer),
        Some("Bidirectional") => Ok(Propagation::Bidirectional),
        Some(other) => Err(format!("invalid MountPropagation mode: \"{other}\"")),
    }
}

/// Whether what is mounted below is read-only, too. `supported` says that the engine can do it.
///
/// # Errors
/// When it is asked for where it cannot be.
pub fn recursive_read_only(mount: &VolumeMount, supported: bool) -> Result<bool, String> {
    let mode = match mount.recursive_read_only.as_deref() {
        None | Some("Disabled") => return Ok(false),
        Some(mode) => mode,
    };
    let failed = |why: &str| {
        Err(format!("volume \"{}\" requested recursive read-only mode, but it is not {why}", mount.name))
    };
    if mount.read_only != Some(true) {
        return failed("read-only");
    }
    if let Some(other) = mount.mount_propagation.as_deref().filter(|word| *word != "None") {
        return failed(&format!("compatible with propagation \"{other}\""));
    }
    match mode {
        "IfPossible" => Ok(supported),
        "Enabled" if supported => Ok(true),
        "Enabled" => failed("supported by the runtime"),
        other => Err(format!("unknown recursive read-only mode \"{other}\"")),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn mount(mut fields: Value) -> VolumeMount {
        fields["name"] = json!("v");
        fields["mountPath"] = json!("/v");
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn read_only_all_the_way_down() {
        let cases = [
            (json!({}), false, Ok(false)),
            (json!({"recursiveReadOnly": "Disabled"}), true, Ok(false)),
            (json!({"recursiveReadOnly": "IfPossible", "readOnly": true}), true, Ok(true)),
            (json!({"recursiveReadOnly": "IfPossible", "readOnly": true}), false, Ok(false)),
            (
                json!({"recursiveReadOnly": "Enabled", "readOnly": true, "mountPropagation": "None"}),
                true,
                Ok(true),
            ),
            (
                json!({"recursiveReadOnly": "Enabled", "readOnly": true}),
                false,
                Err(
                    "volume \"v\" requested recursive read-only mode, but it is not supported by the runtime",
                ),
            ),
            (
                json!({"recursiveReadOnly": "IfPossible"}),
                true,
                Err("volume \"v\" requested recursive read-only mode, but it is not read-only"),
            ),
            (
                json!({"recursiveReadOnly": "Enabled", "readOnly": true, "mountPropagation": "HostToContainer"}),
                true,
                Err(
                    "volume \"v\" requested recursive read-only mode, but it is not compatible with propagation \"HostToContainer\"",
                ),
            ),
        ];
        for (fields, supported, expected) in cases {
            let found = recursive_read_only(&mount(fields.clone()), supported);
            assert_eq!(found, expected.map_err(str::to_owned), "{fields}");
        }
    }

    #[test]
    fn mounts_travel_as_asked() {
        let found = |word: &str| propagation(&mount(json!({"mountPropagation": word})));
        assert_eq!(found("None"), Ok(Propagation::None));
        assert_eq!(found("HostToContainer"), Ok(Propagation::HostToContainer));
        assert_eq!(found("Bidirectional"), Ok(Propagation::Bidirectional));
        assert_eq!(found("Sideways").unwrap_err(), "invalid MountPropagation mode: \"Sideways\"");
        assert_eq!(propagation(&mount(json!({}))), Ok(Propagation::None));
    }
}
