//! Exec, attach and port-forward for clients that come over the network.
//!
//! The interface answers with an address on the loopback link that can be used once, within a
//! minute; who connects there is the API server or crictl, which got it over the root-only socket.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use plimsoll_cri::v1::{AttachRequest, ExecRequest, PortForwardRequest};
use plimsoll_kernel::terminal;
use plimsoll_streaming::{
    CommandStreams, Connection, Outcome, PortForward, Refusal, RemoteCommand, Resizes, StreamReader,
    StreamWriter, accept_command, accept_forward, ports,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::descriptor::Descriptor;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::exec::Attached;
use crate::sandbox::new_id;

/// How long an address is good for.
const VALIDITY: Duration = Duration::from_secs(60);

/// More addresses than this are not kept for clients who never come.
const TICKETS: usize = 1000;

/// How long output may still come after the process ended, from children it left behind.
const DRAIN: Duration = Duration::from_secs(5);

/// What an address stands for.
#[derive(Clone, Debug)]
enum Ticket {
    Exec(ExecRequest),
    Attach(AttachRequest),
    Forward(PortForwardRequest),
}

/// The addresses that were given out.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    address: OnceLock<SocketAddr>,
    given: Mutex<HashMap<String, (Instant, Ticket)>>,
}

impl Tickets {
    fn give(&self, kind: &str, ticket: Ticket) -> Result<String> {
        let address = self.address.get();
        let address =
            address.ok_or_else(|| Error::State("this engine has no streaming server".to_owned()))?;
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.retain(|_, (since, _)| since.elapsed() < VALIDITY);
        if given.len() >= TICKETS {
            return Err(Error::State("too many streams are waiting for their clients".to_owned()));
        }
        let token = new_id();
        given.insert(token.clone(), (Instant::now(), ticket));
        Ok(format!("http://{address}/{kind}/{token}"))
    }

    fn take(&self, token: &str) -> Option<Ticket> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, ticket) = given.remove(token)?;
        (since.elapsed() < VALIDITY).then_some(ticket)
    }
}

impl Engine {
    /// Where to connect to for this process.
    pub(crate) fn prepare_exec(&self, request: ExecRequest) -> Result<String> {
        let container = self.shared.pods.container(&request.container_id)?;
        if !container.running() {
            return Err(Error::State(format!("container {} is not running", container.id)));
        }
        self.shared.tickets.give("exec", Ticket::Exec(request))
    }

    /// Where to connect to for this container.
    pub(crate) fn prepare_attach(&self, request: AttachRequest) -> Result<String> {
        let container = self.shared.pods.container(&request.container_id)?;
        if !container.running() {
            return Err(Error::State(format!("container {} is not running", container.id)));
        }
        self.shared.tickets.give("attach", Ticket::Attach(request))
    }

    /// Where to connect to for the ports of this sandbox.
    pub(crate) fn prepare_port_forward(&self, request: PortForwardRequest) -> Result<String> {
        let sandbox = self.shared.pods.sandbox(&request.pod_sandbox_id)?;
        if !sandbox.state().ready {
            return Err(Error::State(format!("pod sandbox {} is not running", sandbox.id)));
        }
        self.shared.tickets.give("portforward", Ticket::Forward(request))
    }

