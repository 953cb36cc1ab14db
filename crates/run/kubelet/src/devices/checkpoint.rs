//! Who has which devices, in a file that outlives the agent, under upstream's name and in its form.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plimsoll_podlife::device::{Held, Ledger, Wish};
use serde::{Deserialize, Serialize};

/// The file's name.
const FILE: &str = "kubelet_internal_checkpoint";

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Document {
    data: Data,
    checksum: u64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Data {
    pod_device_entries: Vec<Entry>,
    registered_devices: BTreeMap<String, Vec<String>>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Entry {
    #[serde(rename = "PodUID")]
    pod: String,
    #[serde(rename = "ContainerName")]
    container: String,
    #[serde(rename = "ResourceName")]
    resource: String,
    /// By memory node; -1 for devices that are near to none.
    #[serde(rename = "DeviceIDs")]
    devices: BTreeMap<i64, Vec<String>>,
    #[serde(rename = "AllocResp")]
    answer: String,
}

/// What the file holds; nothing when there is none, or when it is broken.
pub(super) fn read(folder: &Path) -> Ledger {
    let text = std::fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    if text.is_empty() {
        return Ledger::default();
    }
    parse(&text).unwrap_or_else(|error| {
        tracing::warn!(folder = %folder.display(), error, "who had which devices is forgotten");
        Ledger::default()
    })
}

fn parse(text: &str) -> Result<Ledger, String> {
    let document: Document = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if document.checksum != checksum(&document.data) {
        return Err("checkpoint is corrupted".into());
    }
    let mut ledger = Ledger::default();
    for entry in document.data.pod_device_entries {
        let devices = entry.devices.into_values().flatten().collect();
        let answer = STANDARD.decode(entry.answer).map_err(|error| error.to_string())?;
        let wish = Wish { pod: &entry.pod, container: &entry.container, resource: &entry.resource, count: 0 };
        ledger.give(wish, Held { devices, answer });
    }
    for resource in document.data.registered_devices.keys() {
        ledger.remember(resource);
    }
    Ok(ledger)
}

/// The file's content.
pub(super) fn text(ledger: &Ledger) -> String {
    let node = |resource: &str, id: &str| {
        let device = ledger.resources().get(resource).and_then(|resource| resource.devices.get(id));
        device.and_then(|device| device.nodes.first().copied()).unwrap_or(-1)
    };
    let entries = ledger.all().map(|(wish, held)| {
        let mut devices: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for id in &held.devices {
            devices.entry(node(wish.resource, id)).or_default().push(id.clone());
        }
        Entry {
            pod: wish.pod.to_owned(),
            container: wish.container.to_owned(),
            resource: wish.resource.to_owned(),
            devices,
            answer: STANDARD.encode(&held.answer),
        }
    });
    let registered = ledger.resources().iter().map(|(name, resource)| {
        let healthy = resource.devices.iter().filter(|(_, device)| device.healthy);
        (name.clone(), healthy.map(|(id, _)| id.clone()).collect())
    });
    let data = Data { pod_device_entries: entries.collect(), registered_devices: registered.collect() };
    let document = Document { checksum: checksum(&data), data };
    serde_json::to_string(&document).expect("a checkpoint is JSON")
}

/// Writes the file so that a reader finds the old or the new one.
pub(super) fn write(folder: &Path, text: &str) -> io::Result<()> {
    let (new, path) = (folder.join(format!(".{FILE}.new")), folder.join(FILE));
    std::fs::create_dir_all(folder)?;
    let mut file = std::fs::File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(new, path)
}

/// A sum over the data (FNV-1a): a file that was cut off has another one.
fn checksum(data: &Data) -> u64 {
    let text = serde_json::to_string(data).expect("a checkpoint is JSON");
    let sum =
        text.bytes().fold(0x811c_9dc5_u32, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    u64::from(sum)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_known_again() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), Ledger::default());
        let mut ledger = Ledger::default();
        let wish = Wish { pod: "u1", container: "c", resource: "example.com/gpu", count: 1 };
        let held = Held { devices: ["a".to_owned()].into(), answer: vec![1, 2, 3] };
        ledger.give(wish, held.clone());
        ledger.remember("example.com/gpu");
        write(folder.path(), &text(&ledger)).unwrap();
        assert_eq!(read(folder.path()), ledger);
        let written = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        assert!(written.contains(r#""DeviceIDs":{"-1":["a"]},"AllocResp":"AQID""#), "{written}");
        std::fs::write(folder.path().join(FILE), written.replace("u1", "u2")).unwrap();
        assert_eq!(read(folder.path()), Ledger::default());
    }
}
