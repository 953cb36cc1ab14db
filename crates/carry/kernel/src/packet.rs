//! Messages with descriptors over Unix sockets that keep the bounds of messages.
#![expect(unsafe_code, reason = "descriptors arrive as numbers")]

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
    accept4, bind, connect, listen, recvmsg, sendmsg, setsockopt, socket, sockopt,
};
use nix::sys::stat::Mode;

/// The largest message, in bytes.
pub const LIMIT: usize = 1024 * 1024;

/// The most descriptors of one message.
const DESCRIPTORS: usize = 4;

/// Listens at `folder`/`name`; a socket file that a killed process left is replaced.
///
/// The name is bound relative to the folder, because addresses of sockets are short.
///
/// # Errors
/// When the folder does not exist.
pub fn listen_at(folder: &Path, name: &str) -> io::Result<OwnedFd> {
    match std::fs::remove_file(folder.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let fd = new_socket()?;
    let (_keep, path) = short(folder, name)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path.as_str())?)?;
    listen(&fd, Backlog::new(16)?)?;
    Ok(fd)
}

/// Connects to `folder`/`name`.
///
/// # Errors
/// When nobody listens.
pub fn connect_to(folder: &Path, name: &str) -> io::Result<OwnedFd> {
    let fd = new_socket()?;
    let (_keep, path) = short(folder, name)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path.as_str())?)?;
    Ok(fd)
}

/// Takes a connection.
///
/// # Errors
/// When none is waiting and the listener does not block.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let fd = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: the kernel just gave this descriptor to us, nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    roomy(&fd);
    Ok(fd)
}

fn new_socket() -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    roomy(&fd);
    Ok(fd)
}

/// A message must fit the buffer at once. Without the privilege the default of 200 KB has to do.
fn roomy(fd: &OwnedFd) {
    let _ = setsockopt(fd, sockopt::SndBufForce, &(2 * LIMIT));
}

fn short(folder: &Path, name: &str) -> io::Result<(File, String)> {
    let fd = open(folder, OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_DIRECTORY, Mode::empty())?;
    let path = format!("/proc/self/fd/{}/{name}", fd.as_raw_fd());
    Ok((File::from(fd), path))
}

/// Sends one message with descriptors.
///
/// # Errors
/// When the other end is gone, or `WouldBlock`.
pub fn send(socket: impl AsFd, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &control[..0] } else { &control[..] };
    let slices = [IoSlice::new(message)];
    sendmsg::<()>(socket.as_fd().as_raw_fd(), &slices, control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one message into `buffer`; an empty one means that the other end is gone.
///
/// # Errors
/// `WouldBlock` when there is none and the socket does not block.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS]);
    let mut slices = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut slices, Some(&mut space), flags)?;
    let mut found = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel just gave these descriptors to us, nobody else knows them.
            found.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    Ok((message.bytes, found))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_message_carries_its_descriptor_and_keeps_its_bounds() {
        let folder = std::env::temp_dir().join(format!("plimsoll-packet-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let listener = listen_at(&folder, "s").unwrap();
        let client = connect_to(&folder, "s").unwrap();
        let server = accept(listener.as_fd()).unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        send(&client, b"one", &[writer.as_fd()]).unwrap();
        send(&client, &vec![7; 600_000], &[]).unwrap();
        drop(writer);
        let mut buffer = vec![0; LIMIT];
        let (length, mut descriptors) = receive(&server, &mut buffer).unwrap();
        assert_eq!((&buffer[..length], descriptors.len()), (b"one".as_slice(), 1));
        assert_eq!(receive(&server, &mut buffer).unwrap().0, 600_000);
        File::from(descriptors.pop().unwrap()).write_all(b"hello").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        drop(client);
        assert_eq!(receive(&server, &mut buffer).unwrap().0, 0);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
