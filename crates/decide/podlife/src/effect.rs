//! What goes into a pod's life and what comes out of it.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{LifecycleHandler, Pod, PodStatus};

use crate::observed::{Container, Sandbox};
use crate::probe::{Outcome, ProbeKind};
use crate::resize::Pending;

/// Something happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The API has this version of the pod now.
    Desired(Arc<Pod>),
    /// The API does not have the pod any more.
    Gone,
    /// The API shows this of a static pod, from before this agent.
    Shown(Box<PodStatus>),
    /// The engine told about some sandboxes and containers.
    Seen {
        /// Sandboxes of the pod.
        sandboxes: Vec<Sandbox>,
        /// Containers of the pod.
        containers: Vec<Container>,
    },
    /// The engine told about all there is: what is not named is gone.
    Listed {
        /// Every sandbox of the pod.
        sandboxes: Vec<Sandbox>,
        /// Every container of the pod.
        containers: Vec<Container>,
    },
    /// A container was removed.
    Removed {
        /// Its id.
        id: String,
    },
    /// [`Effect::PrepareVolumes`] ended.
    Volumes(Result<(), String>),
    /// [`Effect::PrepareVolumes`] ended: volumes are there, claimed devices are not.
    Unprepared(String),
    /// Something that volumes or environments need has appeared: try at once.
    Retry,
    /// [`Effect::StartSandbox`] ended.
    SandboxStarted(Result<Sandbox, String>),
    /// [`Effect::StopSandbox`] ended.
    SandboxStopped {
        /// The sandbox.
        id: String,
        /// Why it failed, if it did.
        result: Result<(), String>,
    },
    /// [`Effect::RemoveSandbox`] ended.
    SandboxRemoved {
        /// The sandbox.
        id: String,
        /// Why it failed, if it did.
        result: Result<(), String>,
    },
    /// [`Effect::EnsureImage`] ended: the image's id, or why there is none.
    Image {
        /// The container's name.
        container: String,
        /// What to start the container from.
        result: Result<String, ImageError>,
    },
    /// [`Effect::StartContainer`] ended.
    Started {
        /// The container's name.
        container: String,
        /// The run, or why there is none.
        result: Result<Box<Container>, StartError>,
    },
    /// [`Effect::RunPostStart`] ended.
    PostStarted {
        /// The run.
        id: String,
        /// Why it failed, if it did.
        result: Result<(), String>,
    },
    /// [`Effect::StopContainer`] ended.
    Stopped {
        /// The run.
        id: String,
        /// Why it failed, if it did.
        result: Result<(), String>,
    },
    /// A probe was tried.
    Probed {
        /// The run.
        id: String,
        /// Which probe.
        kind: ProbeKind,
        /// What came out.
        outcome: Outcome,
    },
    /// What the pod asks for was not granted, or is not waited for any more.
    Pending(Option<Pending>),
    /// [`Effect::Resize`] ended.
    Resized {
        /// The pod as it was to be.
        after: Arc<Pod>,
        /// The runs that were to be changed: containers and ids.
        runs: Vec<(String, String)>,
        /// Why it failed, if it did.
        result: Result<(), String>,
    },
    /// [`Effect::Release`] ended.
    Released(Result<(), String>),
    /// The node decided that the pod must end.
    Evict(Verdict),
    /// The node does not take the pod: nothing of it is ever started.
    Refuse(Verdict),
    /// Time has passed.
    Tick,
}

/// Why the node ends a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// One word for the pod's status.
    pub reason: String,
    /// A sentence for the pod's status.
    pub message: String,
    /// Seconds that the containers get; the pod's own grace period when absent.
    pub grace: Option<i64>,
    /// Whether the pod could go on elsewhere: it gets the condition `DisruptionTarget`.
    pub disrupts: bool,
}

