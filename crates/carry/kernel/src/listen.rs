//! Listening on addresses that may come into being later.
//!
//! The pod network's addresses are made after the servers that answer on them, and those of other
//! machines may fail over.

use std::io;
use std::net::{SocketAddr, TcpListener};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, listen, setsockopt,
    socket, sockopt,
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A listening socket that does not block; the address need not be there yet.
pub fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, SockProtocol::Tcp)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    // Of IPv6 sockets it allows the same.
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(TcpListener::from(socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_need_not_be_there() {
        let listener = tcp("192.0.2.1:0".parse().expect("address")).expect("listens");
        assert_ne!(listener.local_addr().expect("bound").port(), 0);
    }

    #[test]
    fn a_taken_port_is_refused() {
        let first = tcp("127.0.0.1:0".parse().expect("address")).expect("listens");
        let error = tcp(first.local_addr().expect("bound")).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
