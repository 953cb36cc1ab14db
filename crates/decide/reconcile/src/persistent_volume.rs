//! Claims and volumes are bound to each other, and volumes reclaimed
//! (kube-controller-manager: pkg/controller/volume/persistentvolume/pv_controller.go, v1.37).
//!
//! A binding is written in four steps, so that it can be carried on after any of them: the volume names
//! the claim, the volume's phase, the claim names the volume, the claim's phase.

mod claim;
mod volume;
mod write;

pub use claim::{Claim, decide as decide_claim};
pub use volume::{Volume, decide as decide_volume, settled};

#[cfg(test)]
mod tests;
