//! Empty folders: on disk, in memory, in huge pages.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use plimsoll_kernel::mount;
use plimsoll_podlife::volume::Medium;

use super::is_mount;
use super::ownership::Ownership;

/// Makes the folder; one that is there already is left alone.
pub(super) fn make(dir: &Path, medium: &Medium, ownership: Option<Ownership>) -> Result<(), String> {
    let text = |error: std::io::Error| format!("{}: {error}", dir.display());
    let mut fresh = !dir.exists();
    fs::create_dir_all(dir).map_err(text)?;
    let on_mount = !matches!(medium, Medium::Disk);
    if on_mount && !is_mount(dir) {
        mounted(dir, medium)?;
        fresh = true;
    }
    if !fresh {
        return Ok(());
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).map_err(text)?;
    ownership.map_or(Ok(()), |ownership| ownership.give(dir))
}

fn mounted(dir: &Path, medium: &Medium) -> Result<(), String> {
    let options = match medium {
        Medium::Disk => return Ok(()),
        Medium::Memory(size) => size.map(|size| format!("size={size}")),
        Medium::HugePages(size) => Some(format!("pagesize={size}")),
    };
    let kind = if matches!(medium, Medium::Memory(_)) { "tmpfs" } else { "hugetlbfs" };
    let options: Vec<String> = options.into_iter().collect();
    mount::file_system(kind, dir, kind, &options).map_err(|error| error.to_string())
}
