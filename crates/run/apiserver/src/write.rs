//! Writing: create, update, patch and apply, one path for all of them.
//!
//! Create: decode → default → own → admit (mutate) → prepare → validate → admit (validate) → commit.
//! Everything else: read → change → the same, again from the start when someone else was quicker.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use jiff::Timestamp;
use plimsoll_catalogue::{Kind, Verb};
use plimsoll_meta::field::FieldError;
use plimsoll_meta::status::Status;
use plimsoll_store::{Change, Entry, Expect, StoreError};
use plimsoll_structural::check;
use serde_json::Value;

use crate::admit::Operation;
use crate::admit::chain;
use crate::custom;
use crate::decode::{self, Expected, FieldValidation};
use crate::encode;
use crate::metrics::Stored;
use crate::object::{self, finished, meta};
use crate::present;
use crate::query::Query;
use crate::quota;
use crate::server::Api;
use crate::shape::Shape;
use crate::user::User;
use crate::warning::Warnings;
use plimsoll_document::Duplicates;

/// The field manager of what the server writes of its own accord.
pub(crate) const MANAGER: &str = "plimsoll";
/// How often a write that meets another write is tried again.
const ATTEMPTS: usize = 10;
/// How often another random name is tried when one is taken.
const NAME_ATTEMPTS: usize = 8;
/// Events vanish after this time, as upstream's `--event-ttl`.
const EVENT_TTL: std::time::Duration = std::time::Duration::from_secs(3600);

/// One write: who, what and how.
#[derive(Debug)]
pub(crate) struct Write<'a> {
    pub(crate) api: &'a Api,
    pub(crate) user: &'a User,
    pub(crate) kind: &'static Kind,
    /// The kind's schema for the whole of this request.
    pub(crate) shape: Shape,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    pub(crate) subresource: Option<&'a str>,
    /// Field manager.
    pub(crate) manager: String,
    pub(crate) dry_run: bool,
    pub(crate) validation: FieldValidation,
    pub(crate) now: Timestamp,
    /// Fields that the body gave twice, until they are reported.
    pub(crate) duplicates: Duplicates,
    /// Told to the client in Warning headers.
    pub(crate) warnings: Warnings,
    /// How webhooks and policies see it.
    pub(crate) judged: Judged<'a>,
    /// The options that the client gave, if there is one.
    pub(crate) query: Option<&'a Query>,
}

/// How webhooks and policies see a write.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Judged<'a> {
    /// As the object that is written.
    Object,
    /// As another object, which is a view of it.
    View(&'a dyn View),
    /// They have judged the action that it is a part of, or must not judge it.
    Before,
}

/// An object that stands for a part of another, as a Scale does.
pub(crate) trait View: std::fmt::Debug + Sync {
    /// The view of an object.
    fn show(&self, object: &Value) -> Value;

    /// Makes the object what the changed view says.
    fn take(&self, object: &mut Value, view: &Value);
}

/// The outcome of a write: the object in the version that was asked for.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) bytes: Bytes,
    /// It did not exist before.
    pub(crate) created: bool,
}

/// Who owns the fields that a write changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// The writer, by comparison with the state before.
    Track,
    /// Server-side apply has worked it out already.
    Applied,
}

/// A change of the present state into the wanted one.
pub(crate) struct Proposal {
    pub(crate) object: Value,
    pub(crate) ownership: Ownership,
}

impl<'a> Write<'a> {
    /// A write of the server's own; `user` is [`User::server`].
    pub(crate) fn of_server(
        api: &'a Api,
        user: &'a User,
        kind: &'static Kind,
        namespace: &'a str,
        name: &'a str,
    ) -> Result<Self, Status> {
        Ok(Self {
            api,
            user,
            kind,
            shape: Shape::of(api, kind)?,
            namespace,
            name,
            subresource: None,
            manager: MANAGER.to_owned(),
            dry_run: false,
            validation: FieldValidation::Strict,
            now: Timestamp::now(),
            duplicates: Duplicates::default(),
            warnings: Warnings::default(),
            judged: Judged::Before,
            query: None,
        })
    }
}

