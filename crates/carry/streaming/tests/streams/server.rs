//! A server whose `/exec` runs a small pretended command and whose `/portforward` echoes.

use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use plimsoll_streaming::{
    CommandStreams, Connection, Outcome, PortForward, Refusal, RemoteCommand, accept_command, accept_forward,
    command, ports,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// The client's end of a connection to a new server.
pub(crate) fn connect() -> DuplexStream {
    let (client, server) = tokio::io::duplex(64 << 10);
    let serving = hyper::server::conn::http1::Builder::new()
        .serve_connection(
            TokioIo::new(server),
            service_fn(async |request| Ok::<_, Infallible>(answer(request))),
        )
        .with_upgrades();
    tokio::spawn(serving);
    client
}

fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let answer = match request.uri().path() {
        "/exec" => exec(request),
        _ => forward(request),
    };
    answer
        .map(|response| response.map(|()| Full::default()))
        .unwrap_or_else(|refusal| refusal.response().map(Into::into))
}

fn exec(mut request: Request<Incoming>) -> Result<Response<()>, Refusal> {
    let query = request.uri().query().unwrap_or_default();
    let (words, streams) = (command(query), CommandStreams::from_query(query));
    let (response, upgrade) = accept_command(&mut request, streams)?;
    tokio::spawn(async move {
        let mut command = upgrade.open().await.unwrap();
        let outcome = run(&mut command, words).await;
        command.finish(outcome).await;
    });
    Ok(response)
}

async fn run(command: &mut RemoteCommand, words: Vec<String>) -> Outcome {
    let words: Vec<_> = words.iter().map(|word| &**word).collect();
    match &words[..] {
        // Copies stdin to stdout.
        ["cat"] => {
            let (mut from, mut to) = (command.stdin.take().unwrap(), command.stdout.take().unwrap());
            tokio::io::copy(&mut from, &mut to).await.unwrap();
            to.shutdown().await.unwrap();
            Outcome::Success
        }
        // Reads one line only.
        ["head"] => {
            let mut line = [0; 5];
            command.stdin.take().unwrap().read_exact(&mut line).await.unwrap();
            command.stdout.as_mut().unwrap().write_all(&line).await.unwrap();
            Outcome::Success
        }
        // Prints to both and fails.
        ["fail", code] => {
            command.stdout.as_mut().unwrap().write_all(b"out").await.unwrap();
            command.stderr.as_mut().unwrap().write_all(b"err").await.unwrap();
            Outcome::ExitCode(code.parse().unwrap())
        }
        // Prints two sizes of the terminal.
        ["sizes"] => {
            let resize = command.resize.as_mut().unwrap();
            for _ in 0..2 {
                let size = resize.next().await.unwrap();
                let text = format!("{}x{} ", size.width, size.height);
                command.stdout.as_mut().unwrap().write_all(text.as_bytes()).await.unwrap();
            }
            assert!(command.stderr.is_none());
            Outcome::Success
        }
        // Prints a lot.
        ["yes", bytes] => {
            let mut left = bytes.parse().unwrap();
            while left > 0 {
                let some = vec![b'y'; 100_000.min(left)];
                command.stdout.as_mut().unwrap().write_all(&some).await.unwrap();
                left -= some.len();
            }
            Outcome::Success
        }
        // Waits for the client to go.
        ["wait"] => {
            command.gone.cancelled().await;
            Outcome::Success
        }
        _ => Outcome::Failure(format!("no command {words:?}")),
    }
}

fn forward(mut request: Request<Incoming>) -> Result<Response<()>, Refusal> {
    let ports = ports(request.uri().query().unwrap_or_default()).unwrap_or_default();
    let (response, upgrade) = accept_forward(&mut request, ports)?;
    tokio::spawn(async move {
        let mut forward: PortForward = upgrade.open().await.unwrap();
        while let Some(connection) = forward.next().await {
            tokio::spawn(echo(connection));
        }
    });
    Ok(response)
}

/// Port 1 cannot be reached; every other port names itself and echoes until the client is done.
async fn echo(mut connection: Connection) {
    if connection.port == 1 {
        return connection.error.write_all(b"connection refused").await.unwrap();
    }
    let name = format!("{}:", connection.port);
    connection.data.write_all(name.as_bytes()).await.unwrap();
    let (mut read, mut write) = tokio::io::split(connection.data);
    tokio::io::copy(&mut read, &mut write).await.unwrap();
    write.shutdown().await.unwrap();
}
