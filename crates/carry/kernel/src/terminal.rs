//! Sizes of terminals, and the pieces of a console that a runtime hands over.
#![expect(unsafe_code, reason = "terminal sizes are set by an ioctl")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Sets the size of the terminal behind a pseudo-terminal's master, in characters.
///
/// # Errors
/// When the descriptor is no terminal.
pub fn resize(master: impl AsFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure lives until the call returns.
    let result = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes the first descriptor that a stream socket brings: the master that a runtime sends.
///
/// # Errors
/// When the other end closed without sending one.
pub fn receive_master(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut buffer = [0; 256];
    let (_, descriptors) = crate::packet::receive(socket, &mut buffer)?;
    descriptors.into_iter().next().ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
