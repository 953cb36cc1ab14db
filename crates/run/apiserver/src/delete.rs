//! Deletion: at once, after a grace period, or when the finalizers are done.

use plimsoll_catalogue::Grace;
use plimsoll_meta::status::Status;
use plimsoll_store::{Change, Entry, Expect, StoreError};
use serde_json::{Value, json};

use crate::admit::chain;
use crate::custom::lifecycle;
use crate::object::{self, deleting, finalizers, meta, metadata_mut};
use crate::query::Query;
use crate::write::{Refused, Write, Written, store_failure};
use crate::{encode, present};

/// `DeleteOptions`, from the body or the query.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    grace: Option<i64>,
    propagation: Option<Propagation>,
    uid: Option<String>,
    version: Option<String>,
}

/// What happens to dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Propagation {
    Orphan,
    Background,
    Foreground,
}

impl Options {
    /// Reads a body (possibly empty) and the query; the body wins.
    pub(crate) fn read(body: &Value, query: &Query) -> Result<Self, Status> {
        let text = |name: &str| match body[name].as_str() {
            Some(text) => text.to_owned(),
            None => query.get(name).to_owned(),
        };
        let grace = match body["gracePeriodSeconds"].as_i64() {
            Some(seconds) => Some(seconds),
            None => query.number("gracePeriodSeconds")?,
        };
        if let Some(bad) = grace.filter(|seconds| *seconds < 0) {
            return Err(Status::bad_request(format!(
                "gracePeriodSeconds: Invalid value: {bad}: must be greater than or equal to 0"
            )));
        }
        let propagation = match text("propagationPolicy").as_str() {
            "" => match body["orphanDependents"].as_bool() {
                Some(true) => Some(Propagation::Orphan),
                _ => None,
            },
            "Orphan" => Some(Propagation::Orphan),
            "Background" => Some(Propagation::Background),
            "Foreground" => Some(Propagation::Foreground),
            other => {
                return Err(Status::bad_request(format!(
                    "invalid propagationPolicy: Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\""
                )));
            }
        };
        let precondition = |field: &str| body["preconditions"][field].as_str().map(str::to_owned);
        Ok(Self { grace, propagation, uid: precondition("uid"), version: precondition("resourceVersion") })
    }

    /// As webhooks are told.
    pub(crate) fn to_value(&self, dry_run: bool) -> Value {
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
        if let Some(seconds) = self.grace {
            options["gracePeriodSeconds"] = json!(seconds);
        }
        if let Some(uid) = &self.uid {
            options["preconditions"]["uid"] = json!(uid);
        }
        if let Some(version) = &self.version {
            options["preconditions"]["resourceVersion"] = json!(version);
        }
        if let Some(propagation) = self.propagation {
            options["propagationPolicy"] = json!(format!("{propagation:?}"));
        }
        if dry_run {
            options["dryRun"] = json!(["All"]);
        }
        options
    }

    fn check(&self, write: &Write<'_>, object: &Value) -> Result<(), Status> {
        for (name, wanted, found) in [
            ("UID", &self.uid, meta(object, "uid")),
            ("ResourceVersion", &self.version, meta(object, "resourceVersion")),
        ] {
            if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
                let cause = format!(
                    "Precondition failed: {name} in precondition: {wanted}, {name} in object meta: {found}"
                );
                return Err(Status::conflict(write.kind.group, write.kind.plural, write.name, cause));
            }
        }
        Ok(())
    }
}

/// What a deletion came to.
pub(crate) enum Deleted {
    /// The object is gone.
    Gone(Value),
    /// It stays for a while, in this state.
    Pending(Written),
}

