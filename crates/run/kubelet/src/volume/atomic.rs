//! Files of a volume that change all at once.
//!
//! The files lie in a folder named by time; `..data` links to it, and what users see links into
//! `..data`. A new content gets a new folder and one rename of `..data`, so a reader sees the old
//! files or the new ones and never a mixture (kubelet: pkg/volume/util/atomic_writer.go).

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use plimsoll_podlife::projection::{File, Files};

const DATA: &str = "..data";
const NEXT: &str = "..data_tmp";

/// Makes `dir` hold exactly these files; does nothing when it does already.
pub(super) fn write(dir: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    if let Some(path) = files.keys().find(|path| !is_inside(path)) {
        return Err(io::Error::other(format!("file {path} would lie outside the volume")));
    }
    let old = fs::read_link(dir.join(DATA)).ok();
    if old.as_ref().is_some_and(|old| holds(&dir.join(old), files)) {
        return Ok(());
    }
    let fresh = fresh_folder(dir)?;
    for (path, file) in files {
        write_file(&fresh, path, file, group)?;
    }
    let name = fresh.file_name().expect("the folder was made under a name");
    let next = dir.join(NEXT);
    remove_file(&next)?;
    symlink(name, &next)?;
    fs::rename(&next, dir.join(DATA))?;
    link(dir, files)?;
    match old.filter(|old| old.as_os_str() != name) {
        Some(old) => fs::remove_dir_all(dir.join(old)),
        None => Ok(()),
    }
}

fn is_inside(path: &str) -> bool {
    let path = Path::new(path);
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    plain && !path.as_os_str().is_empty() && !path.to_string_lossy().starts_with("..")
}

/// Whether a folder has these files and no others.
fn holds(dir: &Path, files: &Files) -> bool {
    let same = |(path, file): (&String, &File)| fs::read(dir.join(path)).is_ok_and(|data| data == file.data);
    let mut found = BTreeSet::new();
    walk(dir, dir, &mut found);
    found.len() == files.len() && files.keys().all(|path| found.contains(path)) && files.iter().all(same)
}

fn walk(root: &Path, dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(root, &path, found);
        } else if let Ok(relative) = path.strip_prefix(root) {
            found.insert(relative.to_string_lossy().into_owned());
        }
    }
}

fn fresh_folder(dir: &Path) -> io::Result<PathBuf> {
    let stamp = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S.").to_string();
    for number in jiff::Timestamp::now().subsec_nanosecond().. {
        let path = dir.join(format!("{stamp}{number}"));
        match fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => {
                result?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
                return Ok(path);
            }
        }
    }
    Err(io::Error::other("no name is free"))
}

fn write_file(root: &Path, path: &str, file: &File, group: Option<u32>) -> io::Result<()> {
    let path = root.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    // Created closed, opened to others only with its content and owner in place.
    let mut handle = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    handle.write_all(&file.data)?;
    let owner = file.user.and_then(|user| u32::try_from(user).ok());
    if owner.is_some() || group.is_some() {
        chown(&path, owner, group)?;
    }
    let readable = if group.is_some() { 0o440 } else { 0 };
    handle.set_permissions(fs::Permissions::from_mode(file.mode.unsigned_abs() | readable))
}

/// Links the first part of each path into `..data`, and removes links that lead nowhere any more.
fn link(dir: &Path, files: &Files) -> io::Result<()> {
    let heads: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for head in &heads {
        let (path, target) = (dir.join(head), Path::new(DATA).join(head));
        if fs::read_link(&path).is_ok_and(|known| known == target) {
            continue;
        }
        remove_file(&path)?;
        symlink(&target, &path)?;
    }
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !heads.contains(name.as_str()) {
            remove_file(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |text: &str| File { data: text.into(), mode: 0o640, user: None };
        list.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
    }

    fn visible(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with(".."))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn content_changes_all_at_once() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path();
        write(dir, &files(&[("a", "1"), ("d/e", "2")]), None).unwrap();
        assert_eq!(visible(dir), ["a", "d"]);
        assert_eq!(fs::read_to_string(dir.join("d/e")).unwrap(), "2");
        assert_eq!(fs::metadata(dir.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
        let first = fs::read_link(dir.join(DATA)).unwrap();

        write(dir, &files(&[("a", "1"), ("d/e", "2")]), None).unwrap();
        assert_eq!(fs::read_link(dir.join(DATA)).unwrap(), first, "the same content is left alone");

        write(dir, &files(&[("a", "3"), ("f", "4")]), None).unwrap();
        assert_eq!(visible(dir), ["a", "f"]);
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "3");
        assert!(!dir.join(first).exists(), "the old content is removed");
        write(dir, &files(&[]), None).unwrap();
        assert_eq!(visible(dir), Vec::<String>::new());
    }

    #[test]
    fn nothing_is_written_outside() {
        let temp = tempfile::tempdir().unwrap();
        for path in ["../x", "/x", "a/../../x", "..x", ""] {
            assert!(write(temp.path(), &files(&[(path, "1")]), None).is_err(), "{path}");
        }
    }
}
