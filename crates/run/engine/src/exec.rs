//! More processes in running containers, and talking to those that run.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::OFlag;
use plimsoll_kernel::{namespace, terminal};
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;

use crate::descriptor::Descriptor;
use crate::engine::{Engine, blocking};
use crate::error::{Error, Result};
use crate::files;
use crate::pods::Container;
use crate::protocol::Call;
use crate::sandbox::new_id;
use crate::shim_client::Shim;
use crate::spec;

/// More output than this is cut (CRI: `ExecSync` answers at most 16 MiB).
const OUTPUT_LIMIT: usize = 16 * 1024 * 1024;

/// How long output may still come after the process ended, from children it left behind.
const DRAIN: Duration = Duration::from_secs(5);

/// A process that was started in a container.
///
/// With a terminal there is only `terminal`, for both directions; otherwise the streams that were
/// asked for. The descriptors are the caller's: the engine is not in between.
#[derive(Debug)]
pub struct Session {
    /// Where to write its input; closing it is the end of input.
    pub stdin: Option<OwnedFd>,
    /// Where to read its output.
    pub stdout: Option<OwnedFd>,
    /// Where to read its errors.
    pub stderr: Option<OwnedFd>,
    /// Its terminal.
    pub terminal: Option<OwnedFd>,
    exec: String,
    shim: Arc<Shim>,
    exit: Option<oneshot::Receiver<i32>>,
}

impl Session {
    /// Sets the size of the terminal in characters; without a terminal it does nothing.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        self.terminal.as_ref().map_or(Ok(()), |master| terminal::resize(master, columns, rows))
    }

    /// Waits for the end of the process and tells its exit code.
    ///
    /// # Errors
    /// When the shim died with it.
    pub async fn wait(&mut self) -> Result<i32> {
        let gone = || Error::Shim("the process ended with its pod".to_owned());
        match &mut self.exit {
            Some(exit) => exit.await.map_err(|_| gone()),
            None => Err(gone()),
        }
    }

    /// Kills the process and its children.
    ///
    /// # Errors
    /// When the shim is gone.
    pub async fn kill(&self) -> Result<()> {
        self.shim.call(Call::KillExec { exec: self.exec.clone() }, &[]).await.map(drop)
    }
}

/// The streams of a container that a client attached to.
#[derive(Debug)]
pub struct Attached {
    /// Where to write its input; with a terminal this is the terminal.
    pub stdin: Option<OwnedFd>,
    /// Where to read its output from now on.
    pub stdout: OwnedFd,
    /// Where to read its errors from now on; with a terminal nothing comes.
    pub stderr: OwnedFd,
    /// Whether there is a terminal.
    pub tty: bool,
}

impl Attached {
    /// Sets the size of the terminal in characters; without a terminal it does nothing.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        let master = self.stdin.as_ref().filter(|_| self.tty);
        master.map_or(Ok(()), |master| terminal::resize(master, columns, rows))
    }
}

/// What a finished process has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Its output.
    pub stdout: Vec<u8>,
    /// Its errors.
    pub stderr: Vec<u8>,
    /// Its exit code.
    pub code: i32,
}

impl Engine {
    /// Starts one more process in a container.
    ///
    /// # Errors
    /// When the container does not run or the program is not there.
    pub async fn exec(&self, id: &str, command: &[String], tty: bool, stdin: bool) -> Result<Session> {
        let container = self.running(id)?;
        if command.is_empty() {
            return Err(Error::Invalid("no command specified".to_owned()));
        }
        let exec = new_id();
        let document = container.dir.exec(&exec);
        let spec: Value = files::read_json(&container.dir.spec()).map_err(Error::io(container.dir.spec()))?;
        let process = spec::exec_document(&spec["process"], command, tty);
        files::replace_json(&document, &process).map_err(Error::io(&document))?;
        let started = self.begin_exec(&container, &exec, tty, stdin).await;
        // It was read by now, or never will be.
        let _ = std::fs::remove_file(&document);
        started
    }

    async fn begin_exec(&self, container: &Container, exec: &str, tty: bool, stdin: bool) -> Result<Session> {
        let shim = container.sandbox.shim()?;
        let (sender, receiver) = oneshot::channel();
        let execs = || container.sandbox.execs.lock().unwrap_or_else(PoisonError::into_inner);
        execs().insert(exec.to_owned(), sender);
        let call = Call::Exec { container: container.id.clone(), exec: exec.to_owned(), tty };
        let made = async {
            let mut session = Session {
                stdin: None,
                stdout: None,
                stderr: None,
                terminal: None,
                exec: exec.to_owned(),
                shim: shim.clone(),
                exit: Some(receiver),
            };
            if tty {
                session.terminal = shim.call(call, &[]).await?.1;
                return Ok(session);
            }
            let streams = Streams::new(stdin).map_err(Error::io("a pipe"))?;
            shim.call(call, &streams.theirs()).await?;
            session.stdin = streams.stdin.1;
            session.stdout = Some(streams.stdout.0);
            session.stderr = Some(streams.stderr.0);
            Ok(session)
        };
        let made: Result<Session> = made.await;
        if made.is_err() {
            execs().remove(exec);
        }
        made
    }

