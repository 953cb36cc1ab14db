//! Upstream's own examples, where they are there: pods that pass and pods that fail.

use std::path::{Path, PathBuf};

use plimsoll_admission::pod_security::{Configuration, Operation, Review};
use serde_json::{Value, json};

fn examples(folder: &Path) -> Vec<(PathBuf, Value)> {
    let Ok(files) = std::fs::read_dir(folder) else { return Vec::new() };
    files
        .map(|file| {
            let path = file.expect("readable folder").path();
            let text = std::fs::read_to_string(&path).expect("readable file");
            let mut pod: Value = serde_saphyr::from_str(&text).expect("YAML");
            default_volumes(&mut pod);
            (path, pod)
        })
        .collect()
}

/// Admission sees defaulted objects: a volume without a source is an empty folder.
fn default_volumes(pod: &mut Value) {
    for volume in pod["spec"]["volumes"].as_array_mut().into_iter().flatten() {
        if volume.as_object().is_some_and(|volume| volume.len() == 1) {
            volume["emptyDir"] = json!({});
        }
    }
}

#[test]
fn published_pods_pass_and_fail_as_upstream_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/reference/pod-security-1.25");
    for level in ["baseline", "restricted"] {
        let labels = json!({
            "pod-security.kubernetes.io/enforce": level,
            "pod-security.kubernetes.io/enforce-version": "v1.25",
        });
        for (folder, passes) in [("pass", true), ("fail", false)] {
            for (path, pod) in examples(&root.join(level).join(folder)) {
                let request = Review {
                    group: "",
                    resource: "pods",
                    subresource: "",
                    name: "example",
                    namespace: "default",
                    user: "somebody",
                    operation: Operation::Create,
                    object: &pod,
                };
                let refusal = Configuration::default().review(&request, &labels).refusal;
                assert_eq!(refusal.is_none(), passes, "{}: {refusal:?}", path.display());
            }
        }
    }
}
