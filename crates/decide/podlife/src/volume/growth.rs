//! Volumes that grow while they are used: whether the node has its part to do, and what the claim is told
//! (kubelet: pkg/volume/util/operationexecutor/node_expander.go and pkg/volume/util/resize_util.go, v1.37).

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimCondition};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use plimsoll_meta::quantity::Quantity;
use serde_json::{Value, json};

const STORAGE: &str = "storage";
/// Conditions that tell of a claim that grows.
const RESIZE: [&str; 4] = ["Resizing", "FileSystemResizePending", "ControllerResizeError", "NodeResizeError"];

/// A volume that is larger than the node has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Growth {
    /// Its new size, in bytes.
    pub bytes: i64,
    /// How the PersistentVolume writes it.
    size: Amount,
    /// Who learns of it.
    pub news: News,
}

/// What the claim says before the node begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It waits for the node, and is told when that begins.
    Awaited,
    /// It comes from a controller that does not say what it waits for: only the end is told.
    Unsaid,
    /// Another node was first: the claim has the size already.
    Known,
}

/// Why a driver did not let a volume grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It never will with this size.
    Infeasible,
    /// It will not as long as the volume is used here.
    InUse,
    /// It did not.
    Final,
    /// Nobody knows yet; it is tried again.
    Transient,
}

impl Failure {
    /// What a code of gRPC means.
    #[must_use]
    pub fn of(code: i32) -> Self {
        match code {
            // InvalidArgument, NotFound, OutOfRange
            3 | 5 | 11 => Self::Infeasible,
            // FailedPrecondition
            9 => Self::InUse,
            // Canceled, DeadlineExceeded, ResourceExhausted, Aborted, Unavailable
            1 | 4 | 8 | 10 | 14 => Self::Transient,
            _ => Self::Final,
        }
    }
}

/// Whether the node has to let a volume grow. `here` is the size in bytes that it had here last; a volume that is
/// only being mounted has the size of its claim.
#[must_use]
pub fn growth(claim: &PersistentVolumeClaim, volume: &PersistentVolume, here: Option<i64>) -> Option<Growth> {
    let size = volume.spec.as_ref()?.capacity.as_ref()?.get(STORAGE)?.clone();
    let bytes = value(&size)?;
    let known = claimed(claim)?;
    if bytes <= here.unwrap_or(known) {
        return None;
    }
    let status = claim.status.as_ref()?;
    let state = status.allocated_resource_statuses.as_ref().and_then(|all| all.get(STORAGE));
    let news = match state.map(String::as_str) {
        None if known >= bytes => News::Known,
        None if status.allocated_resources.as_ref().is_none_or(|all| !all.contains_key(STORAGE)) => {
            News::Unsaid
        }
        Some("NodeResizePending" | "NodeResizeInProgress") | None => News::Awaited,
        // The controller is not done, or what it asked for will not come.
        Some(_) => return None,
    };
    Some(Growth { bytes, size, news })
}

/// The size that a claim says it has, in bytes.
#[must_use]
pub fn claimed(claim: &PersistentVolumeClaim) -> Option<i64> {
    value(claim.status.as_ref()?.capacity.as_ref()?.get(STORAGE)?)
}

fn value(amount: &Amount) -> Option<i64> {
    amount.0.parse::<Quantity>().ok().map(|it| it.value())
}

impl Growth {
    /// The patch of the claim's status when the node begins.
    #[must_use]
    pub fn begun(&self, claim: &PersistentVolumeClaim) -> Option<Value> {
        let state =
            claim.status.as_ref()?.allocated_resource_statuses.as_ref().and_then(|it| it.get(STORAGE));
        let is_new = state.map(String::as_str) != Some("NodeResizeInProgress");
        (self.news == News::Awaited && is_new).then(|| {
            let status = json!({"allocatedResourceStatuses": {STORAGE: "NodeResizeInProgress"}});
            versioned(claim, status)
        })
    }

    /// The patch of the claim's status when the volume has grown.
    #[must_use]
    pub fn ended(&self, claim: &PersistentVolumeClaim) -> Option<Value> {
        if self.news == News::Known {
            return None;
        }
        let deleted = conditions(claim).iter().filter(|it| RESIZE.contains(&it.type_.as_str()));
        let deleted: Vec<_> = deleted.map(|it| json!({"type": it.type_, "$patch": "delete"})).collect();
        let mut status = json!({
            "capacity": {STORAGE: self.size},
            "allocatedResourceStatuses": {STORAGE: null},
        });
        if !deleted.is_empty() {
            status["conditions"] = json!(deleted);
        }
        Some(versioned(claim, status))
    }
}

