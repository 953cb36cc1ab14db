//! Devices of plugins (`v1beta1`): their registration, their life, and what containers get of them.
//!
//! What enters: plugins that register on `device-plugins/kubelet.sock` in the agent's folder and tell their
//! devices, pods that ask for some. What leaves: calls to plugins, what the engine is told for a container,
//! what the node has, a file that outlives the agent. Who gets which device is decided in `plimsoll-podlife`.

mod checkpoint;
mod giving;
mod grant;
mod plugin;
mod pod_resources;
mod registration;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use plimsoll_meta::quantity::Quantity;
use plimsoll_plugins::device as wire;
use plimsoll_podlife::device::{Device, Ledger};
use prost::Message;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use giving::Giving;
pub(crate) use grant::Grant;
use plugin::Plugin;
pub(crate) use pod_resources::PodResources;
pub(crate) use registration::register;

use crate::metrics::Metrics;

/// The devices of this node.
pub(crate) struct Devices {
    folder: PathBuf,
    state: Mutex<State>,
    /// One pod is given devices at a time.
    giving: tokio::sync::Mutex<()>,
    /// Counts changes of devices.
    changes: watch::Sender<u64>,
    arrivals: mpsc::UnboundedSender<Plugin>,
    arrived: Mutex<Option<mpsc::UnboundedReceiver<Plugin>>>,
    /// How many plugins have come.
    count: AtomicU64,
    /// Those that are found by the sockets of their registrations.
    watched: Mutex<HashMap<PathBuf, Plugin>>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    ledger: Ledger,
    /// The plugins that can be asked, by resource.
    plugins: HashMap<String, Plugin>,
}

impl Devices {
    /// Takes up what was there before. `folder` is the one of plugins' sockets.
    pub(crate) fn open(folder: &Path, metrics: Arc<Metrics>) -> Self {
        let (arrivals, arrived) = mpsc::unbounded_channel();
        let ledger = checkpoint::read(folder);
        Self {
            folder: folder.to_owned(),
            state: Mutex::new(State { ledger, plugins: HashMap::new() }),
            giving: tokio::sync::Mutex::default(),
            changes: watch::channel(0).0,
            arrivals,
            arrived: Mutex::new(Some(arrived)),
            count: AtomicU64::new(0),
            watched: Mutex::default(),
            metrics,
        }
    }

    /// Serves registrations and follows plugins until `stop`.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut arrived) = arrived else { return };
        let mut tasks = JoinSet::new();
        tasks.spawn(registration::serve(self.clone(), stop.clone()));
        loop {
            let expiry = self.expire();
            tokio::select! {
                () = stop.cancelled() => return,
                Some(plugin) = arrived.recv() => {
                    self.state().plugins.insert(plugin.resource.clone(), plugin.clone());
                    tasks.spawn(plugin::follow(self.clone(), plugin));
                }
                () = until(expiry), if expiry.is_some() => {}
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// Takes devices out of the count whose plugins have been gone for long; when to come again.
    fn expire(&self) -> Option<Timestamp> {
        let (expired, next) = self.state().ledger.expire(Timestamp::now());
        if expired {
            self.changed();
        }
        next
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Tells of every change of devices.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// A plugin told its devices.
    fn announced(&self, resource: &str, devices: BTreeMap<String, Device>) {
        let changed = self.state().ledger.announce(resource, devices);
        if changed {
            self.save();
            self.changed();
        }
    }

    /// A plugin is gone, unless another one has come in its place.
    fn lost(&self, plugin: &Plugin) {
        let mut state = self.state();
        if state.plugins.get(&plugin.resource).is_some_and(|known| known.number == plugin.number) {
            state.plugins.remove(&plugin.resource);
            state.ledger.lose(&plugin.resource, Timestamp::now());
            drop(state);
            self.changed();
        }
    }

    fn save(&self) {
        let text = checkpoint::text(&self.state().ledger);
        if let Err(error) = checkpoint::write(&self.folder, &text) {
            tracing::warn!(folder = %self.folder.display(), %error, "who has which devices is not kept");
        }
    }

    /// How many devices of each resource the node has, and how many can be used.
    pub(crate) fn capacity(&self) -> BTreeMap<String, (usize, usize)> {
        self.state().ledger.capacity()
    }

    /// Whether a pod asks for devices of plugins.
    pub(crate) fn concerns(&self, pod: &Pod) -> bool {
        let Some(spec) = &pod.spec else { return false };
        let mut all = spec.init_containers.iter().flatten().chain(&spec.containers);
        all.any(|container| !self.wishes(container).is_empty())
    }

    /// How many devices of which of plugins' resources a container asks for.
    fn wishes(&self, container: &Container) -> BTreeMap<String, usize> {
        let state = self.state();
        limits(container).filter(|(resource, count)| state.ledger.knows(resource) && *count > 0).collect()
    }

    /// What a container is started with; plugins that want to are told before.
    ///
    /// # Errors
    /// When a plugin does not agree.
    pub(crate) async fn grant(&self, uid: &str, container: &str) -> Result<Grant, String> {
        let held: Vec<_> = {
            let state = self.state();
            let of = state.ledger.of(uid, container);
            let with_plugin = of.map(|(resource, held)| (held.clone(), state.plugins.get(resource).cloned()));
            with_plugin.collect()
        };
        let mut grant = Grant::default();
        for (held, plugin) in held {
            if let Some(plugin) = plugin.filter(|plugin| plugin.options.pre_start_required) {
                plugin.pre_start(&held.devices).await?;
            }
            let answer = wire::ContainerAllocateResponse::decode(held.answer.as_slice());
            grant.add(answer.map_err(|error| format!("answer of a device plugin: {error}"))?);
        }
        Ok(grant)
    }

    /// `allocatedResourcesStatus` of a container; none without devices.
    pub(crate) fn status(&self, uid: &str, container: &str) -> Option<Vec<Value>> {
        let state = self.state();
        let of = state.ledger.of(uid, container).map(|(resource, held)| {
            let health =
                |id: &String| json!({"resourceID": id, "health": state.ledger.health(resource, id).as_str()});
            json!({"name": resource, "resources": held.devices.iter().map(health).collect::<Vec<_>>()})
        });
        let list: Vec<Value> = of.collect();
        (!list.is_empty()).then_some(list)
    }
}

/// Whole numbers that a container may use of what is nobody's invention but a plugin's.
fn limits(container: &Container) -> impl Iterator<Item = (String, usize)> {
    let limits = container.resources.as_ref().and_then(|it| it.limits.as_ref());
    limits.into_iter().flatten().filter_map(|(name, amount)| {
        let amount = amount.0.parse::<Quantity>().ok()?.value();
        name.contains('/').then_some((name.clone(), usize::try_from(amount).ok()?))
    })
}

async fn until(when: Option<Timestamp>) {
    let Some(when) = when else { return };
    let wait = std::time::Duration::try_from(when.duration_since(Timestamp::now()));
    tokio::time::sleep(wait.unwrap_or_default()).await;
}

/// Makes the folder of sockets and takes what is no use any more out of it: plugins see that the agent is a new
/// one when its socket comes anew.
fn clear(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(folder)?.flatten() {
        let is_socket = entry.file_type().is_ok_and(|kind| std::os::unix::fs::FileTypeExt::is_socket(&kind));
        if is_socket {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
