//! What the container engine says there is, in this crate's words.

use jiff::Timestamp;

/// A pod's sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The engine's id.
    pub id: String,
    /// How many sandboxes the pod had before.
    pub attempt: u32,
    /// Whether containers can run in it.
    pub ready: bool,
    /// When it was made.
    pub created: Timestamp,
    /// The pod's addresses; empty in the node's network.
    pub ips: Vec<String>,
}

/// One run of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// The container's name in the pod.
    pub name: String,
    /// The sandbox it is in.
    pub sandbox: String,
    /// The restart count of this run.
    pub attempt: u32,
    /// When it was made.
    pub created: Timestamp,
    /// Where it stands.
    pub state: State,
    /// The image by name.
    pub image: String,
    /// The image by id or digest.
    pub image_ref: String,
    /// The specification it was made from, see [`crate::hash`]; empty when unknown.
    pub hash: String,
    /// User, group and supplementary groups of its first process, when the engine tells.
    pub user: Option<(i64, i64, Vec<i64>)>,
}

/// Where a container stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Made and not started.
    Created,
    /// Its process runs since then.
    Running(Timestamp),
    /// Its process has ended.
    Exited(Exit),
    /// The engine has lost it.
    Unknown,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// When it was started, if it was.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub finished: Timestamp,
    /// Its exit code; 128 + n for signal n.
    pub code: i32,
    /// One word, such as `OOMKilled`.
    pub reason: String,
    /// Its last words.
    pub message: String,
}

impl Container {
    /// Whether its process runs.
    #[must_use]
    pub fn running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// How it ended, if it did. A lost container counts as killed.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        match &self.state {
            State::Exited(exit) => Some(exit.clone()),
            State::Unknown => Some(Exit {
                started: None,
                finished: self.created,
                code: 137,
                reason: "ContainerStatusUnknown".into(),
                message: "The container could not be located when the pod was terminated".into(),
            }),
            State::Created | State::Running(_) => None,
        }
    }

    /// Orders states in time: news that arrive late never turn a container back.
    pub(crate) fn rank(&self) -> u8 {
        match self.state {
            State::Created => 0,
            State::Running(_) => 1,
            State::Unknown => 2,
            State::Exited(_) => 3,
        }
    }
}
