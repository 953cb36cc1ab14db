//! Server-side apply: a client says what it wants of an object, and owns what it said.

mod last_applied;
mod prune;

use serde_json::{Map, Value};

use crate::check::mistakes;
use crate::combine::combine;
use crate::compare::{compare, never_owned};
use crate::fields::field_set;
use crate::managed::{Entry, Operation, Writer, excluding, fields_of, put_fields, take_fields};
use crate::paths::{Element, Set};
use crate::{ApplyError, Conflict, Typed};

/// Owner of what was in an object before anybody tracked it.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// A configuration to apply.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The fields the client cares about, with apiVersion, kind and name.
    pub config: &'a Value,
    /// Who applies.
    pub writer: Writer<'a>,
    /// Take over fields that others own with another value.
    pub force: bool,
}

/// Applies `request.config` to `live` (none creates the object) and returns the object with
/// its managedFields. `ignored` are the fields that this endpoint resets.
///
/// Fields that this manager applied before and no longer sends are removed unless someone else
/// owns them. An apply that changes nothing returns `live` as it is.
///
/// # Errors
/// [`ApplyError::Conflicts`] unless forced; the other variants if the configuration is unfit.
pub fn apply(
    live: Option<&Value>,
    request: &Request<'_>,
    typed: Typed<'_>,
    ignored: &Set,
) -> Result<Value, ApplyError> {
    check(request, typed)?;
    let mut applied = match attempt(live, request, typed, ignored) {
        Err(ApplyError::Conflicts(conflicts)) => {
            last_applied::settle(live, conflicts, request, typed, ignored)?
        }
        other => other?,
    };
    last_applied::refresh(&mut applied, request);
    Ok(applied)
}

fn check(request: &Request<'_>, typed: Typed<'_>) -> Result<(), ApplyError> {
    let (config, expected) = (request.config, request.writer.api_version);
    let version = config["apiVersion"].as_str().unwrap_or_default();
    if !config.is_object() || version != expected {
        return Err(ApplyError::Unfit(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {expected}"
        )));
    }
    if fields_of(config).is_some() {
        return Err(ApplyError::Unfit("metadata.managedFields must be nil".into()));
    }
    let mistakes = mistakes(config, typed);
    if mistakes.is_empty() { Ok(()) } else { Err(ApplyError::Mistyped { object: shown(config), mistakes }) }
}

/// `default/web; apps/v1, Kind=Deployment`.
fn shown(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (metadata, version) = (&object["metadata"], text(&object["apiVersion"]));
    let version = if version.contains('/') { version } else { format!("/{version}") };
    format!(
        "{}/{}; {version}, Kind={}",
        text(&metadata["namespace"]),
        text(&metadata["name"]),
        text(&object["kind"])
    )
}

fn attempt(
    live: Option<&Value>,
    request: &Request<'_>,
    typed: Typed<'_>,
    ignored: &Set,
) -> Result<Value, ApplyError> {
    let writer = &request.writer;
    let mut base = live.cloned().unwrap_or_else(|| Value::Object(Map::new()));
    let stored = take_fields(&mut base);
    let mut entries = stored.and_then(|stored| Entry::trust(stored).ok()).unwrap_or_default();
    if entries.is_empty() && live.is_some() {
        entries.extend(owner_of_all(&base, writer, typed));
    }
    let set = field_set(request.config, typed).without(ignored);
    let mine =
        entries.iter().position(|entry| entry.is_of(writer, Operation::Apply)).map(|at| entries.remove(at));
    let last = mine.as_ref().map(|entry| Set::decode(&entry.fields)).unwrap_or_default();

    let merged = combine(&base, request.config, typed);
    let owned = entries.iter().fold(set.clone(), |all, entry| all.union(&Set::decode(&entry.fields)));
    let wanted = prune::prune(merged, &last, &set, &owned, typed);

    let comparison = excluding(compare(live.map(|_| &base), &wanted, typed), ignored);
    if !request.force {
        conflicts(&entries, &comparison.changed)?;
    }
    for entry in &mut entries {
        entry.release(&comparison.removed, &comparison.changed);
    }
    entries.retain(|entry| !entry.is_empty());

    let unchanged = live.is_some() && comparison.changed.is_empty() && comparison.removed.is_empty();
    entries.extend(applier(mine, &set, writer, unchanged));
    let mut object = if unchanged { base } else { wanted };
    put_fields(&mut object, entries);
    Ok(object)
}

/// The applying manager's entry; its time moves only if it or the object changed.
fn applier(mine: Option<Entry>, set: &Set, writer: &Writer<'_>, unchanged: bool) -> Option<Entry> {
    let fields = set.difference(&never_owned()).encode();
    let fresh = Entry { fields, ..Entry::new(writer, Operation::Apply) };
    let time = match mine {
        Some(mine) if unchanged && mine.fields == fresh.fields && mine.api_version == fresh.api_version => {
            mine.time
        }
        _ => Some(writer.now.to_owned()),
    };
    Some(Entry { time, ..fresh }).filter(|entry| !entry.is_empty())
}

fn owner_of_all(base: &Value, writer: &Writer<'_>, typed: Typed<'_>) -> Option<Entry> {
    let all = compare(None, base, typed).changed;
    let writer = Writer { manager: BEFORE_FIRST_APPLY, ..*writer };
    let entry = Entry {
        fields: all.encode(),
        time: Some(writer.now.to_owned()),
        ..Entry::new(&writer, Operation::Update)
    };
    Some(entry).filter(|entry| !entry.is_empty())
}

fn conflicts(entries: &[Entry], changed: &Set) -> Result<(), ApplyError> {
    let mut found = Vec::new();
    for entry in entries {
        let manager = entry.shown();
        Set::decode(&entry.fields).intersection(changed).visit(&mut |path| {
            let steps: Vec<Element> = path.iter().map(|element| (*element).clone()).collect();
            found.push(Conflict::new(&manager, steps));
        });
    }
    if found.is_empty() {
        return Ok(());
    }
    found.sort_by(|a, b| a.manager.cmp(&b.manager));
    Err(ApplyError::Conflicts(found))
}

#[cfg(test)]
mod tests;
