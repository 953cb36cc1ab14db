//! Which kind a path names, and which of its objects a request selects.

use std::collections::BTreeMap;
use std::sync::Arc;

use plimsoll_catalogue::{Kind, Verb};
use plimsoll_meta::selector::{FieldRequirement, Fields, Labels};
use plimsoll_meta::status::Status;
use plimsoll_store::Entry;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::custom::Definition;
use crate::lean;
use crate::query::Query;
use crate::server::Api;
use crate::target::ResourcePath;

/// The kind that a path names, or the 404 that clients expect.
pub(crate) fn kind(api: &Api, path: &ResourcePath) -> Result<&'static Kind, Status> {
    plimsoll_catalogue::find(&path.group, &path.version, &path.resource)
        .or_else(|| api.customs.find(&path.group, &path.version, &path.resource))
        .ok_or_else(Status::no_such_path)
}

/// [`kind`] for somebody who may know more of definitions than has come to this server's picture of them.
pub(crate) async fn kind_in_time(api: &Api, path: &ResourcePath) -> Result<&'static Kind, Status> {
    if let Ok(kind) = kind(api, path) {
        return Ok(kind);
    }
    let custom = api.customs.find_in_time(&path.group, &path.version, &path.resource);
    custom.await.ok_or_else(Status::no_such_path)
}

/// Every kind that is served now, group by group in the order of discovery.
pub(crate) fn kinds(api: &Api) -> Vec<&'static Kind> {
    plimsoll_catalogue::kinds().iter().chain(api.customs.kinds()).collect()
}

/// Key prefix of a collection: the whole kind, or one namespace.
pub(crate) fn prefix(kind: &Kind, namespace: &str) -> Result<String, Status> {
    let plimsoll_catalogue::Storage::Stored { prefix, .. } = kind.storage else {
        return Err(Status::method_not_allowed(kind.group, kind.plural, Verb::List.name()));
    };
    let scope = kind.namespaced && !namespace.is_empty();
    Ok(if scope { format!("{prefix}/{namespace}/") } else { format!("{prefix}/") })
}

/// What selectors look at, read from an object once: names and values of labels, then of fields, one
/// after the other in one text, because there may be as many of these as there are objects.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    text: Box<str>,
    /// Where each name and value ends.
    ends: Box<[u32]>,
    /// How many of the pairs are labels.
    labels: usize,
}

