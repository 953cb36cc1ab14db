//! Whether all files of a database are there, before fjall opens it.
//!
//! fjall makes what it misses: where the file is gone that names the tables of a tree, it begins an empty tree and
//! removes the tables, and without journals it begins an empty database. What is there last is `format`, which is
//! written when everything else stands: where it is, all of it must be; where it is not, nothing was ever acknowledged,
//! and what a process left that ended while it made the database is made again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::journal;
use crate::StoreError;

/// Whether a store that has a format has everything else, too.
pub(crate) fn whole(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Directory { path: path.into(), source };
    match missing(path).map_err(failed)? {
        Some(file) => Err(StoreError::Missing { path: path.into(), file }),
        None => Ok(()),
    }
}

/// Clears what is left of a store that was never ready.
pub(crate) fn clear(path: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Directory { path: path.into(), source };
    let db = path.join("db");
    let written = journal::verify(&db)? > 0 || trees(&db).map_err(failed)?.iter().any(Tree::has_data);
    if written {
        return Err(StoreError::Missing { path: path.into(), file: "format".into() });
    }
    match fs::remove_dir_all(&db) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

/// The first file that is not there.
fn missing(path: &Path) -> io::Result<Option<PathBuf>> {
    let db = path.join("db");
    if !db.join("version").is_file() {
        return Ok(Some("db/version".into()));
    }
    if journal::journals(&db)?.is_empty() {
        return Ok(Some("db/0.jnl".into()));
    }
    let trees = trees(&db)?;
    let stands = |tree: &Tree| tree.current().is_file();
    // The first one knows the names of the others.
    if !trees.first().is_some_and(|tree| tree.number == 0 && stands(tree)) {
        return Ok(Some("db/keyspaces/0/current".into()));
    }
    if let Some(tree) = trees.iter().find(|tree| tree.has_data() && !stands(tree)) {
        return Ok(tree.current().strip_prefix(path).map(Path::to_owned).ok());
    }
    let any = trees.iter().any(|tree| tree.number > 0 && stands(tree));
    Ok((!any).then(|| "db/keyspaces/1/current".into()))
}

/// A tree of fjall's.
struct Tree {
    number: u64,
    folder: PathBuf,
}

impl Tree {
    /// The file that names its tables.
    fn current(&self) -> PathBuf {
        self.folder.join("current")
    }

    /// Something was written into it; the tree of names has something from the beginning.
    fn has_data(&self) -> bool {
        let tables = fs::read_dir(self.folder.join("tables"));
        self.number > 0 && tables.is_ok_and(|mut tables| tables.next().is_some())
    }
}

fn trees(db: &Path) -> io::Result<Vec<Tree>> {
    let entries = match fs::read_dir(db.join("keyspaces")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut trees = Vec::new();
    for entry in entries {
        let folder = entry?.path();
        let number = folder.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        trees.extend(number.map(|number| Tree { number, folder }));
    }
    trees.sort_by_key(|tree| tree.number);
    Ok(trees)
}
