//! TLS connections that are passed on without a look at requests.

use std::io;

use plimsoll_route::balance::Tried;
use plimsoll_route::gateway::Shares;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, copy_bidirectional};
use tokio::net::TcpStream;

use crate::links::Linker;
use crate::serve::Worker;

/// A client's first message is not longer.
const LONGEST: usize = 64 << 10;

/// Pods that are tried for a connection.
const TRIES: usize = 3;

/// Reads the first message of TLS: its bytes, and the name that is asked for.
pub(crate) async fn hello(stream: &mut TcpStream) -> io::Result<(Vec<u8>, String)> {
    let (mut acceptor, mut bytes, mut piece) = (Acceptor::default(), Vec::new(), [0; 4096]);
    while bytes.len() < LONGEST {
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&piece[..count]);
        let mut rest = &piece[..count];
        while !rest.is_empty() && acceptor.read_tls(&mut rest)? > 0 {}
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().unwrap_or_default().to_ascii_lowercase();
                return Ok((bytes, name));
            }
            Err((error, _)) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the first message is too long"))
}

/// Passes everything on to a pod, and back.
pub(crate) async fn pass(
    worker: &Worker,
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    shares: &Shares<Linker>,
) -> io::Result<()> {
    let share = shares.choose(rand::random());
    let Some((pool, _)) = share.and_then(|share| share.to.as_ref()) else { return Ok(()) };
    let patience = plimsoll_route::settings::Settings::default().connect_timeout;
    let mut tried = Tried::default();
    for _ in 0..TRIES {
        let Some((place, endpoint)) = pool.choose(None, tried, worker.shared.now()) else { break };
        match tokio::time::timeout(patience, TcpStream::connect(endpoint.address)).await {
            Ok(Ok(mut pod)) => {
                endpoint.reached();
                pod.set_nodelay(true)?;
                return copy_bidirectional(&mut client, &mut pod).await.map(drop);
            }
            _ => {
                endpoint.failed(worker.shared.now());
                tried.add(place);
            }
        }
    }
    Ok(())
}
