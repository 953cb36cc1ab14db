//! Rules that single kinds add to the generic path.

use serde_json::Value;

use plimsoll_meta::field::FieldError;

/// What a kind does in its own way; each part has a default that does nothing.
///
/// Values passed in have the types of the schema, yet no method may panic on odd ones.
/// [`crate::Kind`] calls these after its own share of the work (status, generation, metadata).
pub trait Strategy: Sync {
    /// Fills in what the object leaves open.
    fn default(&self, _object: &mut Value) {}

    /// Brings a new object into its first state. Status and generation are done already.
    fn prepare_create(&self, _object: &mut Value) {}

    /// New objects may bring a status; else they start with an empty one.
    fn keeps_status_on_create(&self) -> bool {
        false
    }

    /// Keeps what a request may not change. `status` is done already.
    fn prepare_update(&self, _new: &mut Value, _old: &Value, _subresource: Option<&str>) {}

    /// Whether a change outside of the fields that the row names is a new generation, too.
    fn counts_generation(&self, _new: &Value, _old: &Value) -> bool {
        false
    }

    /// Writes to `status` cannot change labels.
    fn status_keeps_metadata(&self) -> bool {
        false
    }

    /// What is wrong with the object outside of its metadata.
    fn validate(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// What is wrong with the change from `old` to `new` outside of metadata. Without a
    /// subresource the new object is checked as if it were created.
    fn validate_update(&self, new: &Value, _old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        if subresource.is_none() { self.validate(new) } else { Vec::new() }
    }

    /// Fields for field selectors beside `metadata.name` and `metadata.namespace`.
    fn fields(&self, _object: &Value) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// How long a deletion waits for the object's end.
    fn graceful(&self, _object: &Value, _requested: Option<i64>) -> Grace {
        Grace::Immediate
    }

    /// What clients should know about an object that is accepted.
    fn warnings(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// `conditions` of the object's table row, as `meta.k8s.io` TableRowCondition.
    fn row_conditions(&self, _object: &Value) -> Vec<Value> {
        Vec::new()
    }
}

/// How a deletion goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// The object goes at once (finalizers aside).
    Immediate,
    /// The object is marked with this `deletionGracePeriodSeconds` and stays until its owner
    /// deletes it with a grace period of 0.
    Seconds(i64),
}

/// A kind without rules of its own.
pub(crate) struct Plain;

impl Strategy for Plain {}
