//! Making processes by libcontainer, each in a short-lived child of the shim.
//!
//! The child does the slow and the memory-hungry work and may hang on a bad mount; the shim stays
//! small and awake. The process that is made is the shim's own child all the same.

use std::error::Error;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use nix::sched::CloneFlags;
use plimsoll_kernel::process;
use serde::{Deserialize, Serialize};

use super::confine::Confined;
use crate::layout::{ContainerDir, SandboxDir};
use crate::protocol::Confinement;

/// The program's end of the standard streams.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// What is to be made.
#[derive(Debug)]
pub(crate) struct Order {
    /// The container.
    pub(crate) container: String,
    /// One more process in it: the file of its document.
    pub(crate) exec: Option<PathBuf>,
    /// Streams, unless there is a console.
    pub(crate) streams: Streams,
    /// The socket that the terminal is sent to.
    pub(crate) console: Option<Console>,
    /// What is taken from the process.
    pub(crate) confinement: Confinement,
    /// Who is killed first.
    pub(crate) oom_score: i32,
}

/// A socket on which the new process hands over its terminal.
#[derive(Debug)]
pub(crate) struct Console {
    path: PathBuf,
    pub(crate) listener: UnixListener,
}

impl Console {
    pub(crate) fn new(dir: &ContainerDir, name: &str) -> io::Result<Self> {
        let path = dir.path().join(format!("{name}.console"));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The folder may have a long name, which addresses of sockets cannot hold.
        let before = std::env::current_dir()?;
        std::env::set_current_dir(dir.path())?;
        let listener = UnixListener::bind(format!("{name}.console"));
        std::env::set_current_dir(before)?;
        Ok(Self { path, listener: listener? })
    }

    /// The terminal, once the process was made.
    pub(crate) fn take(self) -> io::Result<OwnedFd> {
        let (stream, _) = self.listener.accept()?;
        let _ = std::fs::remove_file(&self.path);
        plimsoll_kernel::terminal::receive_master(stream.as_fd())
    }
}

/// What the child reports when it is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The number of the new process.
    Made(i32),
    /// Why there is none.
    Failed(String),
}

/// Starts to make a process. The child's report arrives on the descriptor, then its end.
pub(crate) fn begin(dir: &SandboxDir, order: &Order) -> io::Result<OwnedFd> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    process::clone_child(CloneFlags::empty(), move || {
        let report = match make(dir, order) {
            Ok(pid) => Report::Made(pid),
            Err(message) => Report::Failed(message),
        };
        let bytes = serde_json::to_vec(&report).unwrap_or_default();
        // Nobody is left to tell if this fails; the shim sees the end of the pipe.
        let _ = std::fs::File::from(writer).write_all(&bytes);
        0
    })?;
    Ok(reader)
}

fn make(dir: &SandboxDir, order: &Order) -> Result<i32, String> {
    process::reset_signals().map_err(|error| format!("resetting signals: {error}"))?;
    // Inherited by what is made. Without the privilege the nearest value that is allowed is taken.
    process::set_oom_score(std::process::id() as i32, order.oom_score)
        .map_err(|error| format!("setting the memory score: {error}"))?;
    let own = |stream: &Option<OwnedFd>| stream.as_ref().map(|fd| fd.try_clone()).transpose();
    let streams = || -> io::Result<_> {
        Ok((own(&order.streams.stdin)?, own(&order.streams.stdout)?, own(&order.streams.stderr)?))
    };
    let (stdin, stdout, stderr) = streams().map_err(|error| format!("standard streams: {error}"))?;
    let mut builder = ContainerBuilder::new(order.container.clone(), SyscallType::Linux)
        .with_root_path(dir.runtime())
        .map_err(chain)?
        .with_executor(Confined::new(order.confinement.clone()))
        .with_console_socket(order.console.as_ref().map(|console| console.path.clone()));
    builder.stdin = stdin;
    builder.stdout = stdout;
    builder.stderr = stderr;
    match &order.exec {
        None => first(builder, dir.container(&order.container).path()),
        Some(document) => {
            let tenant = builder.as_tenant().with_process(Some(document)).with_detach(true).as_sibling(true);
            tenant.build().map(|pid| pid.as_raw()).map_err(chain)
        }
    }
}

fn first(builder: ContainerBuilder, bundle: &Path) -> Result<i32, String> {
    let init = builder.as_init(bundle).with_systemd(false).with_detach(true).as_sibling(true);
    let mut container = init.build().map_err(chain)?;
    container.start().map_err(chain)?;
    container.pid().map(|pid| pid.as_raw()).ok_or_else(|| "the runtime reports no process".to_owned())
}

/// The most specific part of an error is what helps; the outer ones say only that there is one.
fn chain(error: impl Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    // What could not be cleaned up is cleaned up later, and hides what went wrong.
    if let Some((cause, _)) = text.split_once(". error during cleanup: ") {
        text.truncate(cause.len());
    }
    match text.find("exec: \"") {
        Some(start) => text[start..].trim_end_matches(['"', ')']).to_owned(),
        None => text,
    }
}
