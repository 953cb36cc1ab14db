//! `/stats/summary` in upstream's form (kubelet: pkg/apis/stats/v1alpha1/types.go).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Volume};
use plimsoll_kernel::cgroup::Stats;
use serde_json::{Map, Value, json};

use super::Figures;
use super::cores::Cores;
use super::disk::{Disk, Used, second};
use super::group::{Depth, Kind, Measured};
use super::link::Link;
use super::volumes::Figure;
use crate::agent::Agent;
use crate::machine::{available_memory, boot_time, processes, total_swap};
use crate::pressure::{disk_use, local_folder};
use crate::volume;

impl Figures {
    /// The summary; of processors and memory only, if that is all that is asked for.
    pub(crate) async fn summary(&self, only_cpu_and_memory: bool) -> Result<Value, tonic::Status> {
        let depth = if only_cpu_and_memory { Depth::Usage } else { Depth::All };
        let mut measured = self.look(depth).await?;
        if depth == Depth::All {
            let layers = self.layers().await;
            for it in &mut measured {
                it.layer = layers.get(&it.labels.name).copied();
            }
        }
        let images = self.image_folder().await;
        let volumes = match depth {
            Depth::All => self.volumes.get(&self.agent, &self.pods.list()).await,
            Depth::Usage => BTreeMap::new(),
        };
        let (agent, cores, pods) = (self.agent.clone(), self.cores.clone(), self.pods.list());
        let work = move || {
            let now = Timestamp::now();
            let disk = if only_cpu_and_memory { None } else { Disk::of(&agent.config.data_dir, now) };
            let image_disk =
                if only_cpu_and_memory { None } else { images.and_then(|it| Disk::of(&it, now)) };
            let is_short = only_cpu_and_memory;
            let scene = Scene { agent, cores, disk, image_disk, volumes, is_short, now };
            let summary = scene.summary(&measured, &pods);
            scene.cores.forget(now);
            summary
        };
        let joined = tokio::task::spawn_blocking(work).await;
        joined.map_err(|error| tonic::Status::internal(format!("measuring pods: {error}")))
    }

    async fn image_folder(&self) -> Option<PathBuf> {
        let found = self.images.get_or_try_init(|| async {
            let info = self.agent.engine.image_fs_info().await?;
            let place = info.image_filesystems.into_iter().find_map(|it| it.fs_id);
            Ok::<_, tonic::Status>(place.map(|id| PathBuf::from(id.mountpoint)))
        });
        found.await.ok().cloned().flatten()
    }
}

/// What all parts of a summary are made from.
struct Scene {
    agent: Arc<Agent>,
    cores: Arc<Cores>,
    disk: Option<Disk>,
    image_disk: Option<Disk>,
    /// Those of claims and drivers, by pod and name.
    volumes: BTreeMap<(String, String), Figure>,
    is_short: bool,
    now: Timestamp,
}

impl Scene {
    fn summary(&self, measured: &[Measured], pods: &[Arc<Pod>]) -> Value {
        let machine = measured.iter().find(|it| it.kind == Kind::Machine);
        let mut by_pod: HashMap<&str, Vec<&Measured>> = HashMap::new();
        for it in measured.iter().filter(|it| !it.uid.is_empty()) {
            by_pod.entry(it.uid.as_str()).or_default().push(it);
        }
        let of = |pod: &Arc<Pod>| {
            let groups = by_pod.get(pod.metadata.uid.as_deref()?)?;
            self.pod(pod, groups)
        };
        let pods: Vec<Value> = pods.iter().filter_map(of).collect();
        json!({"node": machine.map(|it| self.node(it, measured)), "pods": pods})
    }

    fn node(&self, machine: &Measured, measured: &[Measured]) -> Value {
        let mut memory = memory(machine, None);
        let available = available_memory();
        memory["availableBytes"] = json!(available);
        memory["workingSetBytes"] = json!(self.agent.machine.memory - available);
        let pods = self.agent.cgroups.pods().path();
        let system = measured.iter().filter(|it| it.id == pods).map(|it| {
            let mut part = self.usage(it);
            part.insert("name".into(), json!("pods"));
            part.insert("startTime".into(), json!(second(it.started)));
            Value::Object(part)
        });
        let mut node = json!({
            "nodeName": self.agent.config.node_name,
            "systemContainers": system.collect::<Vec<_>>(),
            "startTime": boot_time().map(second),
            "cpu": self.cpu(machine),
            "memory": memory,
            "swap": swap(machine, Some(u64::try_from(total_swap()).unwrap_or(0))),
        });
        if self.is_short {
            return node;
        }
        node["network"] = network(&machine.links, machine.at);
        node["fs"] = json!(self.disk.as_ref().map(|disk| disk.summary(None)));
        let images = self.image_disk.as_ref().map(|disk| disk.summary(None));
        node["runtime"] = json!({"imageFs": images, "containerFs": images});
        if let Some((running, most)) = processes() {
            node["rlimit"] = json!({"time": second(self.now), "maxpid": most, "curproc": running});
        }
        node
    }

