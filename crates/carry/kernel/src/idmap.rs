//! Mounts that show files as owned by the users of a user namespace.
#![expect(unsafe_code, reason = "open_tree, mount_setattr and move_mount have no safe wrapper")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const AT_RECURSIVE: libc::c_uint = 0x8000;
const AT_EMPTY_PATH: libc::c_uint = libc::AT_EMPTY_PATH as libc::c_uint;

/// As `struct mount_attr` of the kernel.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    namespace: u64,
}

/// Shows `source` and all that is mounted below it at `target`, which must exist. What root owns belongs
/// to the root of `users` there, and so on; without `users` everything stays as it is. `read_only` holds
/// for all that is mounted below, too.
///
/// # Errors
/// When a file system of these cannot do it, or one of the paths does not exist.
pub fn attach(
    source: &Path,
    target: &Path,
    users: Option<BorrowedFd<'_>>,
    read_only: bool,
) -> io::Result<()> {
    let tree = clone(&text(source)?)?;
    if let Some(users) = users {
        let namespace = users.as_raw_fd().unsigned_abs().into();
        change(&tree, &Attributes { set: libc::MOUNT_ATTR_IDMAP, clear: 0, propagation: 0, namespace })?;
    }
    if read_only {
        let set = libc::MOUNT_ATTR_RDONLY;
        change(&tree, &Attributes { set, clear: 0, propagation: 0, namespace: 0 })?;
    }
    let target = text(target)?;
    // SAFETY: both paths are strings that live until the call returns, the descriptor is open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn clone(source: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | AT_RECURSIVE;
    // SAFETY: the path is a string that lives until the call returns.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, source.as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave this descriptor to us, nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn change(tree: &OwnedFd, attributes: &Attributes) -> io::Result<()> {
    // SAFETY: the structure is the kernel's and lives until the call returns, both descriptors are open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            AT_EMPTY_PATH | AT_RECURSIVE,
            std::ptr::from_ref(attributes),
            size_of::<Attributes>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
