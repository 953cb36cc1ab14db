//! The index on disk: which images there are and what they are called.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{During, Error, Result};

const FILE: &str = "index.json";
const VERSION: u32 = 1;

/// All images by id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Index {
    version: u32,
    pub(crate) images: BTreeMap<Digest, Record>,
}

/// What the store knows about one image besides its configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) manifest: Digest,
    pub(crate) layers: Vec<LayerRecord>,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    #[serde(default)]
    pub(crate) digests: Vec<String>,
    #[serde(default)]
    pub(crate) pinned: bool,
    /// Made from this program: its layer blob is written only when somebody wants to take it away.
    #[serde(default)]
    pub(crate) builtin: bool,
    /// Seconds since 1970.
    pub(crate) added: i64,
}

/// One layer of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LayerRecord {
    /// Names the directory: the digest of this layer's and all lower layers' contents.
    pub(crate) chain: Digest,
    /// The blob as it was pulled, loaded or built.
    pub(crate) blob: Digest,
    /// Bytes of the unpacked files.
    pub(crate) size: u64,
}

impl Default for Index {
    fn default() -> Self {
        Self { version: VERSION, images: BTreeMap::new() }
    }
}

impl Index {
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let path = root.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.during(|| format!("read {}", path.display()))?,
        };
        let what = || format!("image index {}", path.display());
        let index: Self = serde_json::from_slice(&bytes).map_err(|error| Error::document(what(), error))?;
        match index.version {
            VERSION => Ok(index),
            other => Err(Error::document(what(), format!("version {other} is of a newer program"))),
        }
    }

    /// Replaces the index: readers see the old one or this one.
    pub(crate) fn write(&self, root: &Path) -> Result<()> {
        let during = || format!("write {}", root.join(FILE).display());
        let mut file = tempfile::NamedTempFile::new_in(root).during(during)?;
        let bytes = serde_json::to_vec(self).expect("an index has string keys and no floats");
        file.write_all(&bytes).during(during)?;
        file.as_file().sync_data().during(during)?;
        file.persist(root.join(FILE)).map_err(|error| error.error).during(during)?;
        File::open(root).and_then(|dir| dir.sync_all()).during(during)
    }

    /// Takes a name away from whichever image has it.
    pub(crate) fn untag(&mut self, tag: &str) {
        for record in self.images.values_mut() {
            record.tags.retain(|other| other != tag);
        }
    }
}

/// Tells one version of the index file from another without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Stamp {
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

impl Stamp {
    pub(crate) fn of(root: &Path) -> Self {
        match fs::metadata(root.join(FILE)) {
            Ok(file) => {
                Self { inode: file.ino(), modified: (file.mtime(), file.mtime_nsec()), length: file.len() }
            }
            Err(_) => Self::default(),
        }
    }
}
