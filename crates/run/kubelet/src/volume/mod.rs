//! A pod's volumes: folders and mounts below its own folder.
//!
//! What a volume is comes from `plimsoll_podlife::volume`; here it is made, renewed and taken away.
//! Each volume is made by itself, so that one that hangs keeps neither its neighbours nor other pods.

mod atomic;
mod claim;
mod empty_dir;
mod files;
mod held;
mod host_path;
mod local_folder;
mod node_path;
mod ownership;
mod provided;
mod release;
mod sub_path;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Volume};
use plimsoll_kernel::mountinfo;
use plimsoll_podlife::env::References;
use plimsoll_podlife::projection::{TokenRequest, projection};
use plimsoll_podlife::volume::{Kind, Source, inline, is_used, reference, unable};
use tokio::task::JoinSet;

pub(crate) use claim::Bound;
pub(crate) use held::{Held, Place, Volumes};
pub(crate) use local_folder::run as keep_local_folders;
pub(crate) use provided::{Provided, look_after};
pub(crate) use release::{release, release_orphan, sweep_stages};
pub(crate) use sub_path::{SubPath, sub_path};

use crate::agent::Agent;
use ownership::{Change, Ownership};

/// What the files of volumes are made from.
pub(crate) struct Inputs {
    pub(crate) pod: Arc<Pod>,
    pub(crate) pod_ips: Vec<String>,
    pub(crate) references: References,
    pub(crate) tokens: BTreeMap<TokenRequest, String>,
}

/// A volume and what it is.
struct Wanted {
    volume: Volume,
    source: Source,
    /// The claim that it comes from.
    bound: Option<Bound>,
}

/// Makes every volume of a pod. Doing it again repairs what is missing and renews files.
pub(crate) async fn prepare(agent: Arc<Agent>, inputs: Inputs) -> Result<(), String> {
    let inputs = Arc::new(inputs);
    let (wanted, mut failures) = resolve(&agent, &inputs.pod).await;
    let (slow, quick): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|it| is_slow(&it.source.kind));
    let mut work = JoinSet::new();
    for one in slow {
        work.spawn(make_alone(agent.clone(), inputs.clone(), one));
    }
    work.spawn(blocking(move || make_together(&agent, &inputs, &quick)));
    while let Some(ended) = work.join_next().await {
        failures.extend(ended.unwrap_or_else(|error| Err(error.to_string())).err());
    }
    failures.into_iter().next().map_or(Ok(()), Err)
}

/// What the volumes are, and why some of them are nothing.
async fn resolve(agent: &Agent, pod: &Pod) -> (Vec<Wanted>, Vec<String>) {
    let memory = agent.allocatable.get("memory").map(|amount| amount.value());
    let (mut wanted, mut failures) = (Vec::new(), Vec::new());
    for volume in volumes(pod) {
        let found = match reference(pod, volume) {
            // Nobody waits for a claim that no container uses.
            Some(_) if !is_used(pod, &volume.name) => continue,
            Some(reference) => {
                let found = claim::resolve(agent, pod, volume, &reference).await;
                found.map(|(source, bound)| (source, Some(bound)))
            }
            None => inline(pod, volume, memory).map(|source| (source, None)),
        };
        let found = found.and_then(|(source, bound)| match source.single {
            true if !agent.volumes.claim_single(&source.name, uid(pod)) => {
                Err("volume uses the ReadWriteOncePod access mode and is already in use by another pod"
                    .into())
            }
            _ => Ok(Wanted { volume: volume.clone(), source, bound }),
        });
        match found {
            Ok(one) => wanted.push(one),
            Err(why) => failures.push(unable(&[&volume.name], &why)),
        }
    }
    (wanted, failures)
}

/// Whether making it may take long: it waits for others, or has many files.
fn is_slow(kind: &Kind) -> bool {
    matches!(kind, Kind::Local { .. } | Kind::Nfs { .. } | Kind::Csi(_))
}

async fn make_alone(agent: Arc<Agent>, inputs: Arc<Inputs>, one: Wanted) -> Result<(), String> {
    let gate = agent.volumes.gate(uid(&inputs.pod), &one.volume.name).lock_owned().await;
    if let Some(provided) = Provided::new(&inputs.pod, &one.volume, &one.source) {
        return provided::provide(&agent, provided, one.bound.as_ref()).await;
    }
    blocking(move || {
        let _gate = gate;
        make(&agent, &one, &inputs)
    })
    .await
}