/// The patch of a claim's status when its volume did not grow; none where it is to be tried again untold.
#[must_use]
pub fn failed(claim: &PersistentVolumeClaim, failure: Failure, why: &str, now: Timestamp) -> Option<Value> {
    let known = conditions(claim).iter().find(|it| it.type_ == "NodeResizeError" && it.status == "True");
    let since = known.and_then(|it| it.last_transition_time.clone()).unwrap_or(Time(now));
    let condition = PersistentVolumeClaimCondition {
        type_: "NodeResizeError".into(),
        status: "True".into(),
        last_transition_time: Some(since),
        message: Some(format!("failed to expand pvc with {why}")),
        ..PersistentVolumeClaimCondition::default()
    };
    let mut status = json!({"conditions": [condition]});
    match failure {
        Failure::Transient => return None,
        Failure::Infeasible => {
            status["allocatedResourceStatuses"] = json!(BTreeMap::from([(STORAGE, "NodeResizeInfeasible")]));
        }
        Failure::InUse | Failure::Final => {}
    }
    Some(json!({"status": status}))
}

fn conditions(claim: &PersistentVolumeClaim) -> &[PersistentVolumeClaimCondition] {
    claim.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

/// Refused by the API when the claim has changed meanwhile.
fn versioned(claim: &PersistentVolumeClaim, status: Value) -> Value {
    json!({"metadata": {"resourceVersion": claim.metadata.resource_version}, "status": status})
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn claim(size: &str, state: Option<&str>, allocated: Option<&str>) -> PersistentVolumeClaim {
        let mut status = json!({"capacity": {"storage": size}, "conditions": [
            {"type": "FileSystemResizePending", "status": "True"}, {"type": "Other", "status": "True"}]});
        if let Some(state) = state {
            status["allocatedResourceStatuses"] = json!({"storage": state});
        }
        if let Some(allocated) = allocated {
            status["allocatedResources"] = json!({"storage": allocated});
        }
        serde_json::from_value(json!({"metadata": {"resourceVersion": "7"}, "status": status})).unwrap()
    }

    fn volume(size: &str) -> PersistentVolume {
        serde_json::from_value(json!({"spec": {"capacity": {"storage": size}}})).unwrap()
    }

    #[test]
    fn when_a_node_has_its_part_to_do() {
        let gi = 1 << 30;
        let two = Some("2Gi");
        let cases = [
            // The claim's size, what it waits for, what was allocated; the volume's size; the size here.
            (("1Gi", Some("NodeResizePending"), two), "2Gi", None, Some(News::Awaited)),
            (("1Gi", Some("NodeResizeInProgress"), two), "2Gi", Some(gi), Some(News::Awaited)),
            (("1Gi", None, None), "2Gi", None, Some(News::Unsaid)),
            (("1Gi", Some("ControllerResizeInProgress"), two), "2Gi", None, None),
            (("1Gi", Some("NodeResizeInfeasible"), two), "2Gi", None, None),
            (("2Gi", None, two), "2Gi", None, None),
            (("2Gi", None, two), "2Gi", Some(gi), Some(News::Known)),
            (("2Gi", None, two), "2Gi", Some(2 * gi), None),
            (("1Gi", None, None), "1Gi", None, None),
        ];
        for ((size, state, allocated), of_volume, here, expected) in cases {
            let found = growth(&claim(size, state, allocated), &volume(of_volume), here);
            assert_eq!(found.map(|it| it.news), expected, "{size} {state:?} {of_volume} {here:?}");
        }
    }

    #[test]
    fn what_the_claim_is_told() {
        let before = claim("1Gi", Some("NodeResizePending"), Some("2Gi"));
        let growth = growth(&before, &volume("2Gi"), None).unwrap();
        let begun = growth.begun(&before).unwrap();
        assert_eq!(
            begun,
            json!({"metadata": {"resourceVersion": "7"},
                "status": {"allocatedResourceStatuses": {"storage": "NodeResizeInProgress"}}})
        );
        let ended = growth.ended(&before).unwrap();
        assert_eq!(
            ended["status"],
            json!({"capacity": {"storage": "2Gi"}, "allocatedResourceStatuses": {"storage": null},
                "conditions": [{"type": "FileSystemResizePending", "$patch": "delete"}]})
        );
        let now = Timestamp::UNIX_EPOCH;
        let told = failed(&before, Failure::of(11), "why", now).unwrap();
        assert_eq!(told["status"]["allocatedResourceStatuses"]["storage"], "NodeResizeInfeasible");
        assert_eq!(told["status"]["conditions"][0]["type"], "NodeResizeError");
        assert_eq!(told["status"]["conditions"][0]["message"], "failed to expand pvc with why");
        assert!(
            failed(&before, Failure::of(13), "why", now).unwrap()["status"]["allocatedResourceStatuses"]
                .is_null()
        );
        assert_eq!(failed(&before, Failure::of(14), "why", now), None);
        assert_eq!(Failure::of(9), Failure::InUse);
    }
}