    fn pod(&self, pod: &Pod, groups: &[&Measured]) -> Option<Value> {
        let own = groups.iter().find(|it| it.kind == Kind::Pod)?;
        let containers = groups.iter().filter(|it| it.kind == Kind::Container);
        let logs = crate::sandbox::log_folder(&self.agent.config, pod);
        let parts: Vec<_> = containers.map(|it| self.container(it, &logs)).collect();
        let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map(|time| time.0);
        let meta = &pod.metadata;
        let mut all = self.usage(own);
        all.insert("podRef".into(), json!({"name": meta.name, "namespace": meta.namespace, "uid": meta.uid}));
        all.insert("startTime".into(), json!(second(started.unwrap_or(own.started))));
        all.insert("containers".into(), parts.iter().map(|(value, _)| value.clone()).collect());
        all.insert("process_stats".into(), json!({"process_count": own.account.stats.pids.current}));
        if self.is_short {
            return Some(Value::Object(all));
        }
        if let Some(it) = groups.iter().find(|it| !it.links.is_empty()) {
            all.insert("network".into(), network(&it.links, it.at));
        }
        let volumes: Vec<_> = volume::volumes(pod).filter_map(|volume| self.volume(pod, volume)).collect();
        if let Some(disk) = &self.disk {
            let files = used(&self.agent.config.pod_dir(own.uid.as_str()).join("etc-hosts"));
            let used = parts.iter().map(|(_, used)| *used);
            let used = used.chain(volumes.iter().filter_map(|(_, local)| *local)).fold(files, |a, b| a + b);
            all.insert("ephemeral-storage".into(), disk.summary(Some(used)));
        }
        all.insert("volume".into(), volumes.into_iter().map(|(value, _)| value).collect());
        Some(Value::Object(all))
    }

    /// A container, and the disk space that it takes.
    fn container(&self, it: &Measured, logs: &Path) -> (Value, Used) {
        let mut all = self.usage(it);
        all.insert("name".into(), json!(it.labels.container));
        all.insert("startTime".into(), json!(second(it.started)));
        if self.is_short {
            return (Value::Object(all), Used::default());
        }
        let written = used(&logs.join(&it.labels.container));
        let layer = it.layer.unwrap_or_default();
        let images = self.image_disk.as_ref().or(self.disk.as_ref());
        if let Some(disk) = images {
            all.insert("rootfs".into(), disk.summary(Some(layer)));
        }
        if let Some(disk) = &self.disk {
            all.insert("logs".into(), disk.summary(Some(written)));
        }
        (Value::Object(all), layer + written)
    }

    /// A volume, and the space of the node's disk that it takes.
    fn volume(&self, pod: &Pod, volume: &Volume) -> Option<(Value, Option<Used>)> {
        let key = (pod.metadata.uid.clone().unwrap_or_default(), volume.name.clone());
        if let Some(figure) = self.volumes.get(&key) {
            return Some((figure.summary(&volume.name), None));
        }
        if !has_folder(volume) {
            return None;
        }
        let disk = Disk::of(&volume::folder(&self.agent, pod, volume), self.now)?;
        let local = local_folder(&self.agent, pod, volume).map(|folder| used(&folder));
        let mut value = disk.summary(local);
        value["name"] = json!(volume.name);
        Some((value, local))
    }

    fn usage(&self, it: &Measured) -> Map<String, Value> {
        let mut all = Map::new();
        all.insert("cpu".into(), self.cpu(it));
        all.insert("memory".into(), memory(it, it.account.stats.memory.limit));
        all.insert("swap".into(), swap(it, it.account.allowance.swap));
        all
    }

    fn cpu(&self, it: &Measured) -> Value {
        let usage = it.account.stats.cpu.usage_nanos;
        json!({
            "time": second(it.at),
            "usageNanoCores": self.cores.rate(&it.id, it.started, it.at, usage),
            "usageCoreNanoSeconds": usage,
        })
    }
}

/// Whether the agent made a volume's folder.
fn has_folder(volume: &Volume) -> bool {
    volume.empty_dir.is_some()
        || volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

fn memory(it: &Measured, limit: Option<u64>) -> Value {
    let Stats { memory, .. } = it.account.stats;
    let mut value = json!({
        "time": second(it.at),
        "usageBytes": memory.usage,
        "workingSetBytes": memory.working_set,
        "rssBytes": memory.rss,
        "pageFaults": memory.page_faults,
        "majorPageFaults": memory.major_page_faults,
    });
    if let Some(limit) = limit {
        value["availableBytes"] = json!(limit.saturating_sub(memory.working_set));
    }
    value
}

fn swap(it: &Measured, limit: Option<u64>) -> Value {
    let used = it.account.stats.memory.swap;
    let mut value = json!({"time": second(it.at), "swapUsageBytes": used});
    if let Some(limit) = limit {
        value["swapAvailableBytes"] = json!(limit.saturating_sub(used));
    }
    value
}

/// All links; the usual one stands for the whole.
fn network(links: &[Link], at: Timestamp) -> Value {
    let one = |link: &Link| {
        json!({
            "name": link.name,
            "rxBytes": link.received.bytes,
            "rxErrors": link.received.errors,
            "txBytes": link.sent.bytes,
            "txErrors": link.sent.errors,
        })
    };
    let usual = links.iter().find(|link| link.name == "eth0");
    let mut value = usual.map_or_else(|| json!({"name": ""}), one);
    value["time"] = json!(second(at));
    value["interfaces"] = links.iter().map(one).collect();
    value
}

fn used(path: &Path) -> Used {
    let used = disk_use(path);
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    Used { bytes: unsigned(used.bytes), inodes: unsigned(used.inodes) }
}