/// Something has to be done. Effects of one list are begun in order; none waits for the one before.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Make the pod's folders and volumes.
    PrepareVolumes,
    /// Make the pod's cgroup and a sandbox.
    StartSandbox {
        /// How many sandboxes the pod had before.
        attempt: u32,
    },
    /// Stop a sandbox, and what still runs in it.
    StopSandbox {
        /// Its id.
        id: String,
    },
    /// Remove a sandbox and its containers.
    RemoveSandbox {
        /// Its id.
        id: String,
    },
    /// Have a container's image present.
    EnsureImage {
        /// The container's name.
        container: String,
    },
    /// Make and start a container.
    StartContainer {
        /// The container's name.
        container: String,
        /// The restart count.
        attempt: u32,
        /// The image as the engine knows it.
        image: String,
        /// The sandbox to start it in.
        sandbox: String,
    },
    /// Run the hook that follows a start.
    RunPostStart {
        /// The container's name.
        container: String,
        /// The run.
        id: String,
        /// The hook.
        hook: LifecycleHandler,
    },
    /// Stop a container: hook, then stop signal, then SIGKILL when the grace has passed.
    StopContainer {
        /// The container's name.
        container: String,
        /// The run.
        id: String,
        /// Seconds for the hook and the stop signal together.
        grace: i64,
        /// The hook that comes first.
        pre_stop: Option<LifecycleHandler>,
        /// What the signal waits for beside the hook.
        signal: Signal,
    },
    /// Change the control groups of what runs, see [`crate::resize::steps()`].
    Resize {
        /// The pod as the kernel has it.
        before: Arc<Pod>,
        /// The pod as it is to be.
        after: Arc<Pod>,
        /// The runs to be changed: containers and ids.
        runs: Vec<(String, String)>,
    },
    /// Remove an ended container.
    RemoveContainer {
        /// The run.
        id: String,
    },
    /// Tell users.
    Event(Event),
    /// Unmount the volumes and remove the cgroup.
    Release,
    /// Send the last status, then delete the pod from the API with no grace.
    Finish,
}

/// When a container gets its stop signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// As soon as its hook has ended.
    Prompt,
    /// When nobody sends the pod new connections any more, too: it ends for good.
    AfterTraffic,
}

/// An event about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Trouble, or the usual.
    pub warning: bool,
    /// One word.
    pub reason: Cow<'static, str>,
    /// A sentence.
    pub message: String,
    /// The field of the pod that it is about, see [`crate::spec::Spec::field_path`].
    pub field_path: Option<String>,
}

impl Event {
    /// An event of the usual kind.
    #[must_use]
    pub fn normal(
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
        field_path: Option<String>,
    ) -> Self {
        Self { warning: false, reason: reason.into(), message: message.into(), field_path }
    }

    /// An event that tells of trouble.
    #[must_use]
    pub fn warning(
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
        field_path: Option<String>,
    ) -> Self {
        Self { warning: true, reason: reason.into(), message: message.into(), field_path }
    }
}

/// Why a container has no image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// The pull failed.
    Pull(String),
    /// The engine could not say whether the image is there.
    Inspect(String),
    /// The name is none.
    InvalidName(String),
    /// It may not be pulled.
    NeverPull(String),
}

impl ImageError {
    /// The reason that the container's status shows.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Pull(_) => "ErrImagePull",
            Self::Inspect(_) => "ImageInspectError",
            Self::InvalidName(_) => "InvalidImageName",
            Self::NeverPull(_) => "ErrImageNeverPull",
        }
    }

    /// What went wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        let (Self::Pull(message)
        | Self::Inspect(message)
        | Self::InvalidName(message)
        | Self::NeverPull(message)) = self;
        message
    }
}

/// Why a container did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// Its configuration cannot be put together.
    Config(String),
    /// The engine refused to make it.
    Create(String),
    /// It was made, and did not run; the run is an ended one, if the engine keeps it.
    Run(String, Option<Box<Container>>),
}

impl StartError {
    /// The reason that the container's status shows.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Config(_) => "CreateContainerConfigError",
            Self::Create(_) => "CreateContainerError",
            Self::Run(..) => "RunContainerError",
        }
    }

    /// What went wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        let (Self::Config(message) | Self::Create(message) | Self::Run(message, _)) = self;
        message
    }
}

/// When something has to be looked at again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alarm(pub(crate) Option<Timestamp>);

impl Alarm {
    pub(crate) fn at(&mut self, when: Timestamp) {
        self.0 = Some(self.0.map_or(when, |known| known.min(when)));
    }
}
