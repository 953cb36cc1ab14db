//! Connections to containers, and why there is none in Go's words.

use std::io::{self, Error, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Host and port as one text.
pub(super) fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Connects within `timeout`.
pub(super) async fn dial(address: &str, timeout: Duration) -> Result<TcpStream, String> {
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(result) => result.map_err(|error| refused(address, &error)),
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    }
}

/// Connects, and sends the first bytes in the same breath. Nearly every container is on this machine: it has
/// answered before the kernel comes back from the first call, and nothing has to be waited for.
pub(super) async fn send(address: &str, bytes: &[u8]) -> Result<TcpStream, String> {
    let sent = match address.parse() {
        Ok(literal) => send_to(literal, bytes).await,
        Err(_) => send_later(TcpStream::connect(address).await, bytes).await,
    };
    sent.map_err(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNRESET | Errno::EPIPE) => super::http::RESET.to_owned(),
        _ => refused(address, &error),
    })
}

/// Whether a connection opens within `timeout`.
pub(super) async fn open(address: &str, timeout: Duration) -> Result<(), String> {
    let opening = async {
        match address.parse() {
            Ok(literal) => open_to(literal).await,
            Err(_) => TcpStream::connect(address).await.map(drop),
        }
    };
    match tokio::time::timeout(timeout, opening).await {
        Ok(result) => result.map_err(|error| refused(address, &error)),
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    }
}

async fn open_to(address: SocketAddr) -> io::Result<()> {
    let socket = socket(address)?;
    begin(&socket, address)?;
    let mut asked = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    poll(&mut asked, PollTimeout::ZERO)?;
    if asked[0].revents() == Some(PollFlags::POLLOUT) {
        return Ok(());
    }
    let stream = TcpStream::from_std(socket.into())?;
    stream.writable().await?;
    stream.take_error()?.map_or(Ok(()), Err)
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)
}

/// Begins to connect.
fn begin(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => Ok(()),
        begun => begun,
    }
}

async fn send_to(address: SocketAddr, bytes: &[u8]) -> io::Result<TcpStream> {
    let socket = socket(address)?;
    // What is sent says as well that the connection is there: no packet of its own is needed for that.
    socket.set_tcp_quickack(false)?;
    begin(&socket, address)?;
    let mut stream = std::net::TcpStream::from(socket);
    let sent = match stream.write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        sent => sent?,
    };
    send_later(TcpStream::from_std(stream), &bytes[sent..]).await
}

async fn send_later(stream: io::Result<TcpStream>, bytes: &[u8]) -> io::Result<TcpStream> {
    let mut stream = stream?;
    stream.write_all(bytes).await?;
    Ok(stream)
}

/// What the kernel says against a connection, or the resolver against a name.
fn refused(address: &str, error: &Error) -> String {
    let why = match error.raw_os_error() {
        Some(number) => format!("connect: {}", Errno::from_raw(number).desc().to_lowercase()),
        None if error.kind() == ErrorKind::TimedOut => "i/o timeout".to_owned(),
        None => error.to_string(),
    };
    format!("dial tcp {address}: {why}")
}
