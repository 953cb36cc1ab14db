//! Locks between the processes that share a store.
//!
//! `index` is held for the moment in which the index is changed. `content` is
//! held shared while blobs and layers are added that no index entry protects
//! yet, and exclusively while garbage is removed.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::{During, Result};

/// A lock that is released when dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

pub(crate) fn index(root: &Path) -> Result<Lock> {
    let file = open(root, "index.lock")?;
    file.lock().during(|| "lock the image index".into())?;
    Ok(Lock { _file: file })
}

/// Garbage collection waits, or others wait for it.
pub(crate) fn adding(root: &Path) -> Result<Lock> {
    let file = open(root, "content.lock")?;
    file.lock_shared().during(|| "lock the image store".into())?;
    Ok(Lock { _file: file })
}

/// Nothing if somebody is adding content just now.
pub(crate) fn collecting(root: &Path) -> Result<Option<Lock>> {
    let file = open(root, "content.lock")?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).during(|| "lock the image store".into()),
    }
}

fn open(root: &Path, name: &str) -> Result<File> {
    let path = root.join(name);
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .during(|| format!("open {}", path.display()))
}
