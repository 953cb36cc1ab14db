//! What is written down beside a volume, in upstream's words (`vol_data.json`).

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

const FILE: &str = "vol_data.json";

/// A volume that a driver was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Record {
    pub(super) driver_name: String,
    pub(super) volume_handle: String,
    #[serde(rename = "specVolID", skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) node_name: String,
    #[serde(rename = "attachmentID", skip_serializing_if = "String::is_empty")]
    pub(super) attachment: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) volume_lifecycle_mode: String,
    #[serde(flatten)]
    pub(super) other: BTreeMap<String, String>,
}

impl Record {
    /// Writes it down before the driver is asked: whatever happens then can be undone.
    pub(super) fn write(&self, folder: &Path) -> Result<(), String> {
        let text =
            |error: std::io::Error| format!("failed to save volume info data: {}: {error}", folder.display());
        fs::create_dir_all(folder).map_err(text)?;
        let (path, fresh) = (folder.join(FILE), folder.join(format!("{FILE}.new")));
        let bytes = serde_json::to_vec(self).map_err(|error| error.to_string())?;
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh);
        file.and_then(|mut file| file.write_all(&bytes)).map_err(text)?;
        fs::rename(&fresh, &path).map_err(text)
    }

    pub(super) fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(FILE)).ok()?).ok()
    }

    pub(super) fn remove(folder: &Path) -> std::io::Result<()> {
        match fs::remove_file(folder.join(FILE)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether both are about the same volume.
    pub(super) fn same(&self, other: &Self) -> bool {
        (&self.driver_name, &self.volume_handle) == (&other.driver_name, &other.volume_handle)
    }
}