    /// Runs one more process in a container to its end; without a `limit` it may take forever.
    ///
    /// # Errors
    /// When it cannot be started, or does not end in time: it is killed then.
    pub async fn exec_sync(&self, id: &str, command: &[String], limit: Option<Duration>) -> Result<Output> {
        let mut session = self.exec(id, command, false, false).await?;
        let outputs = [session.stdout.take(), session.stderr.take()];
        let [stdout, stderr] = outputs.map(Collected::from);
        let wait = session.wait();
        let code = match limit {
            None => wait.await?,
            Some(limit) => match tokio::time::timeout(limit, wait).await {
                Ok(code) => code?,
                Err(_) => {
                    session.kill().await?;
                    let command = command.join(" ");
                    return Err(Error::Timeout(format!("timeout {limit:?} exceeded: {command}")));
                }
            },
        };
        let (stdout, stderr) = tokio::join!(stdout.finish(), stderr.finish());
        Ok(Output { stdout, stderr, code })
    }

    /// Connects to the first process of a container.
    ///
    /// # Errors
    /// When the container does not run.
    pub async fn attach(&self, id: &str) -> Result<Attached> {
        let container = self.running(id)?;
        let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| Error::io("a pipe")(errno.into()));
        let (stdout, their_stdout) = pipe()?;
        let (stderr, their_stderr) = pipe()?;
        let call = Call::Attach { container: container.id.clone() };
        let descriptors = [their_stdout.as_fd(), their_stderr.as_fd()];
        let (_, stdin) = container.sandbox.shim()?.call(call, &descriptors).await?;
        Ok(Attached { stdin, stdout, stderr, tty: container.config.tty })
    }

    /// Connects to a port inside a pod.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect_port(&self, sandbox: &str, port: u16) -> Result<tokio::net::TcpStream> {
        let sandbox = self.shared.pods.sandbox(sandbox)?;
        let dial = move || {
            let addresses =
                [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()];
            TcpStream::connect(&addresses[..])
        };
        let netns = sandbox.owns_network().then(|| self.shared.layout.network_namespace(&sandbox.id));
        let refused = Error::io(format!("port {port} of pod {}", sandbox.title()));
        let stream = blocking(move || match netns {
            Some(netns) => Ok(namespace::in_network(&netns, dial)?),
            None => Ok(dial()),
        });
        let stream = stream.await?.and_then(|stream| {
            stream.set_nonblocking(true)?;
            tokio::net::TcpStream::from_std(stream)
        });
        stream.map_err(refused)
    }

    fn running(&self, id: &str) -> Result<Arc<Container>> {
        let container = self.shared.pods.container(id)?;
        if container.running() {
            Ok(container)
        } else {
            Err(Error::State(format!("container {id} is not running")))
        }
    }
}

/// Pipes, each as (ours, theirs) or the other way round by its direction.
struct Streams {
    /// What the process reads, and where we write if input was asked for.
    stdin: (OwnedFd, Option<OwnedFd>),
    stdout: (OwnedFd, OwnedFd),
    stderr: (OwnedFd, OwnedFd),
}

impl Streams {
    fn new(stdin: bool) -> io::Result<Self> {
        let stdin = if stdin {
            let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
            (reader, Some(writer))
        } else {
            (File::open("/dev/null")?.into(), None)
        };
        Ok(Self {
            stdin,
            stdout: nix::unistd::pipe2(OFlag::O_CLOEXEC)?,
            stderr: nix::unistd::pipe2(OFlag::O_CLOEXEC)?,
        })
    }

    fn theirs(&self) -> [BorrowedFd<'_>; 3] {
        [self.stdin.0.as_fd(), self.stdout.1.as_fd(), self.stderr.1.as_fd()]
    }
}

/// Output being collected; what was read is kept when the rest does not come.
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reading: tokio::task::JoinHandle<()>,
}

impl From<Option<OwnedFd>> for Collected {
    fn from(fd: Option<OwnedFd>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let reading = tokio::spawn(collect(fd, bytes.clone()));
        Self { bytes, reading }
    }
}

impl Collected {
    /// Waits for the end of the output, but not for children that keep it open.
    async fn finish(mut self) -> Vec<u8> {
        if tokio::time::timeout(DRAIN, &mut self.reading).await.is_err() {
            self.reading.abort();
        }
        std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads to the end; what is beyond the limit is read and dropped, so that the process goes on.
async fn collect(fd: Option<OwnedFd>, bytes: Arc<Mutex<Vec<u8>>>) {
    let Some(Ok(mut reader)) = fd.map(Descriptor::new) else { return };
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
        let mut bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let room = OUTPUT_LIMIT.saturating_sub(bytes.len());
        bytes.extend_from_slice(&buffer[..length.min(room)]);
    }
}
