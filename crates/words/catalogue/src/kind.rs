//! The row that describes one kind.

use jiff::Timestamp;
use serde_json::{Map, Value};

use plimsoll_meta::field::FieldError;

use crate::access;
use crate::column::{self, Column};
use crate::names::{self, NameRule};
use crate::object_meta;
use crate::strategy::{Plain, Strategy};
use crate::verbs::{Verb, Verbs};
use crate::warnings;

/// Everything that the generic API path knows about one kind of one group version.
#[derive(Clone, Copy)]
pub struct Kind {
    /// API group, empty for the core group.
    pub group: &'static str,
    /// Version within the group, for example `v1`.
    pub version: &'static str,
    /// Name as manifests write it.
    pub kind: &'static str,
    /// Name of the list kind; empty when it is the kind's with `List` behind it.
    pub list_kind: &'static str,
    /// Lower case plural that paths use.
    pub plural: &'static str,
    /// Lower case singular.
    pub singular: &'static str,
    /// Abbreviations that kubectl accepts.
    pub short_names: &'static [&'static str],
    /// Groups of kinds such as `all`.
    pub categories: &'static [&'static str],
    /// Lives in a namespace.
    pub namespaced: bool,
    /// What the collection and its objects offer.
    pub verbs: Verbs,
    /// What is offered below an object.
    pub subresources: &'static [Subresource],
    /// Key of the schema, for example `io.k8s.api.core.v1.Pod`.
    pub definition: &'static str,
    /// Where objects are kept.
    pub storage: Storage,
    /// The table that `kubectl get` prints.
    pub columns: &'static [Column],
    /// Which names are allowed.
    pub name_rule: NameRule,
    /// What everyone who asks for it is warned of; empty where there is nothing.
    pub deprecation: &'static str,
    /// What counts as a new generation of the object.
    pub generation: Generation,
    /// A PUT to a name that does not exist creates the object.
    pub create_on_update: bool,
    /// Updates without a resourceVersion are allowed.
    pub unconditional_update: bool,
    /// Rules of its own.
    pub strategy: &'static dyn Strategy,
}

/// A path below an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// Last path segment.
    pub name: &'static str,
    /// What it offers.
    pub verbs: Verbs,
    /// Group of the kind it speaks, empty when it is the parent's group version.
    pub group: &'static str,
    /// Version of the kind it speaks, empty when it is the parent's group version.
    pub version: &'static str,
    /// Kind of the bodies it reads and writes.
    pub kind: &'static str,
}

/// Where the objects of a kind live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Under a key prefix, followed by `/NAMESPACE/NAME` or `/NAME`.
    Stored {
        /// Upstream's prefix, for example `/registry/pods`.
        prefix: &'static str,
        /// Group of the stored form.
        group: &'static str,
        /// Version of the stored form.
        version: &'static str,
    },
    /// Nowhere: the answer is computed for each request.
    Virtual,
}

/// What makes `metadata.generation` count up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The kind has no generation.
    None,
    /// Nothing: it stays 1.
    First,
    /// Any change of `spec`.
    Spec,
    /// Any change outside `metadata` and `status`.
    Content,
}

impl Kind {
    /// A stored, namespaced kind without rules of its own; rows change what differs.
    pub(crate) const BASE: Kind = Kind {
        group: "",
        version: "v1",
        kind: "",
        list_kind: "",
        plural: "",
        singular: "",
        short_names: &[],
        categories: &[],
        namespaced: true,
        verbs: Verbs::STANDARD,
        subresources: &[],
        definition: "",
        storage: Storage::Virtual,
        columns: column::DEFAULT,
        name_rule: names::dns_subdomain,
        deprecation: "",
        generation: Generation::None,
        create_on_update: false,
        unconditional_update: true,
        strategy: &Plain,
    };

    /// The row of a kind that users define; it has no built-in schema.
    pub const CUSTOM: Kind =
        Kind { generation: Generation::Content, unconditional_update: false, ..Kind::BASE };

    /// Defined by users, not by this catalogue.
    pub fn is_custom(&self) -> bool {
        self.definition.is_empty()
    }

    /// `v1` or `GROUP/VERSION`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// What clients should know about an object that is accepted, new or in place of `old`.
    pub fn warnings(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut told = self.strategy.warnings(object);
        if !self.is_custom() {
            told.extend(warnings::of(self, object, old));
        }
        told
    }