impl Write<'_> {
    /// POST: a new object.
    pub(crate) async fn create(&mut self, object: Value) -> Result<Written, Status> {
        self.create_proposed(Proposal { object, ownership: Ownership::Track }).await
    }

    /// Creates an object with fields owned as proposed.
    pub(crate) async fn create_proposed(&mut self, proposal: Proposal) -> Result<Written, Status> {
        let Proposal { mut object, ownership } = proposal;
        self.check_type(&mut object)?;
        // Dry runs are not stored, and nobody else looks at the version.
        let version = meta(&object, "resourceVersion").parse::<u64>();
        if version.is_ok_and(|version| version > 0) && !self.dry_run {
            return Err(Status::unnamed("resourceVersion should not be set on objects to be created"));
        }
        for attempt in 1.. {
            match self.create_once(object.clone(), ownership).await {
                Err(Refused::Other(status))
                    if status.reason == "AlreadyExists"
                        && meta(&object, "name").is_empty()
                        && attempt < NAME_ATTEMPTS => {}
                Err(Refused::Claimed) if attempt < NAME_ATTEMPTS => {}
                outcome => return outcome.map_err(|refused| self.refusal(refused)),
            }
        }
        unreachable!("the loop returns")
    }

    /// What a client is told when somebody else was quicker, again and again.
    fn refusal(&self, refused: Refused) -> Status {
        match refused {
            Refused::Other(status) => status,
            Refused::Taken | Refused::Claimed => {
                Status::modified(self.kind.group, self.kind.plural, self.name)
            }
        }
    }

    async fn create_once(&mut self, mut object: Value, ownership: Ownership) -> Result<Written, Refused> {
        if let Shape::Custom(definition) = &self.shape {
            definition.accepts(self.kind)?;
        }
        self.settle_scope(&mut object)?;
        self.default(&mut object);
        if ownership == Ownership::Track {
            self.own(None, &mut object);
        }
        chain::mutate(self, Operation::Create, &mut object, None).await?;
        self.settle_scope(&mut object)?;
        self.settle_identity(&mut object);
        self.default(&mut object);
        self.kind.prepare_create(&mut object);
        let name = meta(&object, "name").to_owned();
        let reserved = self.api.addresses.reserve(self.kind, &mut object, None)?;
        let mut errors = self.validate(&object);
        errors.extend(self.misexpressed(&object, None));
        if !errors.is_empty() {
            return Err(Status::invalid(self.kind.group, self.kind.kind, &name, &errors).into());
        }
        self.warnings.extend(self.kind.warnings(&object, None));
        chain::validate(self, Operation::Create, &object, None).await?;
        if !self.kind.is_stored() {
            let verb = Verb::Create.name();
            return Err(Status::method_not_allowed(self.kind.group, self.kind.plural, verb).into());
        }
        let key = self.kind.key(meta(&object, "namespace"), &name).unwrap_or_default();
        let exists = || Status::already_exists(self.kind.group, self.kind.plural, &name);
        if self.dry_run {
            return match self.api.store.get(&key) {
                Some(_) => Err(exists().into()),
                None => Ok(Written { bytes: encode::object(&object), created: true }),
            };
        }
        self.api.rests.end(&key, self.user).await;
        let entry = match self.commit((&key, Expect::Absent), None, &object).await {
            Err(Refused::Taken) => return Err(exists().into()),
            Err(refused) => return Err(refused),
            Ok(entry) => entry,
        };
        reserved.keep();
        Ok(Written { bytes: present::bytes(self.api, self.kind, &entry).await?, created: true })
    }

    /// What is wrong with the expressions of what configures admission.
    fn misexpressed(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        match self.kind.group == "admissionregistration.k8s.io" && self.subresource.is_none() {
            true => plimsoll_admission::policy::check::check(object, old),
            false => Vec::new(),
        }
    }

    /// Everything but create: `change` turns the present state into the wanted one.
    ///
    /// `missing` makes the first state where the request may create (PUT of some kinds, apply).
    pub(crate) async fn update(
        &mut self,
        mut change: impl FnMut(&mut Self, &Value) -> Result<Proposal, Status>,
        missing: Option<&(dyn Fn() -> Value + Sync)>,
    ) -> Result<Written, Status> {
        let absent = || Status::not_found(self.kind.group, self.kind.plural, self.name);
        let key = self.kind.key(self.namespace, self.name).ok_or_else(absent)?;
        for _ in 0..ATTEMPTS {
            let Some(current) = self.api.store.get(&key) else {
                let Some(first) = missing else { return Err(absent()) };
                let proposal = change(self, &first())?;
                match self.create_proposed(proposal).await {
                    Err(status) if status.reason == "AlreadyExists" => continue,
                    outcome => return outcome,
                }
            };
            let old = present::object(self.api, self.kind, &current).await?;
            let proposal = change(self, &old)?;
            if let Some(written) = self.replace(&key, &current, &old, proposal).await? {
                return Ok(written);
            }
        }
        Err(Status::modified(self.kind.group, self.kind.plural, self.name))
    }

    /// One attempt; `None` when the object changed meanwhile and the writer did not insist on a version.
    async fn replace(
        &mut self,
        key: &str,
        current: &Entry,
        old: &Value,
        proposal: Proposal,
    ) -> Result<Option<Written>, Status> {
        let Proposal { object: mut new, ownership } = proposal;
        let insists = self.settle_update(&mut new, old, current.modified)?;
        self.default(&mut new);
        if ownership == Ownership::Track {
            self.own(Some(old), &mut new);
        }
        chain::mutate(self, Operation::Update, &mut new, Some(old)).await?;
        self.default(&mut new);
        self.kind.prepare_update(&mut new, old, self.subresource);
        let reserved = self.api.addresses.reserve(self.kind, &mut new, Some(old))?;
        let mut errors = self.validate_update(&new, old);
        errors.extend(self.misexpressed(&new, Some(old)));
        if !errors.is_empty() {
            return Err(Status::invalid(self.kind.group, self.kind.kind, self.name, &errors));
        }
        chain::validate(self, Operation::Update, &new, Some(old)).await?;
        if self.subresource.is_none() {
            self.warnings.extend(self.kind.warnings(&new, Some(old)));
        }
        // What lies on disk in an outdated form is written again though nothing changed.
        if new == *old && !self.lies_outdated(key, current).await? {
            let bytes = present::bytes(self.api, self.kind, current).await?;
            return Ok(Some(Written { bytes, created: false }));
        }
        if self.dry_run {
            return Ok(Some(Written { bytes: encode::object(&new), created: false }));
        }
        let expect = Expect::Revision(current.modified);
        let outcome = match finished(&new) {
            true => self.commit_deletion((key, expect), old, &new).await,
            false => self.commit((key, expect), Some(old), &new).await,
        };
        match outcome {
            Ok(entry) => {
                reserved.keep();
                let bytes = present::bytes(self.api, self.kind, &entry).await?;
                Ok(Some(Written { bytes, created: false }))
            }
            Err(Refused::Taken) if insists => {
                Err(Status::modified(self.kind.group, self.kind.plural, self.name))
            }
            Err(Refused::Taken | Refused::Claimed) => Ok(None),
            Err(Refused::Other(status)) => Err(status),
        }
    }

    /// Whether what is stored would be written in another form now: by another key, in another version.
    async fn lies_outdated(&self, key: &str, current: &Entry) -> Result<bool, Status> {
        Ok(self.api.store.stale(key).await.map_err(|error| store_failure(&error))?
            || present::is_outdated(self.api, self.kind, current)?)
    }

    /// Holds a body against the kind.
    pub(crate) fn check_type(&mut self, object: &mut Value) -> Result<(), Status> {
        let api_version = self.kind.api_version();
        let expected = Expected { api_version: &api_version, kind: self.kind.kind, shape: &self.shape };
        let duplicates = std::mem::take(&mut self.duplicates);
        let mut warnings = Vec::new();
        let outcome = decode::check(expected, self.validation, duplicates, object, &mut warnings);
        self.warnings.extend(warnings);
        outcome
    }

    /// Fills in what the object leaves open.
    fn default(&self, object: &mut Value) {
        self.shape.default(self.kind, object);
    }

    /// Everything that is wrong with a new object.
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = self.kind.validate(object);
        match &self.shape {
            Shape::Custom(definition) => errors.extend(definition.validate(object)),
            Shape::Builtin(_) if self.defines_kind() => errors.extend(check::definition(object)),
            Shape::Builtin(_) => {}
        }
        errors
    }

    /// Everything that is wrong with a change.
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.kind.validate_update(new, old, self.subresource);
        match &self.shape {
            Shape::Custom(definition) => {
                errors.extend(definition.validate_update(new, old, self.subresource));
            }
            Shape::Builtin(_) if self.defines_kind() && self.subresource.is_none() => {
                errors.extend(check::definition_update(new, old));
            }
            Shape::Builtin(_) => {}
        }
        errors
    }

    /// Whether the object is the definition of a custom kind.
    pub(crate) fn defines_kind(&self) -> bool {
        custom::definitions_kind() == Some(self.kind)
    }

    /// Brings `metadata.managedFields` up to date.
    pub(crate) fn own(&self, old: Option<&Value>, new: &mut Value) {
        let (api_version, now) = (self.kind.api_version(), self.time());
        let writer = self.writer(&api_version, &now);
        plimsoll_merge::managed::track(old, new, &writer, self.shape.typed(), &self.ignored());
    }

    /// Who writes, as managedFields record it.
    pub(crate) fn writer<'w>(
        &'w self,
        api_version: &'w str,
        now: &'w str,
    ) -> plimsoll_merge::managed::Writer<'w> {
        plimsoll_merge::managed::Writer {
            manager: &self.manager,
            api_version,
            subresource: self.subresource.unwrap_or_default(),
            now,
        }
    }

    /// Fields that this endpoint never changes, so that nobody comes to own them here.
    pub(crate) fn ignored(&self) -> plimsoll_merge::paths::Set {
        let mut fields: Vec<&[&str]> =
            self.kind.reset_fields(self.subresource).iter().map(std::slice::from_ref).collect();
        if self.subresource == Some("status") && self.kind.strategy.status_keeps_metadata() {
            fields.push(&["metadata", "labels"]);
        }
        plimsoll_merge::paths::Set::of_fields(&fields)
    }

    /// The time of the request as objects carry it.
    pub(crate) fn time(&self) -> String {
        object::time(self.now).as_str().unwrap_or_default().to_owned()
    }

    async fn commit(
        &self,
        target: (&str, Expect),
        old: Option<&Value>,
        object: &Value,
    ) -> Result<Arc<Entry>, Refused> {
        let ttl = (self.kind.kind == "Event" && !self.kind.is_custom()).then_some(EVENT_TTL);
        let value = encode::halves(&present::stored(self.api, self.kind, object).await?).with_ttl(ttl);
        let since = Instant::now();
        let access = if old.is_some() { Stored::Update } else { Stored::Create };
        let written = quota::Written { old, new: Some(object) };
        let outcome = quota::commit(self, target, Change::Put(value), &written).await;
        self.api.metrics.storage.done(self.kind, access, since);
        outcome
    }

    /// Removes the object `old`; `object` is the last state that watchers see.
    pub(crate) async fn commit_deletion(
        &self,
        target: (&str, Expect),
        old: &Value,
        object: &Value,
    ) -> Result<Arc<Entry>, Refused> {
        let last = encode::halves(&present::stored(self.api, self.kind, object).await?);
        let written = quota::Written { old: Some(old), new: None };
        let since = Instant::now();
        self.api.rests.begin(target.0, old);
        let outcome = quota::commit(self, target, Change::Delete(last), &written).await;
        self.api.metrics.storage.done(self.kind, Stored::Delete, since);
        let entry = outcome?;
        self.api.addresses.release(self.kind, object);
        Ok(entry)
    }
}

/// Why a commit did not happen.
pub(crate) enum Refused {
    /// The key was not as expected: somebody else was quicker.
    Taken,
    /// Somebody else was quicker to claim an address.
    Claimed,
    /// What the client is told.
    Other(Status),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Precondition { .. } => Self::Taken,
            error => Self::Other(store_failure(&error)),
        }
    }
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self::Other(status)
    }
}

/// The version of whatever there is, also where an update must name the version it was made from.
pub(crate) const WHATEVER: &str = "0";

/// What clients are told when the store refuses.
pub(crate) fn store_failure(error: &StoreError) -> Status {
    match error {
        // etcd's words, as upstream hands them on.
        StoreError::NoSpace => Status::unnamed(error.to_string()),
        StoreError::Unavailable(_) => Status::unavailable(error.to_string()),
        error => Status::internal(error),
    }
}
