//! Giving a volume's files to the group of its pod.
//!
//! Other pods may change the volume meanwhile, so every file is opened below its open folder and never
//! through a link (kubelet: pkg/volume/volume_linux.go says which bits).

use std::ffi::CStr;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::{Gid, fchownat};

/// When the files of a volume are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Each time.
    Always,
    /// When the volume's own folder is not as it should be.
    OnRootMismatch,
}

/// Who gets a volume, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ownership {
    pub(super) group: u32,
    pub(super) change: Change,
    pub(super) read_only: bool,
}

const EXECUTE: u32 = 0o110;
const SET_GROUP: u32 = 0o2000;

impl Ownership {
    fn bits(self) -> u32 {
        if self.read_only { 0o440 } else { 0o660 }
    }

    fn fits(self, folder: &Path) -> bool {
        let Ok(meta) = fs::metadata(folder) else { return false };
        let wanted = self.bits() | EXECUTE | SET_GROUP;
        meta.is_dir() && meta.gid() == self.group && meta.mode() & wanted == wanted
    }

    /// Gives everything in the folder, and the folder last: its state tells that all was done.
    pub(super) fn give(self, folder: &Path) -> Result<(), String> {
        if self.change == Change::OnRootMismatch && self.fits(folder) {
            return Ok(());
        }
        let text = |errno: Errno| format!("{}: {}", folder.display(), errno.desc());
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = openat(AT_FDCWD, folder, flags, Mode::empty()).map_err(text)?;
        let is_folder = fs::symlink_metadata(folder).is_ok_and(|meta| meta.is_dir());
        if is_folder {
            self.walk(root.as_fd()).map_err(text)?;
        }
        self.change_one(&root, is_folder).map_err(text)
    }

    fn walk(self, folder: BorrowedFd<'_>) -> Result<(), Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut dir = Dir::openat(folder, ".", flags, Mode::empty())?;
        let names: Vec<_> = dir.iter().map(|entry| entry.map(|it| it.file_name().to_owned())).collect();
        for name in names {
            let name = name?;
            if name.as_c_str() == c"." || name.as_c_str() == c".." {
                continue;
            }
            match self.enter(folder, &name) {
                // Somebody removed it meanwhile.
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    fn enter(self, folder: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        let stat: FileStat = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        if kind == SFlag::S_IFLNK {
            return fchownat(
                folder,
                name,
                None,
                Some(Gid::from_raw(self.group)),
                AtFlags::AT_SYMLINK_NOFOLLOW,
            );
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(folder, name, flags, Mode::empty())?;
        let is_folder = kind == SFlag::S_IFDIR;
        if is_folder {
            self.walk(file.as_fd())?;
        }
        self.change_one(&file, is_folder)
    }

    fn change_one(self, file: &OwnedFd, is_folder: bool) -> Result<(), Errno> {
        fchownat(file, c"", None, Some(Gid::from_raw(self.group)), AtFlags::AT_EMPTY_PATH)?;
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO));
        let meta = fs::metadata(&path).map_err(errno)?;
        if meta.file_type().is_symlink() {
            return Ok(());
        }
        let extra = if is_folder { EXECUTE | SET_GROUP } else { 0 };
        let mode = meta.mode() & 0o7777 | self.bits() | extra;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(errno)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn everything_inside_and_nothing_outside() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let volume = temp.path().join("volume");
        fs::create_dir_all(volume.join("a/b")).unwrap();
        fs::write(volume.join("a/f"), "").unwrap();
        fs::write(temp.path().join("outside"), "").unwrap();
        symlink(temp.path().join("outside"), volume.join("link")).unwrap();
        for path in ["volume", "volume/a", "volume/a/b", "volume/a/f", "outside"] {
            fs::set_permissions(temp.path().join(path), fs::Permissions::from_mode(0o700)).unwrap();
        }
        let state = |path: &str| {
            let meta = fs::symlink_metadata(temp.path().join(path)).unwrap();
            (meta.gid(), meta.mode() & 0o7777)
        };
        let outside = state("outside");
        let ownership = Ownership { group: 777, change: Change::OnRootMismatch, read_only: false };
        ownership.give(&volume).unwrap();
        for (path, expected) in [
            ("volume", (777, 0o2770)),
            ("volume/a", (777, 0o2770)),
            ("volume/a/b", (777, 0o2770)),
            ("volume/a/f", (777, 0o760)),
        ] {
            assert_eq!(state(path), expected, "{path}");
        }
        assert_eq!(state("volume/link").0, 777, "the link itself");
        assert_eq!(state("outside"), outside, "not what it leads to");

        fs::set_permissions(volume.join("a/f"), fs::Permissions::from_mode(0o600)).unwrap();
        ownership.give(&volume).unwrap();
        assert_eq!(state("volume/a/f").1, 0o600, "the folder fits, nothing is looked at");
        Ownership { change: Change::Always, ..ownership }.give(&volume).unwrap();
        assert_eq!(state("volume/a/f").1, 0o660);
    }
}