    /// Name of the list kind.
    pub fn list_kind(&self) -> String {
        if self.list_kind.is_empty() { format!("{}List", self.kind) } else { self.list_kind.to_owned() }
    }

    /// Kept in the store.
    pub fn is_stored(&self) -> bool {
        matches!(self.storage, Storage::Stored { .. })
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// Whether status is written through a subresource of its own.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// The row whose form is kept in the store (this one, unless built-in versions share a storage).
    pub fn storage_kind(&'static self) -> &'static Kind {
        match self.storage {
            Storage::Stored { group, version, .. }
                if !self.is_custom() && (group, version) != (self.group, self.version) =>
            {
                crate::by_kind(group, version, self.kind)
                    .expect("a test checks that each storage version has a row")
            }
            _ => self,
        }
    }

    /// Store key of an object: the prefix, the namespace if there is one, the name.
    pub fn key(&self, namespace: &str, name: &str) -> Option<String> {
        let Storage::Stored { prefix, .. } = self.storage else { return None };
        Some(match self.namespaced {
            true => format!("{prefix}/{namespace}/{name}"),
            false => format!("{prefix}/{name}"),
        })
    }

    /// Fills in what the object leaves open.
    pub fn default(&self, object: &mut Value) {
        self.strategy.default(object);
    }

    /// Brings a new object into its first state: no status from the client, generation 1.
    pub fn prepare_create(&self, object: &mut Value) {
        let Some(map) = object.as_object_mut() else { return };
        if self.has_status() && self.is_custom() {
            map.remove("status");
        } else if self.has_status() && !self.strategy.keeps_status_on_create() {
            map.insert("status".to_owned(), Value::Object(Map::new()));
        }
        match self.generation {
            Generation::None => drop(metadata(map).remove("generation")),
            Generation::First | Generation::Spec | Generation::Content => {
                drop(metadata(map).insert("generation".to_owned(), 1.into()))
            }
        }
        self.strategy.prepare_create(object);
    }

    /// Keeps what this request may not change, and counts the generation.
    pub fn prepare_update(&self, new: &mut Value, old: &Value, subresource: Option<&str>) {
        let (Some(map), Some(before)) = (new.as_object_mut(), old.as_object()) else { return };
        match subresource {
            None if self.has_status() => copy_key(map, before, "status"),
            Some("status") => {
                keep_all_but_status(map, before, self.strategy.status_keeps_metadata());
                if self.is_custom() {
                    keep_metadata(map, before);
                }
            }
            _ => {}
        }
        keep_generation(map, before);
        self.strategy.prepare_update(new, old, subresource);
        // A pod's node is the scheduler's answer, no new wish.
        if self.generation != Generation::None && !matches!(subresource, Some("status" | "binding")) {
            self.count_generation(new, old);
        }
    }

    fn count_generation(&self, new: &mut Value, old: &Value) {
        let changed = match self.generation {
            Generation::None | Generation::First => false,
            Generation::Spec => !access::same(new.get("spec"), old.get("spec")),
            Generation::Content => {
                let with_status = self.is_custom() && !self.has_status();
                !access::same(Some(&content(new, with_status)), Some(&content(old, with_status)))
            }
        } || self.strategy.counts_generation(new, old);
        let before = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
        if let (true, Some(map)) = (changed, new.as_object_mut()) {
            metadata(map).insert("generation".to_owned(), (before + 1).into());
        }
    }

    /// Everything that is wrong with a new object, metadata included; custom resources have schemas besides.
    pub fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = object_meta::validate(self, object);
        errors.extend(object_meta::check_finalizer_names(self, object));
        errors.extend(self.strategy.validate(object));
        errors
    }

    /// Everything that is wrong with a change, metadata included. Fields that a subresource
    /// keeps as they are were put back by [`Kind::prepare_update`].
    pub fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        let mut errors = object_meta::validate_update(new, old);
        errors.extend(object_meta::check_finalizer_names(self, new));
        errors.extend(self.strategy.validate_update(new, old, subresource));
        errors
    }