    /// Serves the addresses until `shutdown`.
    pub(crate) async fn serve_streams(&self, shutdown: CancellationToken) -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.map_err(Error::io("the streaming server"))?;
        let address = listener.local_addr().map_err(Error::io("the streaming server"))?;
        // Only the first call of an engine's life gets here.
        let _ = self.shared.tickets.address.set(address);
        let engine = self.clone();
        tokio::spawn(async move {
            loop {
                let connection = tokio::select! {
                    connection = listener.accept() => connection,
                    () = shutdown.cancelled() => return,
                };
                if let Ok((stream, _)) = connection {
                    tokio::spawn(engine.clone().serve_client(stream));
                }
            }
        });
        Ok(())
    }

    async fn serve_client(self, stream: TcpStream) {
        let service = service_fn(|request| {
            let engine = self.clone();
            async move { Ok::<_, Infallible>(engine.accept_client(request)) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        // The client may leave at any moment.
        let _ = connection.await;
    }

    fn accept_client(&self, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
        let token = request.uri().path().rsplit('/').next().unwrap_or_default();
        let Some(ticket) = self.shared.tickets.take(token) else {
            let mut response = Response::new(Full::from("this address was used before, or is too old"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        };
        let accepted = match ticket {
            Ticket::Exec(exec) => self.accept_exec(&mut request, exec),
            Ticket::Attach(attach) => self.accept_attach(&mut request, attach),
            Ticket::Forward(forward) => self.accept_forward(&mut request, forward),
        };
        match accepted {
            Ok(response) => response.map(|()| Full::default()),
            Err(refusal) => refusal.response().map(Full::from),
        }
    }

    fn accept_exec(&self, request: &mut Request<Incoming>, exec: ExecRequest) -> Accepted {
        let (stdin, stdout, stderr, tty) = (exec.stdin, exec.stdout, exec.stderr, exec.tty);
        let (response, upgrade) = accept_command(request, CommandStreams { stdin, stdout, stderr, tty })?;
        let engine = self.clone();
        tokio::spawn(async move {
            if let Ok(command) = upgrade.open().await {
                engine.run_exec(exec, command).await;
            }
        });
        Ok(response)
    }

    fn accept_attach(&self, request: &mut Request<Incoming>, attach: AttachRequest) -> Accepted {
        let (stdin, stdout, stderr, tty) = (attach.stdin, attach.stdout, attach.stderr, attach.tty);
        let (response, upgrade) = accept_command(request, CommandStreams { stdin, stdout, stderr, tty })?;
        let engine = self.clone();
        tokio::spawn(async move {
            if let Ok(command) = upgrade.open().await {
                engine.run_attach(&attach.container_id, command).await;
            }
        });
        Ok(response)
    }

    fn accept_forward(&self, request: &mut Request<Incoming>, forward: PortForwardRequest) -> Accepted {
        let mut wanted: Vec<u16> = forward.port.iter().filter_map(|port| u16::try_from(*port).ok()).collect();
        if wanted.is_empty() {
            wanted = ports(request.uri().query().unwrap_or_default()).unwrap_or_default();
        }
        let (response, upgrade) = accept_forward(request, wanted)?;
        let engine = self.clone();
        tokio::spawn(async move {
            if let Ok(session) = upgrade.open().await {
                engine.run_forward(&forward.pod_sandbox_id, session).await;
            }
        });
        Ok(response)
    }

    async fn run_exec(self, request: ExecRequest, mut command: RemoteCommand) {
        let session = self.exec(&request.container_id, &request.cmd, request.tty, request.stdin).await;
        let mut session = match session {
            Ok(session) => session,
            Err(error) => return command.finish(Outcome::Failure(error.to_string())).await,
        };
        let terminal = session.terminal.as_ref().map(|fd| fd.try_clone()).transpose().ok().flatten();
        let (stdin, stdout) = match session.terminal.take() {
            Some(master) => (master.try_clone().ok(), Some(master)),
            None => (session.stdin.take(), session.stdout.take()),
        };
        session.terminal = terminal;
        let stderr = session.stderr.take();
        let input = tokio::spawn(feed(command.stdin.take(), stdin));
        let output = tokio::spawn(drain(stdout, command.stdout.take()));
        let errors = tokio::spawn(drain(stderr, command.stderr.take()));
        let gone = command.gone.clone();
        let mut resize = command.resize.take();
        let ended = loop {
            tokio::select! {
                code = session.wait() => break code,
                () = gone.cancelled() => {
                    // Nobody is left to read what it says.
                    let _ = session.kill().await;
                    input.abort();
                    return;
                }
                Some(size) = next(&mut resize) => {
                    let _ = session.resize(size.width, size.height);
                }
            }
        };
        input.abort();
        let _ = tokio::time::timeout(DRAIN, async { tokio::join!(output, errors) }).await;
        command.finish(outcome(ended)).await;
    }

    async fn run_attach(self, container: &str, mut command: RemoteCommand) {
        let attached = match self.attach(container).await {
            Ok(attached) => attached,
            Err(error) => return command.finish(Outcome::Failure(error.to_string())).await,
        };
        let Attached { stdin, stdout, stderr, tty } = attached;
        let steering = stdin.as_ref().filter(|_| tty).and_then(|master| master.try_clone().ok());
        let input = tokio::spawn(feed(command.stdin.take(), stdin));
        let (stdout, stderr) = (Some(stdout), Some(stderr));
        let outputs = tokio::spawn(futures::future::join(
            drain(stdout, command.stdout.take()),
            drain(stderr, command.stderr.take()),
        ));
        let mut outputs = outputs;
        let gone = command.gone.clone();
        let mut resize = command.resize.take();
        loop {
            tokio::select! {
                _ = &mut outputs => break,
                () = gone.cancelled() => break,
                Some(size) = next(&mut resize) => {
                    let _ = steering.as_ref().map(|master| terminal::resize(master, size.width, size.height));
                }
            }
        }
        input.abort();
        outputs.abort();
        command.finish(Outcome::Success).await;
    }

    async fn run_forward(self, sandbox: &str, mut session: PortForward) {
        while let Some(connection) = session.next().await {
            let (engine, sandbox) = (self.clone(), sandbox.to_owned());
            let gone = session.gone.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = engine.carry(&sandbox, connection) => {}
                    () = gone.cancelled() => {}
                }
            });
        }
    }

    async fn carry(&self, sandbox: &str, mut connection: Connection) {
        let mut stream = match self.connect_port(sandbox, connection.port).await {
            Ok(stream) => stream,
            Err(error) => {
                let _ = connection.error.write_all(error.to_string().as_bytes()).await;
                let _ = connection.error.shutdown().await;
                return;
            }
        };
        // Either side may close at any moment.
        let _ = tokio::io::copy_bidirectional(&mut connection.data, &mut stream).await;
    }
}

type Accepted = std::result::Result<Response<()>, Refusal>;

fn outcome(ended: Result<i32>) -> Outcome {
    match ended {
        Ok(0) => Outcome::Success,
        Ok(code) => Outcome::ExitCode(code),
        Err(error) => Outcome::Failure(error.to_string()),
    }
}

/// The next size of the terminal; never, where there is none.
async fn next(resize: &mut Option<Resizes>) -> Option<plimsoll_streaming::TerminalSize> {
    let size = match resize {
        Some(sizes) => sizes.next().await,
        None => std::future::pending().await,
    };
    if size.is_none() {
        *resize = None;
    }
    size
}

/// Carries the client's input; its end is the end of the process's input.
async fn feed(from: Option<StreamReader>, to: Option<std::os::fd::OwnedFd>) {
    let (Some(mut from), Some(Ok(mut to))) = (from, to.map(Descriptor::new)) else { return };
    // The process may stop reading at any moment.
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

/// Carries output to the client; without one it is read and dropped, so that the process goes on.
async fn drain(from: Option<std::os::fd::OwnedFd>, to: Option<StreamWriter>) {
    let Some(Ok(mut from)) = from.map(Descriptor::new) else { return };
    let Some(mut to) = to else {
        let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
        return;
    };
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
