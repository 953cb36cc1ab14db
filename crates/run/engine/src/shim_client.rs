//! The engine's end of the conversation with a shim.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use plimsoll_kernel::{packet, readiness};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};

use crate::error::{Error, Result};
use crate::layout::{SHIM_SOCKET, SandboxDir};
use crate::protocol::{Answer, Call, Exit, Message, Request};
use crate::shim::FOLDER_VARIABLE;

/// The largest message of a shim: the state of some hundred containers.
const MESSAGE_LIMIT: usize = 256 * 1024;

type Reply = (std::result::Result<Answer, String>, Option<OwnedFd>);

/// A connection to a shim.
#[derive(Debug)]
pub(crate) struct Shim {
    socket: AsyncFd<OwnedFd>,
    next: AtomicU64,
    /// Who waits for a reply; nobody can any more once it is gone.
    pending: Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>,
}

/// What a shim tells without being asked.
#[derive(Debug)]
pub(crate) enum Event {
    Exited {
        container: String,
        exit: Exit,
    },
    ExecExited {
        exec: String,
        code: i32,
    },
    PauseExited,
    /// The shim is dead.
    Gone,
}

/// Starts a shim in `dir`. It can be connected to at once.
pub(crate) fn spawn(program: &Path, dir: &SandboxDir, name: &str) -> io::Result<()> {
    let listener = packet::listen_at(dir.path(), SHIM_SOCKET)?;
    let log = File::options().create(true).append(true).open(dir.shim_log())?;
    let mut child = Command::new(program)
        .arg0("plimsoll")
        .args(["shim", name])
        .env_clear()
        .env(FOLDER_VARIABLE, dir.path())
        .stdin(Stdio::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::from(log))
        .spawn()?;
    // Its end is noticed by its socket; this only takes the dead away.
    tokio::spawn(async move { child.wait().await });
    Ok(())
}

impl Shim {
    /// Connects to the shim of `dir`; what it tells comes by `events`.
    pub(crate) fn connect(dir: &SandboxDir, events: mpsc::UnboundedSender<Event>) -> io::Result<Arc<Self>> {
        let socket = packet::connect_to(dir.path(), SHIM_SOCKET)?;
        let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
        fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let shim = Arc::new(Self {
            socket: readiness::register(socket, Interest::READABLE | Interest::WRITABLE)?,
            next: AtomicU64::new(0),
            pending: Mutex::new(Some(HashMap::new())),
        });
        tokio::spawn(shim.clone().listen(events));
        Ok(shim)
    }

    /// Asks something and waits for the reply.
    pub(crate) async fn call(
        &self,
        call: Call,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(Answer, Option<OwnedFd>)> {
        let gone = || Error::Shim("the shim process of the pod is gone".to_owned());
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.pending().as_mut().ok_or_else(gone)?.insert(id, sender);
        let message =
            serde_json::to_vec(&Request { id, call }).map_err(|error| Error::Shim(error.to_string()))?;
        self.send(&message, descriptors).await.map_err(|_| gone())?;
        let (result, descriptor) = receiver.await.map_err(|_| gone())?;
        Ok((result.map_err(Error::Shim)?, descriptor))
    }

    async fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        loop {
            let mut ready = self.socket.writable().await?;
            if let Ok(sent) = ready.try_io(|socket| packet::send(socket.get_ref(), message, descriptors)) {
                return sent;
            }
        }
    }

    async fn listen(self: Arc<Self>, events: mpsc::UnboundedSender<Event>) {
        while let Ok(Some((message, descriptor))) = self.receive().await {
            let event = match message {
                Message::Reply { id, result } => {
                    let waiting = self.pending().as_mut().and_then(|pending| pending.remove(&id));
                    // Who asked may have lost interest.
                    let _ = waiting.map(|sender| sender.send((result, descriptor)));
                    continue;
                }
                Message::Exited { container, exit } => Event::Exited { container, exit },
                Message::ExecExited { exec, code } => Event::ExecExited { exec, code },
                Message::PauseExited => Event::PauseExited,
            };
            let _ = events.send(event);
        }
        self.pending().take();
        let _ = events.send(Event::Gone);
    }

    /// The next message; `None` when the shim is gone.
    async fn receive(&self) -> io::Result<Option<(Message, Option<OwnedFd>)>> {
        loop {
            let mut ready = self.socket.readable().await?;
            // Allocated when there is something to read, so that a quiet shim costs nothing.
            let received = ready.try_io(|socket| {
                let mut buffer = vec![0; MESSAGE_LIMIT];
                let (length, descriptors) = packet::receive(socket.get_ref().as_fd(), &mut buffer)?;
                buffer.truncate(length);
                Ok((buffer, descriptors))
            });
            match received {
                Err(_) => {}
                Ok(Err(error)) => return Err(error),
                Ok(Ok((bytes, _))) if bytes.is_empty() => return Ok(None),
                Ok(Ok((bytes, descriptors))) => {
                    return Ok(Some((serde_json::from_slice(&bytes)?, descriptors.into_iter().next())));
                }
            }
        }
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Reply>>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
