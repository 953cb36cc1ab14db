//! Taking a driver's volumes away, by what is written down beside them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plimsoll_csi::v1;
use plimsoll_podlife::volume::csi::unique_name;

use super::publish::{asked, within};
use super::record::Record;
use super::stages;
use crate::agent::Agent;

/// Takes away every volume of drivers that a pod has.
pub(crate) async fn unpublish(agent: &Arc<Agent>, uid: &str) -> Result<(), String> {
    for (folder, record) in published(&agent.config.pod_dir(uid)) {
        let name = if record.name.is_empty() { record.volume_handle.clone() } else { record.name.clone() };
        let failed = |why: String| format!("UnmountVolume.TearDown failed for volume \"{name}\" : {why}");
        let driver = agent.drivers.get(&record.driver_name).map_err(failed)?;
        let request = v1::NodeUnpublishVolumeRequest {
            volume_id: record.volume_handle.clone(),
            target_path: target(&folder).to_string_lossy().into_owned(),
        };
        within(asked(driver.node().node_unpublish_volume(request))).await.map_err(failed)?;
        Record::remove(&folder).map_err(|error| failed(error.to_string()))?;
        unstage(agent, &record).await?;
    }
    Ok(())
}

/// Where the driver shows a volume: a folder or a device.
pub(super) fn target(folder: &Path) -> PathBuf {
    let is_device = folder.components().any(|part| part.as_os_str() == "volumeDevices");
    folder.join(if is_device { "dev" } else { "mount" })
}

/// The folders of a pod's volumes of drivers, with what is written there.
fn published(pod: &Path) -> Vec<(PathBuf, Record)> {
    let folders = ["volumes", "volumeDevices"].map(|kind| pod.join(kind).join("kubernetes.io~csi"));
    let entries = folders.into_iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    entries.filter_map(|entry| Some((entry.path(), Record::read(&entry.path())?))).collect()
}

/// Undoes what was prepared for all pods when none has the volume any more.
async fn unstage(agent: &Arc<Agent>, record: &Record) -> Result<(), String> {
    let _turn = agent.drivers.stage.lock().await;
    for (folder, staged) in staged(agent) {
        if !staged.same(record) || has_users(agent, record) {
            continue;
        }
        let failed =
            |why: String| format!("UnmountDevice failed for volume \"{}\" : {why}", record.volume_handle);
        let target = folder.join("globalmount");
        let request = v1::NodeUnstageVolumeRequest {
            volume_id: record.volume_handle.clone(),
            staging_target_path: target.to_string_lossy().into_owned(),
        };
        let driver = agent.drivers.get(&record.driver_name).map_err(failed)?;
        within(asked(driver.node().node_unstage_volume(request))).await.map_err(failed)?;
        let removed = fs::remove_dir(&target).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        });
        let removed = removed.and_then(|()| Record::remove(&folder)).and_then(|()| fs::remove_dir(&folder));
        removed.map_err(|error| failed(error.to_string()))?;
        agent.drivers.forget_size(&unique_name(&record.driver_name, &record.volume_handle));
    }
    Ok(())
}

/// Everything that is prepared for all pods.
fn staged(agent: &Agent) -> Vec<(PathBuf, Record)> {
    let list =
        |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = list(stages(&agent.config)).flat_map(list);
    all.filter_map(|folder| Record::read(&folder).map(|record| (folder, record))).collect()
}

fn has_users(agent: &Agent, record: &Record) -> bool {
    let pods = fs::read_dir(agent.config.data_dir.join("pods")).into_iter().flatten().flatten();
    pods.flat_map(|pod| published(&pod.path())).any(|(_, used)| used.same(record))
}

/// Undoes what was prepared for pods that are gone: an agent that died may have left it.
pub(crate) async fn sweep(agent: &Arc<Agent>) -> Result<(), String> {
    for (_, record) in staged(agent) {
        unstage(agent, &record).await?;
    }
    Ok(())
}
