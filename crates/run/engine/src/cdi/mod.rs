//! Devices by name, as their vendors describe them (Container Device Interface, versions 0.3 to 0.8).
//!
//! What enters: names like `vendor.com/class=name`, folders of specifications. What leaves: [`Edits`] of a container's
//! document. Folders are read when a container asks for a device: who makes specifications does so just before.

mod document;
mod edits;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use plimsoll_document::Document;

use document::{Specification, qualified};
pub(crate) use edits::{Edits, MountEdit};

/// Why devices cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("CDI device injection failed: {0}")]
pub struct CdiError(String);

/// All that must be changed for the devices of these names.
pub(crate) fn resolve<'n>(
    folders: &[PathBuf],
    names: impl IntoIterator<Item = &'n str>,
) -> Result<Edits, CdiError> {
    let names: Vec<&str> = names.into_iter().collect();
    let mut all = Edits::default();
    if names.is_empty() {
        return Ok(all);
    }
    let registry = Registry::read(folders);
    let mut told = Vec::new();
    let mut unknown = Vec::new();
    for name in names {
        let (kind, device) = qualified(name).map_err(CdiError)?;
        match registry.devices.get(&(kind.to_owned(), device.to_owned())) {
            Some(Found::In(at)) => {
                let specification = &registry.specifications[*at];
                // What a whole specification says counts once.
                if !told.contains(at) {
                    told.push(*at);
                    all.extend(&specification.container_edits);
                }
                let known = specification.devices.iter().filter(|it| it.name == device);
                known.for_each(|it| all.extend(&it.container_edits));
            }
            Some(Found::Twice) | None => unknown.push(name),
        }
    }
    if !unknown.is_empty() {
        let damaged: String = registry.problems.iter().map(|problem| format!("; {problem}")).collect();
        return Err(CdiError(format!("unresolvable CDI devices {}{damaged}", unknown.join(", "))));
    }
    all.check().map_err(CdiError)?;
    Ok(all)
}

/// Where a device is described.
enum Found {
    In(usize),
    /// By two files of one folder, so that nobody knows what it is.
    Twice,
}

#[derive(Default)]
struct Registry {
    specifications: Vec<Specification>,
    devices: BTreeMap<(String, String), Found>,
    /// What is wrong with files that are left out.
    problems: Vec<String>,
}

impl Registry {
    /// Reads all folders; a device of a later one replaces that of an earlier one.
    fn read(folders: &[PathBuf]) -> Self {
        let mut all = Self::default();
        for folder in folders {
            let mut here = BTreeMap::new();
            for file in files(folder) {
                match read(&file) {
                    Ok(specification) => all.add(specification, &mut here),
                    Err(problem) => {
                        let problem = format!("{}: {problem}", file.display());
                        tracing::warn!(problem, "a specification of devices is left out");
                        all.problems.push(problem);
                    }
                }
            }
            all.devices.append(&mut here);
        }
        all
    }

    fn add(&mut self, specification: Specification, here: &mut BTreeMap<(String, String), Found>) {
        let at = self.specifications.len();
        for device in &specification.devices {
            let name = (specification.kind.clone(), device.name.clone());
            let found = if here.contains_key(&name) { Found::Twice } else { Found::In(at) };
            here.insert(name, found);
        }
        self.specifications.push(specification);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let is_specification = |path: &PathBuf| {
        path.is_file() && matches!(path.extension().and_then(|ending| ending.to_str()), Some("json" | "yaml"))
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_specification).collect();
    found.sort();
    found
}

fn read(file: &Path) -> Result<Specification, String> {
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let value = match Document::json(text.as_bytes()) {
        Ok(document) => document.value,
        Err(_) => Document::yaml(&text).map_err(|error| error.to_string())?.value,
    };
    let specification: Specification = serde_json::from_value(value).map_err(|error| error.to_string())?;
    specification.check()?;
    Ok(specification)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const NULL: &str = r#"{"cdiVersion": "0.6.0", "kind": "example.com/gpu", "containerEdits": {"env": ["ALL=1"]},
        "devices": [{"name": "a", "containerEdits": {"env": ["A=1"]}}, {"name": "b", "containerEdits": {"env": ["B=1"]}}]}"#;

    fn env(folders: &[PathBuf], names: &[&str]) -> Result<Vec<String>, String> {
        resolve(folders, names.iter().copied()).map(|edits| edits.env).map_err(|error| error.to_string())
    }

    #[test]
    fn devices_are_found_by_their_names() {
        let temp = tempfile::tempdir().unwrap();
        let folders = ["etc", "run"].map(|name| temp.path().join(name));
        let put = |folder: usize, name: &str, text: &str| {
            fs::create_dir_all(&folders[folder]).unwrap();
            fs::write(folders[folder].join(name), text).unwrap();
        };
        let unknown =
            |what: &str| Err(format!("CDI device injection failed: unresolvable CDI devices {what}"));
        assert_eq!(env(&folders, &["example.com/gpu=a"]), unknown("example.com/gpu=a"));
        assert_eq!(env(&folders, &[]), Ok(vec![]));
        put(0, "gpu.json", NULL);
        put(0, "note.txt", "no specification");
        let both = ["example.com/gpu=a", "example.com/gpu=b"];
        assert_eq!(env(&folders, &both), Ok(["ALL=1", "A=1", "B=1"].map(str::to_owned).to_vec()));
        assert_eq!(env(&folders, &["example.com/gpu=c"]), unknown("example.com/gpu=c"));
        // Later folders replace earlier ones.
        let yaml = "cdiVersion: '0.3.0'\nkind: example.com/gpu\ndevices:\n- name: a\n  containerEdits:\n    env: [A=2]\n";
        put(1, "gpu.yaml", yaml);
        assert_eq!(env(&folders, &["example.com/gpu=a"]), Ok(vec!["A=2".to_owned()]));
        // Two of one folder are one too many.
        put(1, "other.yaml", yaml);
        assert_eq!(env(&folders, &["example.com/gpu=a"]), unknown("example.com/gpu=a"));
        put(1, "broken.json", "{");
        let refused = env(&folders, &["example.com/gpu=c"]).unwrap_err();
        assert!(
            refused.contains("devices example.com/gpu=c; ") && refused.contains("broken.json: "),
            "{refused}"
        );
        let refused = env(&folders, &["gpu"]).unwrap_err();
        assert_eq!(refused, "CDI device injection failed: unqualified device \"gpu\", missing vendor");
    }
}
