//! Finding again what runs after the engine was restarted, and burying what does not.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use plimsoll_cri::v1::{ContainerConfig, ContainerEventType, PodSandboxConfig};
use plimsoll_kernel::mount;
use tokio::sync::{mpsc, watch};

use crate::clock;
use crate::engine::{Engine, blocking};
use crate::error::Result;
use crate::files;
use crate::group;
use crate::pods::{Container, ContainerRecord, Sandbox, SandboxRecord, SandboxState, Status};
use crate::protocol::{Exit, Process, State};
use crate::sandbox::{clear, remove_folder, wait_for_end};
use crate::shim_client::Event;

/// The exit code of a container whose end nobody saw, as other engines have it.
const UNKNOWN_EXIT: i32 = 255;

impl Engine {
    /// Takes over every sandbox of the data directory.
    pub(crate) async fn adopt(&self) {
        let folder = self.shared.layout.sandboxes();
        for id in names(&folder) {
            if let Err(error) = self.adopt_sandbox(&id).await {
                // A folder that a crash left half made holds nothing that anybody asked to keep.
                tracing::warn!(sandbox = id, %error, "removing a sandbox that cannot be read");
                let dir = self.shared.layout.sandbox(&id);
                let _ = blocking(move || remove_folder(&dir)).await;
            }
        }
        self.detach_unknown().await;
    }

    async fn adopt_sandbox(&self, id: &str) -> Result<()> {
        let dir = self.shared.layout.sandbox(id);
        let config: PodSandboxConfig = read_message(&dir.config())?;
        let record: SandboxRecord =
            files::read_json(&dir.record()).map_err(crate::error::Error::io(dir.record()))?;
        let same_boot = record.boot == self.shared.boot;
        let sandbox = Arc::new(Sandbox {
            id: id.to_owned(),
            config,
            handler: record.handler,
            created_at: record.created_at,
            dir,
            state: std::sync::Mutex::new(SandboxState {
                addresses: record.addresses,
                ..SandboxState::default()
            }),
            execs: std::sync::Mutex::new(HashMap::new()),
        });
        let live = if same_boot { self.connect(&sandbox).await.ok() } else { None };
        self.shared.pods.insert_sandbox(sandbox.clone());
        let state = match &live {
            Some(state) => state.clone(),
            None => {
                sandbox.state().shim = None;
                let known: State = files::read_json(&sandbox.dir.shim_state()).unwrap_or_default();
                if same_boot {
                    kill_left(&known).await;
                }
                known
            }
        };
        {
            let mut now = sandbox.state();
            now.pause = state.pause.filter(|_| live.is_some());
            now.ready = record.ready && now.pause.is_some();
        }
        for container in names(&sandbox.dir.containers()) {
            if let Err(error) = self.adopt_container(&sandbox, &container, &state, live.is_some()).await {
                tracing::warn!(container, %error, "removing a container that cannot be read");
                let path = sandbox.dir.container(&container).0;
                let _ = mount::unmount_below(&path);
                let _ = fs::remove_dir_all(path);
            }
        }
        self.keep_sandbox(&sandbox)
    }

    async fn adopt_container(
        &self,
        sandbox: &Arc<Sandbox>,
        id: &str,
        state: &State,
        live: bool,
    ) -> Result<()> {
        let dir = sandbox.dir.container(id);
        let config: ContainerConfig = read_message(&dir.config())?;
        let record: ContainerRecord =
            files::read_json(&dir.record()).map_err(crate::error::Error::io(dir.record()))?;
        let process = state.containers.get(id);
        let status = status(&record.status, process, live);
        let ended = matches!(status, Status::Exited { .. }) && status != record.status;
        let container = Arc::new(Container {
            id: id.to_owned(),
            sandbox: sandbox.clone(),
            config,
            dir,
            cgroup: group::path(&self.pod_cgroup(sandbox), id),
            record: std::sync::Mutex::new(record),
            status: watch::channel(status).0,
        });
        self.shared.pods.insert_container(container.clone());
        self.keep_container(&container)?;
        if ended {
            let group = self.cgroup(&container.cgroup);
            blocking(move || {
                group.kill_all()?;
                clear(&group)
            })
            .await?;
        }
        Ok(())
    }

    /// Gives back the addresses of sandboxes that a crash made unknown.
    async fn detach_unknown(&self) {
        let Some(network) = &self.shared.config.network else { return };
        for id in network.attached() {
            if self.shared.pods.sandbox(&id).is_err()
                && let Err(error) = network.detach(&id).await
            {
                tracing::warn!(sandbox = id, %error, "detaching an unknown sandbox");
            }
        }
    }