impl Write<'_> {
    /// DELETE of one object.
    pub(crate) async fn delete(&mut self, options: &Options) -> Result<Deleted, Status> {
        let absent = || Status::not_found(self.kind.group, self.kind.plural, self.name);
        let key = self.kind.key(self.namespace, self.name).ok_or_else(absent)?;
        loop {
            let current = self.api.store.get(&key).ok_or_else(absent)?;
            let old = present::object(self.api, self.kind, &current).await?;
            options.check(self, &old)?;
            chain::delete(self, &old, options).await?;
            if let Some(deleted) = self.delete_once(&key, &current, &old, options).await? {
                return Ok(deleted);
            }
        }
    }

    async fn delete_once(
        &self,
        key: &str,
        current: &Entry,
        old: &Value,
        options: &Options,
    ) -> Result<Option<Deleted>, Status> {
        let mut new = old.clone();
        self.mark_finalizers(&mut new, options);
        if self.defines_kind() {
            lifecycle::begin_end(&mut new, self.now);
        }
        let grace = self.kind.strategy.graceful(old, options.grace);
        let seconds = match grace {
            Grace::Immediate => 0,
            Grace::Seconds(seconds) => seconds,
        };
        let namespace = self.kind.kind == "Namespace" && self.kind.group.is_empty();
        let stays = seconds > 0
            || !finalizers(&new).is_empty()
            || (namespace && new["spec"]["finalizers"].as_array().is_some_and(|list| !list.is_empty()));
        if self.dry_run {
            return Ok(Some(Deleted::Gone(old.clone())));
        }
        let expect = Expect::Revision(current.modified);
        if !stays {
            return match self.commit_deletion((key, expect), old, &new).await {
                Ok(entry) => Ok(Some(Deleted::Gone(present::object(self.api, self.kind, &entry).await?))),
                Err(Refused::Taken) => Ok(None),
                Err(Refused::Other(status)) => Err(status),
            };
        }
        self.mark_deleted(&mut new, seconds);
        if namespace {
            new["status"]["phase"] = json!("Terminating");
        }
        if new == *old {
            let bytes = present::bytes(self.api, self.kind, current).await?;
            return Ok(Some(Deleted::Pending(Written { bytes, created: false })));
        }
        let stored = present::stored(self.api, self.kind, &new).await?;
        match self.api.store.commit(key, expect, Change::Put(encode::halves(&stored))).await {
            Ok(entry) => {
                let bytes = present::bytes(self.api, self.kind, &entry).await?;
                Ok(Some(Deleted::Pending(Written { bytes, created: false })))
            }
            Err(StoreError::Precondition { .. }) => Ok(None),
            Err(error) => Err(store_failure(&error)),
        }
    }

    /// Deletion time and grace; a second deletion can only shorten the wait.
    fn mark_deleted(&self, object: &mut Value, seconds: i64) {
        let before = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
        if deleting(object) && before.is_some_and(|before| before <= seconds) {
            return;
        }
        let first = !deleting(object);
        let until = self.now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(self.now);
        let generation = object["metadata"]["generation"].as_i64();
        let metadata = metadata_mut(object);
        metadata.insert("deletionTimestamp".to_owned(), object::time(until));
        metadata.insert("deletionGracePeriodSeconds".to_owned(), seconds.into());
        if let (true, Some(generation)) = (first, generation) {
            metadata.insert("generation".to_owned(), (generation + 1).into());
        }
    }

    fn mark_finalizers(&self, object: &mut Value, options: &Options) {
        let Some(propagation) = options.propagation else { return };
        let wanted = match propagation {
            Propagation::Orphan => Some("orphan"),
            Propagation::Foreground => Some("foregroundDeletion"),
            Propagation::Background => None,
        };
        let mut list: Vec<String> = finalizers(object).into_iter().map(str::to_owned).collect();
        list.retain(|one| one != "orphan" && one != "foregroundDeletion");
        list.extend(wanted.map(str::to_owned));
        let metadata = metadata_mut(object);
        match list.is_empty() {
            true => drop(metadata.remove("finalizers")),
            false => drop(metadata.insert("finalizers".to_owned(), json!(list))),
        }
    }
}

/// The Status that answers a finished deletion.
pub(crate) fn success(write: &Write<'_>, object: &Value) -> Value {
    let mut details =
        json!({"name": meta(object, "name"), "kind": write.kind.plural, "uid": meta(object, "uid")});
    if !write.kind.group.is_empty() {
        details["group"] = json!(write.kind.group);
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