    /// The cells of one table row, in the order of [`Kind::columns`].
    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        self.columns.iter().map(|column| (column.cell)(object, now)).collect()
    }

    /// Top level fields that a write through this path can never change; server-side apply
    /// keeps them out of the writer's ownership.
    pub fn reset_fields(&self, subresource: Option<&str>) -> &'static [&'static str] {
        match subresource {
            Some("status") => &["spec"],
            None if self.has_status() => &["status"],
            _ => &[],
        }
    }

    /// Whether the verb is offered on the kind or on the named subresource.
    pub fn allows(&self, verb: Verb, subresource: Option<&str>) -> bool {
        match subresource {
            None => self.verbs.contains(verb),
            Some(name) => self.subresource(name).is_some_and(|sub| sub.verbs.contains(verb)),
        }
    }
}

impl Subresource {
    /// `status`: the whole object, of which only the status is written.
    pub const fn status(kind: &'static str) -> Subresource {
        Subresource::view("status", kind)
    }

    /// `scale`: replicas as `autoscaling/v1` Scale.
    pub const SCALE: Subresource =
        Subresource { name: "scale", verbs: Verbs::VIEW, group: "autoscaling", version: "v1", kind: "Scale" };

    /// A view of the whole object.
    pub(crate) const fn view(name: &'static str, kind: &'static str) -> Subresource {
        Subresource { name, verbs: Verbs::VIEW, group: "", version: "", kind }
    }

    /// A connection, opened with GET or POST.
    pub(crate) const fn connect(name: &'static str, kind: &'static str) -> Subresource {
        Subresource { name, verbs: Verbs::of(&[Verb::Create, Verb::Get]), group: "", version: "", kind }
    }

    /// A reverse proxy.
    pub(crate) const fn proxy(kind: &'static str) -> Subresource {
        let verbs = Verbs::of(&[Verb::Create, Verb::Delete, Verb::Get, Verb::Patch, Verb::Update]);
        Subresource { name: "proxy", verbs, group: "", version: "", kind }
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}, Kind={}", self.api_version(), self.kind)
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Kind) -> bool {
        (self.group, self.version, self.plural) == (other.group, other.version, other.plural)
    }
}

impl Eq for Kind {}

fn metadata(object: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let entry = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !entry.is_object() {
        *entry = Value::Object(Map::new());
    }
    entry.as_object_mut().expect("made an object above")
}

/// Gives `key` the value it had before, or takes it away if it had none.
fn copy_key(new: &mut Map<String, Value>, old: &Map<String, Value>, key: &str) {
    match old.get(key) {
        Some(value) => drop(new.insert(key.to_owned(), value.clone())),
        None => drop(new.remove(key)),
    }
}

fn keep_all_but_status(new: &mut Map<String, Value>, old: &Map<String, Value>, metadata_too: bool) {
    let status = new.remove("status");
    let meta = new.remove("metadata");
    let (api_version, kind) = (new.remove("apiVersion"), new.remove("kind"));
    *new = old.clone();
    for (key, value) in [("status", status), ("apiVersion", api_version), ("kind", kind)] {
        match value {
            Some(value) => drop(new.insert(key.to_owned(), value)),
            None => drop(new.remove(key)),
        }
    }
    if let Some(mut meta) = meta {
        if let (true, Some(map), Some(before)) =
            (metadata_too, meta.as_object_mut(), old.get("metadata").and_then(Value::as_object))
        {
            copy_key(map, before, "labels");
        }
        new.insert("metadata".to_owned(), meta);
    }
}

/// Of the metadata of a custom resource, writes to status change who owns the status.
fn keep_metadata(new: &mut Map<String, Value>, old: &Map<String, Value>) {
    let owners = new.get("metadata").and_then(|meta| meta.get("managedFields")).cloned();
    copy_key(new, old, "metadata");
    let meta = metadata(new);
    match owners {
        Some(owners) => drop(meta.insert("managedFields".to_owned(), owners)),
        None => drop(meta.remove("managedFields")),
    }
}

fn keep_generation(new: &mut Map<String, Value>, old: &Map<String, Value>) {
    let before = old.get("metadata").and_then(|meta| meta.get("generation")).cloned();
    let meta = metadata(new);
    match before {
        Some(value) => drop(meta.insert("generation".to_owned(), value)),
        None => drop(meta.remove("generation")),
    }
}

/// Everything but metadata and, where it is written apart, status.
fn content(object: &Value, with_status: bool) -> Value {
    let skip =
        |key: &str| matches!(key, "metadata" | "apiVersion" | "kind") || (key == "status" && !with_status);
    let entries = object.as_object().into_iter().flatten().filter(|(key, _)| !skip(key));
    Value::Object(entries.map(|(key, value)| (key.clone(), value.clone())).collect())
}
