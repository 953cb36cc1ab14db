//! Waiting for descriptors in asynchronous code.
#![expect(unsafe_code, reason = "the runtime cannot check by itself that a descriptor stays open")]

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor with the runtime of the caller.
///
/// # Errors
/// When the kernel cannot tell about descriptors of its kind (files).
pub fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an owned descriptor always answers with the same number and closes it only when dropped,
    // and nothing replaces it inside.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
