//! Removing what a manager applied before and no longer sends.

use serde_json::Value;

use crate::Typed;
use crate::fields::{field_set, with_named_fields};
use crate::paths::Set;
use crate::remove::remove;

/// `merged` without the paths of `last` that nobody owns any more. `set` is what the manager
/// sends now, `owned` everything that anyone owns including `set`.
pub(super) fn prune(merged: Value, last: &Set, set: &Set, owned: &Set, typed: Typed<'_>) -> Value {
    if last.difference(set).is_empty() {
        return merged;
    }
    let named = |set: &Set| with_named_fields(set, typed);
    let all = named(&field_set(&merged, typed));
    let (last, owned) = (named(last), named(owned));
    let without = |gone: &Set| remove(merged.clone(), gone, typed).unwrap_or_default();
    let left = |value: &Value| named(&field_set(value, typed));

    // Everything of the last configuration goes, with what hangs below it…
    let stripped = left(&without(&last));
    // …except what someone owns…
    let kept = without(&all.difference(&stripped).difference(&owned));
    // …and what was never this manager's: it only hung below.
    without(&all.difference(&left(&kept)).intersection(&last))
}
