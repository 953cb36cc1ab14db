//! Connections to containers, and why there is none in Go's words.

use std::io::{Error, ErrorKind};
use std::time::Duration;

use nix::errno::Errno;
use tokio::net::TcpStream;

/// Host and port as one text.
pub(super) fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Connects within `timeout`.
pub(super) async fn dial(address: &str, timeout: Duration) -> Result<TcpStream, String> {
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(result) => result.map_err(|error| format!("dial tcp {address}: {}", why(&error))),
        Err(_) => Err(format!("dial tcp {address}: i/o timeout")),
    }
}

/// What the kernel says against a connection, or the resolver against a name.
fn why(error: &Error) -> String {
    match error.raw_os_error() {
        Some(number) => format!("connect: {}", Errno::from_raw(number).desc().to_lowercase()),
        None if error.kind() == ErrorKind::TimedOut => "i/o timeout".to_owned(),
        None => error.to_string(),
    }
}
