//! Deletion: at once, after a grace period, or when the finalizers are done.

use plimsoll_catalogue::{Grace, Kind};
use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::status::Status;
use plimsoll_store::{Change, Entry, Expect, StoreError};
use serde_json::{Value, json};

use crate::admit::chain;
use crate::custom::lifecycle;
use crate::object::{self, deleting, finalizers, meta, metadata_mut};
use crate::query::Query;
use crate::write::{Refused, Write, Written, store_failure};
use crate::{encode, options, present};

/// `DeleteOptions`, from the body or the query.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    grace: Option<i64>,
    propagation: Option<Propagation>,
    uid: Option<String>,
    version: Option<String>,
    dry_run: bool,
}

/// What happens to dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Propagation {
    Orphan,
    Background,
    Foreground,
}

impl Options {
    /// Reads the body or, where there is none, the query; 422 with all that is wrong with it.
    pub(crate) fn read(body: &Value, query: &Query) -> Result<Self, Status> {
        let from_query;
        let given = match body.as_object().is_some_and(|body| !body.is_empty()) {
            true => body,
            false => {
                from_query = query_options(query)?;
                &from_query
            }
        };
        let errors = check(given);
        if !errors.is_empty() {
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &errors));
        }
        let propagation = match given["propagationPolicy"].as_str() {
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            _ if given["orphanDependents"] == true => Some(Propagation::Orphan),
            _ => None,
        };
        let precondition = |field: &str| given["preconditions"][field].as_str().map(str::to_owned);
        Ok(Self {
            // Less than nothing is one second.
            grace: given["gracePeriodSeconds"].as_i64().map(|seconds| if seconds < 0 { 1 } else { seconds }),
            propagation,
            uid: precondition("uid"),
            version: precondition("resourceVersion"),
            dry_run: !dry_runs(given).is_empty(),
        })
    }

    /// Whether the body asks to change nothing.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.dry_run
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

    /// Means this version of the object and no other, unless the client has named one.
    pub(crate) fn of_version(mut self, version: &str) -> Self {
        self.version.get_or_insert_with(|| version.to_owned());
        self
    }

    /// Whether only one version of the object is meant.
    pub(crate) fn names_version(&self) -> bool {
        self.version.is_some()
    }

    /// The version that was meant has become this one by our own doing.
    pub(crate) fn follow(&mut self, version: &str) {
        if let Some(meant) = &mut self.version {
            *meant = version.to_owned();
        }
    }

    /// Refuses another object, or another version, than the client means.
    pub(crate) fn check(&self, kind: &Kind, named: &str, object: &Value) -> Result<(), Status> {
        for (name, wanted, found, guess) in [
            ("UID", &self.uid, meta(object, "uid"), "deleted and then recreated"),
            ("ResourceVersion", &self.version, meta(object, "resourceVersion"), "modified"),
        ] {
            if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
                let cause = format!(
                    "the {name} in the precondition ({wanted}) does not match the {name} in record ({found}). \
                     The object might have been {guess}"
                );
                // Upstream names the kind here, not the resource.
                return Err(Status::conflict(kind.group, kind.kind, named, cause));
            }
        }
        Ok(())
    }
}

/// The options that the query has, in the form of a body. What to do with dry runs in the query is
/// settled with the options that all writes have.
fn query_options(query: &Query) -> Result<Value, Status> {
    let mut options = json!({});
    if let Some(seconds) = query.number("gracePeriodSeconds")? {
        options["gracePeriodSeconds"] = json!(seconds);
    }
    match query.get("orphanDependents") {
        "" => {}
        "false" | "0" => options["orphanDependents"] = json!(false),
        _ => options["orphanDependents"] = json!(true),
    }
    if query.has("propagationPolicy") {
        options["propagationPolicy"] = json!(query.get("propagationPolicy"));
    }
    Ok(options)
}

fn dry_runs(options: &Value) -> Vec<&str> {
    options["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn check(options: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let policy = &options["propagationPolicy"];
    let path = Path::root("propagationPolicy");
    if !options["orphanDependents"].is_null() && !policy.is_null() {
        let message = "orphanDependents and deletionPropagation cannot be both set";
        errors.push(FieldError::invalid(&path, policy, message));
    }
    if !policy.is_null() && !matches!(policy.as_str(), Some("Foreground" | "Background" | "Orphan")) {
        let supported = ["Foreground", "Background", "Orphan", "nil"];
        errors.push(FieldError::not_supported(&path, policy, &supported));
    }
    let dry_runs = dry_runs(options);
    if dry_runs.iter().any(|value| *value != "All") {
        errors.push(options::bad_dry_run(&dry_runs));
    }
    errors
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
            options.check(self.kind, self.name, &old)?;
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
                Err(Refused::Taken | Refused::Claimed) => Ok(None),
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
        self.api.rests.mark(self.user, old);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_the_body_or_the_query() {
        let read = |body: Value, query: &str| Options::read(&body, &Query::parse(Some(query)));
        let grace = |body, query| read(body, query).expect("options").grace;
        assert_eq!(grace(json!({}), "gracePeriodSeconds=7"), Some(7));
        assert_eq!(grace(json!({"gracePeriodSeconds": -5}), "gracePeriodSeconds=7"), Some(1));
        assert_eq!(grace(json!({"kind": "DeleteOptions"}), "gracePeriodSeconds=7"), None);
        assert!(read(json!({"dryRun": ["All"]}), "").expect("options").is_dry_run());
        let orphan = read(json!({}), "orphanDependents=true").expect("options").propagation;
        assert_eq!(orphan, Some(Propagation::Orphan));
    }

    #[test]
    fn wrong_options_are_named() {
        const INVALID: &str = r#"DeleteOptions.meta.k8s.io "" is invalid: "#;
        for (body, message) in [
            (
                json!({"propagationPolicy": "Bad"}),
                r#"propagationPolicy: Unsupported value: "Bad": supported values: "Foreground", "Background", "Orphan", "nil""#,
            ),
            (
                json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
                r#"propagationPolicy: Invalid value: "Orphan": orphanDependents and deletionPropagation cannot be both set"#,
            ),
            (
                json!({"dryRun": ["Some"]}),
                r#"dryRun: Unsupported value: []string{"Some"}: supported values: "All""#,
            ),
        ] {
            let refused = Options::read(&body, &Query::parse(None)).expect_err("refused");
            assert_eq!((refused.code, refused.message), (422, format!("{INVALID}{message}")));
        }
    }
}