fn make_together(agent: &Agent, inputs: &Inputs, all: &[Wanted]) -> Result<(), String> {
    make_folders(agent, &inputs.pod)?;
    let results: Vec<_> = all.iter().map(|one| make(agent, one, inputs)).collect();
    results.into_iter().collect()
}

/// Renews the files of volumes whose sources change.
pub(crate) async fn refresh(agent: Arc<Agent>, inputs: Inputs) -> Result<(), String> {
    blocking(move || {
        let projected = volumes(&inputs.pod).filter_map(|volume| Some((volume, projection(volume)?)));
        for (volume, projection) in projected {
            let dir = folder(&agent, &inputs.pod, volume);
            files::write(&agent, volume, &projection, &inputs, &dir)
                .map_err(|why| failed(&volume.name, &why))?;
        }
        Ok(())
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
}

pub(crate) fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten())
}

fn failed(name: &str, why: &str) -> String {
    format!("MountVolume.SetUp failed for volume \"{name}\" : {why}")
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn make_folders(agent: &Agent, pod: &Pod) -> Result<(), String> {
    let dir = agent.config.pod_dir(uid(pod));
    for folder in [dir.join("volumes"), dir.join("containers")] {
        fs::create_dir_all(&folder).map_err(|error| format!("making {}: {error}", folder.display()))?;
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o750))
        .map_err(|error| format!("{}: {error}", dir.display()))
}

/// Upstream's folder of a volume without a claim; tools that look into nodes know it.
pub(crate) fn folder(agent: &Agent, pod: &Pod, volume: &Volume) -> PathBuf {
    let plugin = inline(pod, volume, None).map_or("empty-dir", |source| source.kind.plugin(volume));
    below(agent, pod, plugin, &volume.name)
}

/// The folder of a volume that was made.
pub(crate) fn source(agent: &Agent, pod: &Pod, name: &str) -> Result<PathBuf, String> {
    match agent.volumes.get(uid(pod), name) {
        Some(Held { place: Place::Path(path), .. }) => Ok(path),
        _ => Err(format!("volume \"{name}\" not found")),
    }
}

fn below(agent: &Agent, pod: &Pod, plugin: &str, name: &str) -> PathBuf {
    agent.config.pod_dir(uid(pod)).join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
}

fn make(agent: &Agent, one: &Wanted, inputs: &Inputs) -> Result<(), String> {
    let (volume, source) = (&one.volume, &one.source);
    let place = place(agent, volume, source, inputs).map_err(|why| failed(&source.name, &why))?;
    agent.volumes.hold(
        uid(&inputs.pod),
        &volume.name,
        Held { place, read_only: source.read_only, group: source.group },
    );
    Ok(())
}

fn place(agent: &Agent, volume: &Volume, source: &Source, inputs: &Inputs) -> Result<Place, String> {
    let pod = &inputs.pod;
    let dir = below(agent, pod, source.kind.plugin(volume), &source.name);
    match &source.kind {
        Kind::Files(projection) => files::write(agent, volume, projection, inputs, &dir)?,
        Kind::EmptyDir(medium) => empty_dir::make(&dir, medium, ownership(pod, false))?,
        Kind::HostPath { path, check } => {
            host_path::check(path, check)?;
            return Ok(Place::Path(PathBuf::from(path)));
        }
        Kind::Local { path } => {
            return node_path::local(source, path, &dir, ownership(pod, source.read_only));
        }
        Kind::Nfs { server, path } => return node_path::nfs(source, server, path, &dir),
        Kind::Image { reference, .. } => return Ok(Place::Image(reference.clone())),
        Kind::Csi(_) => return Err("drivers make their volumes themselves".into()),
    }
    Ok(Place::Path(dir))
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

/// Who gets the files of the pod's volumes.
fn ownership(pod: &Pod, read_only: bool) -> Option<Ownership> {
    let context = pod.spec.as_ref()?.security_context.as_ref()?;
    let change = match context.fs_group_change_policy.as_deref() {
        Some("OnRootMismatch") => Change::OnRootMismatch,
        _ => Change::Always,
    };
    Some(Ownership { group: fs_group(pod)?, change, read_only })
}

/// Whether another file system begins here.
fn is_mount(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|it| it.dev()).ok();
    dir.parent().is_some_and(|parent| device(parent) != device(dir))
}

/// Whether something is mounted here, be it of the same file system.
fn is_mount_point(dir: &Path) -> bool {
    let real = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    mountinfo::read().is_ok_and(|table| table.iter().any(|mount| mount.point == real))
}