impl Attributes {
    fn new(labels: &BTreeMap<String, String>, fields: &[(&'static str, String)]) -> Self {
        let (mut text, mut ends) = (String::new(), Vec::new());
        let labelled = labels.iter().map(|(name, value)| (name.as_str(), value));
        for (name, value) in labelled.chain(fields.iter().map(|(name, value)| (*name, value))) {
            for part in [name, value] {
                text.push_str(part);
                ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
            }
        }
        Self { text: text.into(), ends: ends.into(), labels: labels.len() }
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.find(0..self.labels, name)
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.find(self.labels..self.ends.len() / 2, name)
    }

    fn find(&self, mut pairs: std::ops::Range<usize>, name: &str) -> Option<&str> {
        pairs.find(|pair| self.part(2 * pair) == name).map(|pair| self.part(2 * pair + 1))
    }

    fn part(&self, at: usize) -> &str {
        let end = |at: usize| self.ends.get(at).map_or(0, |end| *end as usize);
        let start = at.checked_sub(1).map_or(0, end);
        self.text.get(start..end(at)).unwrap_or_default()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Labelled {
    metadata: LabelledMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LabelledMetadata {
    labels: BTreeMap<String, String>,
}

/// The attributes of a stored object, derived at most once per version.
fn attributes(kind: &'static Kind, entry: &Entry) -> Arc<Attributes> {
    entry.derived(|bytes| {
        let labels = serde_json::from_slice::<Labelled>(bytes).unwrap_or_default().metadata.labels;
        let kind = kind.storage_kind();
        let fields = match kind.strategy.fields(&json!({})).is_empty() {
            true => Vec::new(),
            false => kind.strategy.fields(&lean::object(bytes)),
        };
        Attributes::new(&labels, &fields)
    })
}

/// The objects that a request wants.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    labels: Labels,
    fields: Fields,
    custom: bool,
}

impl Selection {
    /// Reads `labelSelector` and `fieldSelector`; `name` narrows to one object.
    pub(crate) fn read(api: &Api, kind: &'static Kind, query: &Query, name: &str) -> Result<Self, Status> {
        let labels = Labels::parse(query.get("labelSelector")).map_err(Status::bad_request)?;
        let mut fields = Fields::parse(query.get("fieldSelector")).map_err(Status::bad_request)?;
        let mut known: Vec<String> = kind
            .storage_kind()
            .strategy
            .fields(&json!({}))
            .into_iter()
            .map(|(field, _)| field.to_owned())
            .collect();
        let definition = if kind.is_custom() { Some(api.customs.require(kind)?) } else { None };
        known.extend(definition.iter().flat_map(|definition| definition.selectable().iter().cloned()));
        for wanted in &mut fields.0 {
            if kind.kind == "Pod" && wanted.field == "spec.host" {
                // What the field was called once.
                wanted.field = "spec.nodeName".to_owned();
            }
            let common = matches!(wanted.field.as_str(), "metadata.name" | "metadata.namespace");
            if !common && !known.contains(&wanted.field) {
                return Err(Status::bad_request(unknown_field(kind, &wanted.field, known.is_empty())));
            }
        }
        if !name.is_empty() {
            if fields.0.iter().any(|one| one.field != "metadata.name" || !one.equal || one.value != name) {
                let message = "fieldSelector metadata.name doesn't match requested name";
                return Err(Status::bad_request(message));
            }
            fields.0 = vec![FieldRequirement {
                field: "metadata.name".to_owned(),
                value: name.to_owned(),
                equal: true,
            }];
        }
        Ok(Self { labels, fields, custom: definition.is_some() })
    }

    /// Does it select everything?
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// The one namespace that can match, if a selector says so.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.fields.exact("metadata.namespace").filter(|namespace| !namespace.contains('/'))
    }

    /// The one key that can match, if a selector says so; `namespace` is the request's.
    pub(crate) fn key(&self, kind: &Kind, namespace: &str) -> Option<String> {
        let name =
            self.fields.exact("metadata.name").filter(|name| !name.is_empty() && !name.contains('/'))?;
        (!kind.namespaced || !namespace.is_empty()).then(|| kind.key(namespace, name))?
    }

    /// Does it select this object?
    pub(crate) fn matches(&self, kind: &'static Kind, entry: &Entry) -> bool {
        if self.is_everything() {
            return true;
        }
        let (namespace, name) = key_parts(kind, &entry.key);
        let by_name =
            self.labels.is_everything() && self.fields.0.iter().all(|one| one.field.starts_with("metadata."));
        let found = if by_name { Arc::default() } else { attributes(kind, entry) };
        if self.custom && !self.fields.0.iter().all(|one| one.field.starts_with("metadata.")) {
            return self.matches_custom((namespace, name), entry)
                && self.labels.matches(|name| found.label(name));
        }
        let field = |wanted: &str| match wanted {
            "metadata.name" => Some(name),
            "metadata.namespace" => Some(namespace),
            _ => found.field(wanted),
        };
        self.fields.matches(field) && self.labels.matches(|name| found.label(name))
    }

    /// Do the fields that a definition makes selectable have the wanted values?
    fn matches_custom(&self, (namespace, name): (&str, &str), entry: &Entry) -> bool {
        let object: Value = serde_json::from_slice(&entry.value).unwrap_or_default();
        let values: Vec<(&str, String)> = self
            .fields
            .0
            .iter()
            .map(|one| match one.field.as_str() {
                field @ "metadata.name" => (field, name.to_owned()),
                field @ "metadata.namespace" => (field, namespace.to_owned()),
                field => (field, Definition::field(&object, field)),
            })
            .collect();
        let field =
            |wanted: &str| values.iter().find(|(field, _)| *field == wanted).map(|(_, value)| value.as_str());
        self.fields.matches(field)
    }
}

/// What upstream says about a field that cannot be selected by.
fn unknown_field(kind: &Kind, field: &str, has_none: bool) -> String {
    match kind.kind {
        "Job" => format!("field label {field:?} not supported for Job"),
        _ if has_none => {
            format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
        _ => format!("field label not supported: {field}"),
    }
}

/// The name that a field selector narrows a collection to: authorization takes it for the object's.
pub(crate) fn selected_name(query: &Query) -> Option<String> {
    let fields = Fields::parse(query.get("fieldSelector")).ok()?;
    let name = fields.exact("metadata.name")?;
    let is_segment = !name.contains(['/', '%']) && !matches!(name, "" | "." | "..");
    is_segment.then(|| name.to_owned())
}

/// Namespace and name of an object, from its key.
pub(crate) fn key_parts<'a>(kind: &Kind, key: &'a str) -> (&'a str, &'a str) {
    let mut parts = key.rsplit('/');
    let name = parts.next().unwrap_or_default();
    (if kind.namespaced { parts.next().unwrap_or_default() } else { "" }, name)
}

/// A stored object of a built-in kind in the version that was asked for.
pub(crate) fn served(kind: &'static Kind, entry: &Entry) -> Result<Value, Status> {
    Ok(plimsoll_catalogue::convert(kind.storage_kind(), kind, stored(entry)?))
}

/// An object as it is kept.
pub(crate) fn stored(entry: &Entry) -> Result<Value, Status> {
    serde_json::from_slice(&entry.value)
        .map_err(|error| Status::internal(format!("stored object {} is damaged: {error}", entry.key)))
}

/// [`served`] as bytes; the stored bytes themselves where they serve.
pub(crate) fn served_bytes(kind: &'static Kind, entry: &Entry) -> Result<bytes::Bytes, Status> {
    let storage = kind.storage_kind();
    if storage == kind {
        return Ok(entry.value.clone());
    }
    Ok(crate::encode::object(&served(kind, entry)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_by_name() {
        let labels = BTreeMap::from([("app".into(), "web".into()), ("tier".into(), String::new())]);
        let found =
            Attributes::new(&labels, &[("spec.nodeName", "n".into()), ("status.phase", "Running".into())]);
        assert_eq!(
            (found.label("app"), found.label("tier"), found.label("web")),
            (Some("web"), Some(""), None)
        );
        assert_eq!((found.field("spec.nodeName"), found.field("status.phase")), (Some("n"), Some("Running")));
        assert_eq!((found.label("status.phase"), found.field("app")), (None, None));
        assert_eq!(Attributes::default().label("app"), None);
    }
}
