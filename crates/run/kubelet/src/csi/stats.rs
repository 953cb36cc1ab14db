//! How full a driver's volume is.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_csi::v1;
use plimsoll_csi::v1::node_service_capability::rpc::Type;
use plimsoll_csi::v1::volume_usage::Unit;
use plimsoll_podlife::volume::csi::Csi;

use super::publish::staging;
use super::unpublish;
use crate::agent::Agent;
use crate::engine::text;

/// Longest wait for a driver: whoever reads figures waits as long.
const PATIENCE: Duration = Duration::from_secs(2);

/// How full something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fullness {
    pub(crate) available: u64,
    pub(crate) capacity: u64,
    pub(crate) used: u64,
}

/// What a driver says of a volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measure {
    pub(crate) bytes: Option<Fullness>,
    pub(crate) inodes: Option<Fullness>,
    /// Whether something is wrong with it, if the driver looks.
    pub(crate) abnormal: Option<bool>,
}

/// Asks the driver; `dir` is the volume's own folder below the pod's. Nothing where it does not tell.
pub(crate) async fn fullness(
    agent: &Arc<Agent>,
    csi: &Csi,
    dir: &std::path::Path,
) -> Result<Option<Measure>, String> {
    let ask = async {
        let driver = agent.drivers.get(&csi.driver)?;
        let abilities = driver.abilities().await?;
        if !abilities.has(Type::GetVolumeStats) {
            return Ok(None);
        }
        let staged = staging(agent, csi, &abilities);
        let request = v1::NodeGetVolumeStatsRequest {
            volume_id: csi.handle.clone(),
            volume_path: unpublish::target(dir).to_string_lossy().into_owned(),
            staging_target_path: staged.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default(),
        };
        let answer = driver.node().node_get_volume_stats(request).await.map_err(|status| text(&status))?;
        Ok(Some(measure(&answer.into_inner(), abilities.has(Type::VolumeCondition))))
    };
    tokio::time::timeout(PATIENCE, ask).await.unwrap_or_else(|_| Err("the driver does not answer".into()))
}

fn measure(answer: &v1::NodeGetVolumeStatsResponse, looks: bool) -> Measure {
    let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
    let of = |unit: Unit| {
        let usage = answer.usage.iter().find(|usage| usage.unit() == unit)?;
        Some(Fullness {
            available: unsigned(usage.available),
            capacity: unsigned(usage.total),
            used: unsigned(usage.used),
        })
    };
    let abnormal = answer.volume_condition.as_ref().filter(|_| looks).map(|condition| condition.abnormal);
    Measure { bytes: of(Unit::Bytes), inodes: of(Unit::Inodes), abnormal }
}