    /// Acts on what a shim tells, until it is gone.
    pub(crate) async fn follow(self, sandbox: Arc<Sandbox>, mut events: mpsc::UnboundedReceiver<Event>) {
        while let Some(event) = events.recv().await {
            match event {
                Event::Exited { container, exit } => {
                    if let Ok(container) = self.shared.pods.container(&container) {
                        self.end_container(&container, exit, "", "").await;
                    }
                }
                Event::ExecExited { exec, code } => {
                    let waiting = sandbox.execs.lock().ok().and_then(|mut execs| execs.remove(&exec));
                    // Who started it may have lost interest.
                    let _ = waiting.map(|sender| sender.send(code));
                }
                Event::PauseExited => self.lose(&sandbox),
                Event::Gone => break,
            }
        }
        // Who waits for a process of this pod waits in vain.
        sandbox.execs.lock().unwrap_or_else(PoisonError::into_inner).clear();
        if !sandbox.state().stopping {
            self.bury(&sandbox).await;
        }
    }

    /// The sandbox has no namespaces any more: its pod has to be made anew.
    fn lose(&self, sandbox: &Arc<Sandbox>) {
        let was_ready = {
            let mut state = sandbox.state();
            state.pause = None;
            std::mem::replace(&mut state.ready, false)
        };
        if let Err(error) = self.keep_sandbox(sandbox) {
            tracing::warn!(sandbox = sandbox.id, %error, "keeping the end of a sandbox");
        }
        if was_ready {
            self.publish(sandbox, &sandbox.id, ContainerEventType::ContainerStoppedEvent);
        }
    }

    /// The shim died: what it was the parent of is ended and reported.
    async fn bury(&self, sandbox: &Arc<Sandbox>) {
        tracing::warn!(sandbox = sandbox.id, pod = sandbox.title(), "the shim process of a pod died");
        sandbox.state().shim = None;
        let known: State = files::read_json(&sandbox.dir.shim_state()).unwrap_or_default();
        kill_left(&known).await;
        for container in self.shared.pods.containers_of(&sandbox.id) {
            let group = self.cgroup(&container.cgroup);
            let _ = blocking(move || Ok(group.kill_all()?)).await;
            if let Some(exit) = known.containers.get(&container.id).and_then(|process| process.exit.clone()) {
                self.end_container(&container, exit, "", "").await;
            } else if container.running() {
                let exit = Exit { code: UNKNOWN_EXIT, oom: false, at: clock::now() };
                self.end_container(&container, exit, "Error", SHIM_DIED).await;
            }
        }
        self.lose(sandbox);
    }
}

const SHIM_DIED: &str = "the shim process of the pod died";

/// Ends the processes of a shim that is dead.
async fn kill_left(state: &State) {
    let containers = state.containers.values().filter(|process| process.exit.is_none());
    let processes = containers.map(|process| process.identity).chain(state.pause).chain(state.shim);
    for process in processes {
        if process.signal(nix::libc::SIGKILL).is_ok() {
            wait_for_end(process).await;
        }
    }
}

/// What has become of a container: the shim's word counts more than the engine's own notes.
fn status(before: &Status, process: Option<&Process>, live: bool) -> Status {
    let exited = |process: &Process, exit: Exit, message: &str| Status::Exited {
        started_at: process.started,
        exit,
        reason: String::new(),
        message: message.to_owned(),
    };
    match (before, process) {
        (Status::Exited { .. }, _) => before.clone(),
        (_, Some(process)) => match (&process.exit, live) {
            (Some(exit), _) => exited(process, exit.clone(), ""),
            (None, true) => Status::Running { pid: process.identity.pid, started_at: process.started },
            (None, false) => {
                exited(process, Exit { code: UNKNOWN_EXIT, oom: false, at: clock::now() }, SHIM_DIED)
            }
        },
        (Status::Created, None) if live => Status::Created,
        (Status::Created, None) => Status::Exited {
            started_at: 0,
            exit: Exit { code: UNKNOWN_EXIT, oom: false, at: clock::now() },
            reason: String::new(),
            message: SHIM_DIED.to_owned(),
        },
        (Status::Running { started_at, .. }, None) => Status::Exited {
            started_at: *started_at,
            exit: Exit { code: UNKNOWN_EXIT, oom: false, at: clock::now() },
            reason: String::new(),
            message: SHIM_DIED.to_owned(),
        },
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn read_message<M: prost::Message + Default>(path: &Path) -> Result<M> {
    let bytes = fs::read(path).map_err(crate::error::Error::io(path))?;
    M::decode(bytes.as_slice())
        .map_err(|error| crate::error::Error::io(path)(std::io::Error::other(error.to_string())))
}
