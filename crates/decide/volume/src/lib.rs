//! Which volume suits a claim.
//!
//! What enters are claims, volumes, classes and pods as the API has them; what leaves is what they say,
//! which volume matches a claim, and where a claim may be provisioned. The binder and the scheduler
//! decide by the same rules, so that neither undoes what the other did.

pub mod annotation;
mod claim;
mod class;
pub mod local;
mod matching;
mod pod;
#[cfg(test)]
mod testing;
mod volume;

pub use claim::{claim_attributes, claim_class, claim_phase, has_class, is_bound, modes, requested};
pub use class::{default_class, delays, is_default};
pub use matching::{Seeker, find, satisfies};
pub use pod::{claim_name, claims_of, is_for_pod};
pub use volume::{
    annotated, bound_to, capacity, is_local, provisioned_by, reclaim_policy, same_mode, volume_attributes,
    volume_class, volume_phase,
};
