//! A pod's volumes: folders and mounts below its own folder.

mod atomic;
mod claim;
mod host_path;
mod sub_path;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};
use plimsoll_kernel::mount;
use plimsoll_meta::quantity::Quantity;
use plimsoll_podlife::env::References;
use plimsoll_podlife::field::FieldContext;
use plimsoll_podlife::projection::{Projection, TokenRequest, projection};

pub(crate) use sub_path::sub_path;

use crate::agent::Agent;

/// What the files of volumes are made from.
pub(crate) struct Inputs {
    pub(crate) pod: Arc<Pod>,
    pub(crate) pod_ips: Vec<String>,
    pub(crate) references: References,
    pub(crate) tokens: BTreeMap<TokenRequest, String>,
}

/// Makes every volume of a pod. Doing it again repairs what is missing and renews files.
pub(crate) async fn prepare(agent: Arc<Agent>, inputs: Inputs) -> Result<(), String> {
    for volume in volumes(&inputs.pod) {
        if let Some(claim) = &volume.persistent_volume_claim {
            claim::resolve(&agent, &inputs.pod, &claim.claim_name)
                .await
                .map_err(|why| failed(volume, &why))?;
        }
    }
    blocking(move || {
        make_folders(&agent, &inputs.pod)?;
        volumes(&inputs.pod)
            .try_for_each(|volume| make(&agent, volume, &inputs).map_err(|why| failed(volume, &why)))
    })
    .await
}

/// Renews the files of volumes whose sources change.
pub(crate) async fn refresh(agent: Arc<Agent>, inputs: Inputs) -> Result<(), String> {
    blocking(move || {
        let projected = volumes(&inputs.pod).filter_map(|volume| Some((volume, projection(volume)?)));
        for (volume, projection) in projected {
            project(&agent, volume, &projection, &inputs).map_err(|why| failed(volume, &why))?;
        }
        Ok(())
    })
    .await
}

/// Unmounts and removes all that a pod had on this node.
pub(crate) async fn release(agent: Arc<Agent>, uid: String) -> Result<(), String> {
    blocking(move || {
        let dir = agent.config.pod_dir(&uid);
        if !dir.exists() {
            return Ok(());
        }
        mount::unmount_below(&dir).map_err(|error| error.to_string())?;
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("removing {}: {error}", dir.display()))
            }
            _ => Ok(()),
        }
    })
    .await
}

/// Where a volume is on this node, for a container that mounts it.
pub(crate) async fn source(agent: &Agent, pod: &Pod, name: &str) -> Result<PathBuf, String> {
    let volume = volumes(pod).find(|volume| volume.name == name);
    let volume = volume.ok_or_else(|| format!("volume \"{name}\" not found"))?;
    if let Some(claim) = &volume.persistent_volume_claim {
        return claim::resolve(agent, pod, &claim.claim_name).await;
    }
    if let Some(host) = &volume.host_path {
        return Ok(PathBuf::from(&host.path));
    }
    Ok(folder(agent, pod, volume))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
}

pub(crate) fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten())
}

fn failed(volume: &Volume, why: &str) -> String {
    format!("MountVolume.SetUp failed for volume \"{}\" : {why}", volume.name)
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

/// Upstream's folder of a volume; tools that look into nodes know it.
pub(crate) fn folder(agent: &Agent, pod: &Pod, volume: &Volume) -> PathBuf {
    let plugin = if volume.config_map.is_some() {
        "configmap"
    } else if volume.secret.is_some() {
        "secret"
    } else if volume.downward_api.is_some() {
        "downward-api"
    } else if volume.projected.is_some() {
        "projected"
    } else {
        "empty-dir"
    };
    agent.config.pod_dir(uid(pod)).join("volumes").join(format!("kubernetes.io~{plugin}")).join(&volume.name)
}

fn make(agent: &Agent, volume: &Volume, inputs: &Inputs) -> Result<(), String> {
    if let Some(projection) = projection(volume) {
        return project(agent, volume, &projection, inputs);
    }
    if let Some(host) = &volume.host_path {
        return host_path::check(host);
    }
    if volume.persistent_volume_claim.is_some() {
        return Ok(());
    }
    // A volume that names no source is an empty folder.
    match (&volume.empty_dir, has_other_source(volume)) {
        (Some(source), _) => empty_dir(&folder(agent, &inputs.pod, volume), source, &inputs.pod),
        (None, false) => {
            empty_dir(&folder(agent, &inputs.pod, volume), &EmptyDirVolumeSource::default(), &inputs.pod)
        }
        (None, true) => Err("volumes of this kind are not supported by this node".into()),
    }
}

fn has_other_source(volume: &Volume) -> bool {
    *volume != Volume { name: volume.name.clone(), ..Volume::default() }
}

fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

fn empty_dir(dir: &Path, source: &EmptyDirVolumeSource, pod: &Pod) -> Result<(), String> {
    let text = |error: std::io::Error| format!("{}: {error}", dir.display());
    let fresh = !dir.exists();
    fs::create_dir_all(dir).map_err(text)?;
    match source.medium.as_deref().unwrap_or_default() {
        "" => {}
        "Memory" => {
            if !is_mount(dir) {
                let limit = source.size_limit.as_ref().and_then(|it| it.0.parse::<Quantity>().ok());
                let size =
                    limit.filter(|limit| limit.sign() > 0).map(|limit| format!("size={}", limit.value()));
                mount::tmpfs(dir, &size.unwrap_or_default()).map_err(|error| error.to_string())?;
            }
        }
        medium => return Err(format!("emptyDir medium \"{medium}\" is not supported")),
    }
    if !fresh {
        return Ok(());
    }
    let mode = match fs_group(pod) {
        Some(group) => {
            chown(dir, None, Some(group)).map_err(text)?;
            0o2777
        }
        None => 0o777,
    };
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(text)
}

/// Whether another file system begins here.
fn is_mount(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|it| it.dev()).ok();
    dir.parent().is_some_and(|parent| device(parent) != device(dir))
}

fn project(agent: &Agent, volume: &Volume, projection: &Projection, inputs: &Inputs) -> Result<(), String> {
    let context = FieldContext {
        pod: &inputs.pod,
        pod_ips: &inputs.pod_ips,
        host_ips: &agent.node.addresses,
        allocatable: &agent.allocatable,
    };
    let files = projection.files(&context, &inputs.references, &inputs.tokens)?;
    let dir = folder(agent, &inputs.pod, volume);
    fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    // Secrets and tokens never touch a disk.
    if (volume.secret.is_some() || volume.projected.is_some()) && !is_mount(&dir) {
        mount::tmpfs(&dir, "mode=1777").map_err(|error| error.to_string())?;
    }
    atomic::write(&dir, &files, fs_group(&inputs.pod)).map_err(|error| format!("{}: {error}", dir.display()))
}
