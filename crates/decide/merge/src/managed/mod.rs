//! `metadata.managedFields`: who owns which fields, kept up to date on every write.

mod entry;
mod scale;

use serde_json::{Map, Value};

use crate::Typed;
use crate::compare::{Comparison, compare};
use crate::paths::{Set, covers, touches};
pub(crate) use entry::{Entry, Operation, encode};
pub use scale::{from_scale, of_scale};

/// Most entries of operation Update; older ones become one (upstream: DefaultMaxUpdateManagers).
const MAX_UPDATE_MANAGERS: usize = 10;

/// Name of the entry that older ones are merged into.
const ANCIENT: &str = "ancient-changes";

/// Who writes, and through what.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// `fieldManager` of the request, or the first part of its user agent.
    pub manager: &'a str,
    /// The version the request speaks, for example `apps/v1`.
    pub api_version: &'a str,
    /// For example `status`; empty for the object itself.
    pub subresource: &'a str,
    /// RFC 3339 in UTC with whole seconds.
    pub now: &'a str,
}

/// Brings `new`'s managedFields up to date after a create (`old` is none), update or patch that
/// is no apply. `ignored` are the fields that this endpoint resets (`status` of the object
/// itself, for example).
///
/// Fields that changed belong to the writer from now on and to nobody else; fields that are gone
/// belong to nobody. An update that changes nothing leaves managedFields as they were.
pub fn track(old: Option<&Value>, new: &mut Value, writer: &Writer<'_>, typed: Typed<'_>, ignored: &Set) {
    let before = old.and_then(fields_of);
    let sent = take_fields(new);
    let Some(mut entries) = choose(before, sent, writer) else { return };
    if entries.is_empty() && old.is_some_and(has_uid) {
        // Never tracked: ownership starts with the first apply.
        return;
    }
    let comparison = excluding(compare(old, new, typed), ignored);
    update(&mut entries, &comparison, writer);
    put_fields(new, entries);
}

/// The entries to start from; none if the client asks to forget them.
fn choose(before: Option<&Value>, sent: Option<Value>, writer: &Writer<'_>) -> Option<Vec<Entry>> {
    if writer.subresource.is_empty()
        && let Some(sent) = sent
    {
        if is_reset(&sent) {
            return None;
        }
        // What the server wrote is trusted to be canonical; anything else is read anew.
        let entries = if Some(&sent) == before { Entry::trust(sent) } else { Entry::read(&sent) };
        if let Ok(entries) = entries
            && !entries.is_empty()
        {
            return Some(entries);
        }
    }
    Some(before.and_then(|before| Entry::trust(before.clone()).ok()).unwrap_or_default())
}

fn is_reset(sent: &Value) -> bool {
    match sent.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([Value::Object(only)]) => only.values().all(Value::is_null),
        _ => false,
    }
}

fn update(entries: &mut Vec<Entry>, comparison: &Comparison, writer: &Writer<'_>) {
    let Comparison { changed, removed } = comparison;
    if changed.is_empty() && removed.is_empty() {
        return;
    }
    let mine = entries.iter().position(|entry| entry.is_of(writer, Operation::Update));
    for (at, entry) in entries.iter_mut().enumerate() {
        if Some(at) == mine {
            entry.release(removed, &Set::EMPTY);
        } else {
            entry.release(removed, changed);
        }
    }
    if !changed.is_empty() {
        let at = mine.unwrap_or_else(|| {
            entries.push(Entry::new(writer, Operation::Update));
            entries.len() - 1
        });
        entries[at].acquire(changed, writer.now);
    }
    entries.retain(|entry| !entry.is_empty());
    cap(entries);
}

impl Entry {
    /// Gives up the paths of both sets.
    pub(crate) fn release(&mut self, removed: &Set, taken: &Set) {
        if touches(&self.fields, removed) || touches(&self.fields, taken) {
            self.fields = Set::decode(&self.fields).difference(removed).difference(taken).encode();
        }
    }

    fn acquire(&mut self, changed: &Set, now: &str) {
        if !covers(&self.fields, changed) {
            self.fields = Set::decode(&self.fields).union(changed).encode();
        }
        self.time = Some(now.to_owned());
    }
}

/// Merges the oldest Update entries, one bucket for each API version, until few are left.
fn cap(entries: &mut Vec<Entry>) {
    let mut surplus = entries
        .iter()
        .filter(|entry| entry.operation == Operation::Update)
        .count()
        .saturating_sub(MAX_UPDATE_MANAGERS);
    if surplus == 0 {
        return;
    }
    let mut updates: Vec<Entry> = Vec::new();
    let mut others: Vec<Entry> = Vec::new();
    for entry in entries.drain(..) {
        if entry.operation == Operation::Update { updates.push(entry) } else { others.push(entry) }
    }
    updates.sort_by(|a, b| (&a.time, &a.manager).cmp(&(&b.time, &b.manager)));
    let mut kept: Vec<Entry> = Vec::new();
    for entry in updates {
        match kept.iter_mut().find(|first| surplus > 0 && first.api_version == entry.api_version) {
            None => kept.push(entry),
            Some(bucket) => {
                let fields = Set::decode(&bucket.fields).union(&Set::decode(&entry.fields)).encode();
                ANCIENT.clone_into(&mut bucket.manager);
                bucket.subresource.clear();
                bucket.fields = fields;
                bucket.time = entry.time;
                surplus -= 1;
            }
        }
    }
    others.append(&mut kept);
    *entries = others;
}

/// A comparison without the fields that the endpoint resets.
pub(crate) fn excluding(comparison: Comparison, ignored: &Set) -> Comparison {
    if ignored.is_empty() {
        return comparison;
    }
    Comparison { changed: comparison.changed.without(ignored), removed: comparison.removed.without(ignored) }
}

/// The managedFields of an object.
pub(crate) fn fields_of(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields").filter(|fields| !fields.is_null())
}

/// Takes the managedFields out of an object.
pub(crate) fn take_fields(object: &mut Value) -> Option<Value> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    metadata.remove("managedFields").filter(|fields| !fields.is_null())
}

/// Writes managedFields into an object.
pub(crate) fn put_fields(object: &mut Value, entries: Vec<Entry>) {
    if entries.is_empty() {
        return;
    }
    let Value::Object(object) = object else { return };
    let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(metadata) = metadata {
        metadata.insert("managedFields".to_owned(), encode(entries));
    }
}

fn has_uid(object: &Value) -> bool {
    object["metadata"]["uid"].as_str().is_some_and(|uid| !uid.is_empty())
}

#[cfg(test)]
mod tests;
