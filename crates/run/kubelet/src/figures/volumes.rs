//! How full volumes of claims and drivers are (kubelet: pkg/kubelet/metrics/collectors/volume_stats.go and the
//! `volume` of pods in the summary, v1.37).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use plimsoll_podlife::volume::reference;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::disk::{Disk, second};
use super::text::{Kind, family, label, value};
use crate::agent::Agent;
use crate::csi::{Fullness, Measure};
use crate::volume::{Place, Provided, volumes};

/// Longest wait for a file system.
const PATIENCE: Duration = Duration::from_secs(2);

/// A pod's UID and the name of a volume.
type Key = (String, String);

/// What was measured of all volumes, and when.
#[derive(Default)]
pub(super) struct Volumes {
    known: Mutex<HashMap<Key, (Instant, Option<Figure>)>>,
}

/// What was measured of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Figure {
    pub(super) namespace: String,
    /// The claim that the volume comes from.
    pub(super) claim: Option<String>,
    at: Timestamp,
    measure: Measure,
}

impl Volumes {
    /// Measures what was not for a while. One that does not answer is not waited for long, nor asked again soon.
    pub(super) async fn get(&self, agent: &Arc<Agent>, pods: &[Arc<Pod>]) -> BTreeMap<Key, Figure> {
        let period = agent.config.volume_stats_period;
        if period.is_zero() {
            return BTreeMap::new();
        }
        let mut known = self.known.lock().await;
        let all = sources(agent, pods);
        known.retain(|key, _| all.contains_key(key));
        let mut work = JoinSet::new();
        for (key, source) in all {
            if known.get(&key).is_none_or(|(at, _)| at.elapsed() >= period) {
                let agent = agent.clone();
                work.spawn(async move { (key, source.measure(&agent).await) });
            }
        }
        while let Some(Ok((key, figure))) = work.join_next().await {
            known.insert(key, (Instant::now(), figure));
        }
        let told = known.iter().filter_map(|(key, (_, figure))| Some((key.clone(), figure.clone()?)));
        told.collect()
    }
}

/// A volume that can be measured.
struct Source {
    namespace: String,
    claim: Option<String>,
    kind: Measured,
}

enum Measured {
    /// By its driver.
    Provided(Arc<Provided>),
    /// By its file system.
    Folder(PathBuf),
}

/// The volumes that come from claims or drivers.
fn sources(agent: &Agent, pods: &[Arc<Pod>]) -> HashMap<Key, Source> {
    let key = |pod: &Pod, volume: &str| (pod.metadata.uid.clone().unwrap_or_default(), volume.to_owned());
    let provided = agent.volumes.provided().into_iter();
    let mut provided: HashMap<Key, _> =
        provided.map(|it| (key(&it.pod, &it.volume.name), it.clone())).collect();
    let mut all = HashMap::new();
    for pod in pods {
        for volume in volumes(pod) {
            let claim = reference(pod, volume).map(|reference| reference.claim);
            let key = key(pod, &volume.name);
            let kind = match provided.remove(&key) {
                Some(provided) => Measured::Provided(provided),
                None if claim.is_some() => match agent.volumes.get(&key.0, &key.1).map(|held| held.place) {
                    // A path of the node itself says nothing of the volume.
                    Some(Place::Path(path)) if path.starts_with(agent.config.pod_dir(&key.0)) => {
                        Measured::Folder(path)
                    }
                    _ => continue,
                },
                None => continue,
            };
            let namespace = pod.metadata.namespace.clone().unwrap_or_default();
            all.insert(key, Source { namespace, claim, kind });
        }
    }
    all
}

impl Source {
    async fn measure(self, agent: &Arc<Agent>) -> Option<Figure> {
        let measure = match self.kind {
            Measured::Provided(provided) => {
                let told = provided.fullness(agent).await;
                let told = told.inspect_err(|why| {
                    tracing::info!(volume = provided.volume.name, why, "volume not measured");
                });
                told.ok().flatten()?
            }
            Measured::Folder(path) => {
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                let looked = tokio::task::spawn_blocking(move || Disk::of(&path, Timestamp::now()));
                let mut measure = measure(&tokio::time::timeout(PATIENCE, looked).await.ok()?.ok()??);
                // The disk below a folder is larger than what was asked for.
                if let Some((used, capacity)) = name.and_then(|name| agent.volumes.folder_use(&name)) {
                    let available = capacity.saturating_sub(used);
                    measure.bytes = Some(Fullness { available, capacity, used });
                }
                measure
            }
        };
        let abnormal = measure.abnormal.filter(|_| agent.config.volume_health);
        let measure = Measure { abnormal, ..measure };
        Some(Figure { namespace: self.namespace, claim: self.claim, at: Timestamp::now(), measure })
    }
}

fn measure(disk: &Disk) -> Measure {
    let bytes = Fullness { available: disk.available, capacity: disk.capacity, used: disk.used };
    let used = disk.inodes.saturating_sub(disk.inodes_free);
    let inodes = Fullness { available: disk.inodes_free, capacity: disk.inodes, used };
    Measure { bytes: Some(bytes), inodes: Some(inodes), abnormal: None }
}

