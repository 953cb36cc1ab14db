//! Which layers are mounted somewhere on this machine.
//!
//! The kernel is asked, not a list of containers: it also knows about those of
//! processes that have crashed, and of other users of the store.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Names of the directories below `layers` that an overlay of any process uses.
pub(crate) fn mounted_layers(layers: &Path) -> HashSet<String> {
    let mut namespaces = HashSet::new();
    let mut found = HashSet::new();
    let candidates: Vec<String> = fs::read_dir(layers)
        .map(|entries| entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
        .unwrap_or_default();
    let Ok(processes) = fs::read_dir("/proc") else { return found };
    for process in processes.flatten() {
        if !process.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // One process of each mount namespace tells of all its mounts.
        let Ok(namespace) = fs::metadata(process.path().join("ns/mnt")) else { continue };
        if !namespaces.insert(namespace.ino()) {
            continue;
        }
        if let Ok(table) = fs::read_to_string(process.path().join("mountinfo")) {
            found.extend(layers_of(&table, &candidates));
        }
    }
    found
}

/// Layers are named by 32 digits of a digest: to find the name is to find the layer,
/// also where the mount names it relative to the store.
fn layers_of(table: &str, candidates: &[String]) -> Vec<String> {
    let overlays: Vec<&str> = table.lines().filter(|line| line.contains(" - overlay ")).collect();
    candidates
        .iter()
        .filter(|name| overlays.iter().any(|line| line.contains(name.as_str())))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_layers_in_mount_tables() {
        let (a, b, c) = ("a".repeat(32), "b".repeat(32), "c".repeat(32));
        let table = format!(
            "30 1 254:0 / / rw - ext4 /dev/vda rw\n\
             31 30 0:40 / /run/x rw shared:3 - overlay overlay rw,lowerdir=/s/layers/{a}:{b},upperdir=/u,workdir=/w\n\
             32 30 254:0 /s/layers/{c} /mnt rw - ext4 /dev/vda rw\n"
        );
        assert_eq!(layers_of(&table, &[a.clone(), b.clone(), c]), [a, b]);
    }
}
