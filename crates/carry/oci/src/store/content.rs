//! Blobs and layer directories: written aside, checked, then given their name.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::digest::{Digest, Hashing};
use crate::document::MAX_DOCUMENT;
use crate::error::{During, Error, Result};

/// Digits of the chain digest that name a layer directory: 128 bits, so that
/// the mount options of 120 layers fit into a page.
const DIRECTORY_DIGITS: usize = 32;

/// The paths of a store.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub(crate) root: PathBuf,
}

impl Content {
    /// Makes the directories of the store.
    pub(crate) fn create(root: &Path) -> Result<Self> {
        for dir in ["blobs/sha256", "partial", "layers", "tmp"] {
            let path = root.join(dir);
            fs::create_dir_all(&path).during(|| format!("create {}", path.display()))?;
        }
        // Layers hold set-id programs of other systems: only root may reach them.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(root, private).during(|| format!("chmod {}", root.display()))?;
        Ok(Self { root: root.to_owned() })
    }

    pub(crate) fn blob(&self, digest: Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn partial(&self, digest: Digest) -> PathBuf {
        self.root.join("partial").join(digest.hex())
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn layer(&self, chain: Digest) -> PathBuf {
        self.layers().join(layer_name(chain))
    }

    pub(crate) fn has_blob(&self, digest: Digest) -> bool {
        self.blob(digest).exists()
    }

    /// A directory of its own below `tmp`, removed when dropped.
    pub(crate) fn scratch(&self) -> Result<tempfile::TempDir> {
        tempfile::tempdir_in(self.root.join("tmp")).during(|| "create scratch directory".into())
    }

    /// A directory that becomes a layer, among the layers, so that overlayfs can name it shortly.
    pub(crate) fn new_layer(&self) -> Result<tempfile::TempDir> {
        let made = tempfile::Builder::new().prefix(".new-").tempdir_in(self.layers());
        made.during(|| "create layer directory".into())
    }

    /// A new blob, to be given its name with [`Draft::commit`].
    pub(crate) fn draft(&self) -> Result<Draft> {
        let file = tempfile::NamedTempFile::new_in(self.root.join("tmp")).during(|| "create blob".into())?;
        Ok(Draft { file: Hashing::new(BufWriter::with_capacity(256 << 10, file)) })
    }

    pub(crate) fn put_blob(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if !self.has_blob(digest) {
            let mut draft = self.draft()?;
            draft.write_all(bytes).during(|| "write blob".into())?;
            draft.commit(self, Some(digest))?;
        }
        Ok(digest)
    }

    /// Copies a stream into the blob that it should be.
    pub(crate) fn copy_blob(&self, from: &mut dyn Read, expected: Digest) -> Result<u64> {
        let mut draft = self.draft()?;
        io::copy(from, &mut draft).during(|| format!("write blob {expected}"))?;
        draft.commit(self, Some(expected)).map(|(_, length)| length)
    }

    /// Reads a small blob: a manifest or a configuration.
    pub(crate) fn document(&self, digest: Digest) -> Result<Vec<u8>> {
        let path = self.blob(digest);
        let during = || format!("read {}", path.display());
        let file = File::open(&path).during(during)?;
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT).read_to_end(&mut bytes).during(during)?;
        Ok(bytes)
    }

    /// Puts a finished directory under its name; when another process was faster, its one stays.
    pub(crate) fn commit_layer(&self, dir: tempfile::TempDir, chain: Digest) -> Result<()> {
        let name = self.layer(chain);
        match fs::rename(dir.path(), &name) {
            Ok(()) => {
                // The directory has moved: nothing is left to remove.
                let _ = dir.keep();
                Ok(())
            }
            Err(_) if name.is_dir() => Ok(()),
            other => other.during(|| format!("create {}", name.display())),
        }
    }

    /// Makes what was written durable before names point to it.
    pub(crate) fn sync(&self) -> Result<()> {
        let during = || format!("sync {}", self.root.display());
        let dir = File::open(&self.root).during(during)?;
        nix::unistd::syncfs(&dir).during(during)
    }
}

/// The name of a layer's directory.
pub(crate) fn layer_name(chain: Digest) -> String {
    chain.hex()[..DIRECTORY_DIGITS].to_owned()
}

/// A blob that is being written.
pub(crate) struct Draft {
    file: Hashing<BufWriter<tempfile::NamedTempFile>>,
}

impl Draft {
    /// Checks the digest, if one is expected, and gives the blob its name.
    pub(crate) fn commit(self, content: &Content, expected: Option<Digest>) -> Result<(Digest, u64)> {
        let (writer, digest, length) = self.file.into_parts();
        let during = || format!("write blob {digest}");
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error).during(during)?;
        if let Some(expected) = expected
            && expected != digest
        {
            return Err(Error::Mismatch { what: "blob".into(), expected, actual: digest });
        }
        file.as_file().sync_data().during(during)?;
        file.persist(content.blob(digest)).map_err(|error| error.error).during(during)?;
        Ok((digest, length))
    }
}

impl Draft {
    /// Keeps the file under a temporary name that goes when dropped.
    pub(crate) fn set_aside(self) -> Result<(Digest, tempfile::TempPath)> {
        let (writer, digest, _) = self.file.into_parts();
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error);
        let file = file.during(|| format!("write blob {digest}"))?;
        file.as_file().sync_data().during(|| format!("write blob {digest}"))?;
        Ok((digest, file.into_temp_path()))
    }
}

impl Write for Draft {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