impl Figure {
    /// As the summary shows it.
    pub(super) fn summary(&self, volume: &str) -> Value {
        let mut all = Map::new();
        all.insert("time".into(), json!(second(self.at)));
        for (fullness, names) in [
            (self.measure.bytes, ["availableBytes", "capacityBytes", "usedBytes"]),
            (self.measure.inodes, ["inodesFree", "inodes", "inodesUsed"]),
        ] {
            let Some(it) = fullness else { continue };
            let amounts = [it.available, it.capacity, it.used];
            all.extend(names.into_iter().map(str::to_owned).zip(amounts.map(Value::from)));
        }
        all.insert("name".into(), json!(volume));
        if let Some(claim) = &self.claim {
            all.insert("pvcRef".into(), json!({"name": claim, "namespace": self.namespace}));
        }
        if let Some(abnormal) = self.measure.abnormal {
            all.insert("volumeHealthStats".into(), json!({"abnormal": abnormal}));
        }
        Value::Object(all)
    }

    fn amount(&self, row: &Row) -> Option<u64> {
        match row.of {
            Of::Bytes(part) => self.measure.bytes.map(part),
            Of::Inodes(part) => self.measure.inodes.map(part),
            Of::Health => self.measure.abnormal.map(u64::from),
        }
    }
}

struct Row {
    name: &'static str,
    help: &'static str,
    of: Of,
}

enum Of {
    Bytes(fn(Fullness) -> u64),
    Inodes(fn(Fullness) -> u64),
    Health,
}

const ROWS: [Row; 7] = [
    Row {
        name: "kubelet_volume_stats_available_bytes",
        help: "[ALPHA] Number of available bytes in the volume",
        of: Of::Bytes(|it| it.available),
    },
    Row {
        name: "kubelet_volume_stats_capacity_bytes",
        help: "[ALPHA] Capacity in bytes of the volume",
        of: Of::Bytes(|it| it.capacity),
    },
    Row {
        name: "kubelet_volume_stats_health_status_abnormal",
        help: "[ALPHA] Abnormal volume health status. The count is either 1 or 0. 1 indicates the volume is unhealthy, 0 indicates volume is healthy",
        of: Of::Health,
    },
    Row {
        name: "kubelet_volume_stats_inodes",
        help: "[ALPHA] Maximum number of inodes in the volume",
        of: Of::Inodes(|it| it.capacity),
    },
    Row {
        name: "kubelet_volume_stats_inodes_free",
        help: "[ALPHA] Number of free inodes in the volume",
        of: Of::Inodes(|it| it.available),
    },
    Row {
        name: "kubelet_volume_stats_inodes_used",
        help: "[ALPHA] Number of used inodes in the volume",
        of: Of::Inodes(|it| it.used),
    },
    Row {
        name: "kubelet_volume_stats_used_bytes",
        help: "[ALPHA] Number of used bytes in the volume",
        of: Of::Bytes(|it| it.used),
    },
];

/// The series of claims: each once, however many pods use it.
pub(super) fn write<'a>(figures: impl Iterator<Item = &'a Figure>) -> String {
    let mut seen = BTreeSet::new();
    let claims = figures.filter_map(|it| Some((it.namespace.as_str(), it.claim.as_deref()?, it)));
    let claims: Vec<_> = claims.filter(|(namespace, claim, _)| seen.insert((*namespace, *claim))).collect();
    let mut out = String::new();
    for row in &ROWS {
        let mut begun = false;
        for (namespace, claim, figure) in &claims {
            let Some(amount) = figure.amount(row) else { continue };
            if !std::mem::replace(&mut begun, true) {
                family(&mut out, row.name, Kind::Gauge, row.help);
            }
            out.push_str(row.name);
            out.push('{');
            label(&mut out, "namespace", namespace);
            out.push(',');
            label(&mut out, "persistentvolumeclaim", claim);
            out.push('}');
            value(&mut out, amount as f64, None);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_told_once_and_as_far_as_known() {
        let figure = |claim: Option<&str>, abnormal| Figure {
            namespace: "ns".into(),
            claim: claim.map(str::to_owned),
            at: Timestamp::UNIX_EPOCH,
            measure: Measure {
                bytes: Some(Fullness { available: 7, capacity: 10, used: 3 }),
                inodes: None,
                abnormal,
            },
        };
        let all = [figure(Some("data"), Some(true)), figure(Some("data"), None), figure(None, None)];
        let text = write(all.iter());
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let labels = "{namespace=\"ns\",persistentvolumeclaim=\"data\"}";
        let expected = [
            format!("kubelet_volume_stats_available_bytes{labels} 7"),
            format!("kubelet_volume_stats_capacity_bytes{labels} 10"),
            format!("kubelet_volume_stats_health_status_abnormal{labels} 1"),
            format!("kubelet_volume_stats_used_bytes{labels} 3"),
        ];
        assert_eq!(lines, expected);
        assert_eq!(
            all[0].summary("v"),
            json!({"time": "1970-01-01T00:00:00Z", "availableBytes": 7, "capacityBytes": 10, "usedBytes": 3,
                "name": "v", "pvcRef": {"name": "data", "namespace": "ns"},
                "volumeHealthStats": {"abnormal": true}})
        );
    }
}
