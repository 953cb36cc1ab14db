//! What the engine and a shim say to each other: one JSON document in each message.

use std::collections::BTreeMap;
use std::path::PathBuf;

use plimsoll_kernel::cgroup::Hierarchy;
use plimsoll_kernel::pause::Users;
use plimsoll_kernel::process::Identity;
use serde::{Deserialize, Serialize};

/// What a shim does before it listens to anybody.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Name of the machine inside.
    pub(crate) hostname: String,
    /// Kernel parameters of the pod.
    pub(crate) sysctls: Vec<(String, String)>,
    /// A network namespace of its own.
    pub(crate) network: bool,
    /// An IPC namespace of its own.
    pub(crate) ipc: bool,
    /// A process namespace shared by all containers.
    pub(crate) pid: bool,
    /// The empty root of the pause process.
    pub(crate) empty: PathBuf,
    /// Who is killed first: the pause process.
    pub(crate) oom_score: i32,
    /// The pod's own users outside; the machine's when there are none.
    #[serde(default)]
    pub(crate) users: Option<Users>,
    /// Where control groups are. Finding out costs more the more pods there are.
    pub(crate) cgroups: Hierarchy,
}

/// How a container is started, beside its OCI document.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// The container's control group.
    pub(crate) cgroup: String,
    /// Who is killed first.
    pub(crate) oom_score: i32,
    /// The log file; nothing is kept without one.
    pub(crate) log: Option<PathBuf>,
    /// Whether standard input stays open for clients that attach.
    pub(crate) stdin: bool,
    /// Whether standard input ends with the first client.
    pub(crate) stdin_once: bool,
    /// Whether there is a terminal.
    pub(crate) tty: bool,
    /// What each process may do.
    pub(crate) confinement: Confinement,
    /// User and group of the first process outside: its streams are theirs.
    #[serde(default)]
    pub(crate) owner: Option<(u32, u32)>,
}

/// What is taken from a process right before its program runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Confinement {
    /// Names of the capabilities that stay (`CAP_CHOWN`).
    pub(crate) capabilities: Vec<String>,
    /// Capabilities that programs without privileges inherit.
    pub(crate) ambient: Vec<String>,
    /// Compiled system call filters, each instruction packed into one number.
    pub(crate) filters: Vec<Vec<u64>>,
}

/// A question to a shim. Descriptors travel beside it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Comes back with the reply.
    pub(crate) id: u64,
    /// What is asked.
    pub(crate) call: Call,
}

/// What can be asked of a shim.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    /// What do you know? The connection gets events from now on.
    Hello,
    /// Start the container of this id.
    Start { container: String },
    /// Run one more process; descriptors: standard input, output and error, or none with a terminal.
    Exec { container: String, exec: String, tty: bool },
    /// Send a signal to the first process of a container.
    Signal { container: String, signal: i32 },
    /// Kill one more process.
    KillExec { exec: String },
    /// Copy output to these descriptors (output, error) from now on.
    Attach { container: String },
    /// Open the log file anew.
    Reopen { container: String },
    /// The container is removed.
    Forget { container: String },
    /// End with the pause process.
    Shutdown,
}

/// What a shim says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    /// The reply to a request.
    Reply { id: u64, result: Result<Answer, String> },
    /// A container ended.
    Exited { container: String, exit: Exit },
    /// The pause process ended.
    PauseExited,
    /// One more process ended.
    ExecExited { exec: String, code: i32 },
}

/// A successful reply.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Nothing more to say. Descriptors may come along: the terminal, or standard input.
    Done,
    /// What the shim knows.
    State(State),
    /// A process runs.
    Started(Process),
}

/// Everything a shim knows; also its file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// The shim.
    pub(crate) shim: Option<Identity>,
    /// The pause process.
    pub(crate) pause: Option<Identity>,
    /// The containers by id.
    pub(crate) containers: BTreeMap<String, Process>,
}

/// The first process of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Process {
    /// Which process.
    pub(crate) identity: Identity,
    /// Nanoseconds since 1970.
    pub(crate) started: i64,
    /// How it ended.
    pub(crate) exit: Option<Exit>,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// Exit code, 128 + signal for the killed.
    pub(crate) code: i32,
    /// Whether it ran out of memory.
    pub(crate) oom: bool,
    /// Nanoseconds since 1970.
    pub(crate) at: i64,
}
