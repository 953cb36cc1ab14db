//! ResourceQuotas: their numbers change in the same commit as the objects they count.
//!
//! A write in a namespace with quotas commits the object and the quotas' new `status.used` together, or
//! neither. So a burst never exceeds a quota, and what goes makes room at once. What a new or changed quota
//! starts from is counted by [`run`], which also looks again when pods should be gone and are not.

mod overdue;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use plimsoll_admission::plugins::Plugin;
use plimsoll_admission::quota::{self, Amounts, Charge, Counted, Quota, charge};
use plimsoll_catalogue::Kind;
use plimsoll_meta::quantity::Quantity;
use plimsoll_meta::status::Status;
use plimsoll_store::{Change, Entry, Expect, Revision, StoreError};
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::claims::Claims;
use crate::follow::{Follower, follow};
use crate::object::{self, meta};
use crate::server::Api;
use crate::user::User;
use crate::write::{Ownership, Proposal, Refused, Write};
use crate::{encode, registry};

pub(crate) use overdue::Overdue;

/// A new quota is counted once more after this time: for writes that were on their way when it came.
const AGAIN: Duration = Duration::from_secs(2);

/// How often a server looks for pods that other servers of the same state were to watch the end of, and may have
/// gone before (kube-controller-manager: `--resource-quota-sync-period`).
const RESYNC: Duration = Duration::from_secs(300);

/// What a write changes.
pub(crate) struct Written<'w> {
    /// The object before; absent when it is new.
    pub(crate) old: Option<&'w Value>,
    /// The object after; absent when it goes.
    pub(crate) new: Option<&'w Value>,
}

/// Commits one change with the addresses it claims and what it costs the quotas of its namespace.
pub(crate) async fn commit(
    write: &Write<'_>,
    (key, expect): (&str, Expect),
    change: Change,
    written: &Written<'_>,
) -> Result<Arc<Entry>, Refused> {
    let store = &write.api.store;
    loop {
        let mut claims = Claims::of(write, written)?;
        let mut charged = charged(write, written)?;
        if claims.steps.is_empty() && charged.is_empty() {
            return Ok(store.commit(key, expect, change).await?);
        }
        let mut steps = vec![(key.to_owned(), expect, change.clone())];
        steps.append(&mut claims.steps);
        steps.append(&mut charged);
        match store.commit_many(steps).await {
            Ok(entries) => return entries.into_iter().next().ok_or_else(|| StoreError::Closed.into()),
            Err(StoreError::PreconditionAt { step: 0, .. }) => return Err(Refused::Taken),
            Err(StoreError::PreconditionAt { step, .. }) if step <= claims.made => {
                return Err(Refused::Claimed);
            }
            // Another write was charged meanwhile: what is left now decides.
            Err(StoreError::PreconditionAt { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// One change of a commit.
pub(crate) type Step = (String, Expect, Change);

/// The quotas that a write changes, ready to be committed with it.
fn charged(write: &Write<'_>, written: &Written<'_>) -> Result<Vec<Step>, Status> {
    let kind = write.kind;
    // Events are never limited, as upstream's.
    let limited =
        kind.namespaced && kind.kind != "Event" && write.api.admission.plugins.has(Plugin::ResourceQuota);
    if !limited {
        return Ok(Vec::new());
    }
    let entries = quotas(write.api, write.namespace);
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let objects: Vec<Value> =
        entries.iter().map(|entry| registry::stored(entry)).collect::<Result<_, _>>()?;
    let read: Vec<Quota> = objects.iter().map(Quota::read).collect();
    let resource = Counted { group: kind.group, plural: kind.plural };
    let now = Timestamp::now();
    if is_pod(kind) {
        write.api.overdue.note(write.namespace, written, now);
    }
    let charges = charge(&read, &resource, written.old, written.new, now).map_err(|cause| {
        let name = written.new.or(written.old).map_or("", |object| meta(object, "name"));
        Status::forbidden(kind.group, kind.plural, name, cause)
    })?;
    let own = |entry: &Entry| {
        written.old.is_some() && is_quota(kind) && entry.key.ends_with(&format!("/{}", write.name))
    };
    Ok(charges
        .into_iter()
        .filter(|one| !own(&entries[one.quota]))
        .map(|Charge { quota, used }| {
            let mut object = objects[quota].clone();
            quota::set_used(&mut object, &used);
            let entry = &entries[quota];
            (entry.key.to_string(), Expect::Revision(entry.modified), Change::Put(encode::halves(&object)))
        })
        .collect())
}

fn is_quota(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.kind == "ResourceQuota"
}

fn is_pod(kind: &Kind) -> bool {
    kind.group.is_empty() && kind.kind == "Pod"
}

fn quota_kind() -> &'static Kind {
    plimsoll_catalogue::find("", "v1", "resourcequotas").expect("quotas are in the catalogue")
}

fn quotas(api: &Api, namespace: &str) -> Vec<Arc<Entry>> {
    let Ok(prefix) = registry::prefix(quota_kind(), namespace) else { return Vec::new() };
    api.store.range(&prefix, None, usize::MAX, None).map(|page| page.entries).unwrap_or_default()
}

/// Quotas whose status does not speak of their spec.
#[derive(Debug, Default)]
pub(crate) struct Uncounted {
    waiting: Mutex<BTreeSet<(String, String)>>,
    some: Notify,
}

impl Uncounted {
    fn add(&self, object: &Value) {
        if quota::is_current(object) || object::deleting(object) {
            return;
        }
        let key = (meta(object, "namespace").to_owned(), meta(object, "name").to_owned());
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        self.some.notify_one();
    }

    fn take(&self) -> BTreeSet<(String, String)> {
        std::mem::take(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Follower for Uncounted {
    fn reset(&self, _kind: &'static Kind, objects: Vec<Value>) {
        objects.iter().for_each(|object| self.add(object));
    }

    fn put(&self, _kind: &'static Kind, object: &Value) {
        self.add(object);
    }

    fn remove(&self, _kind: &'static Kind, _object: &Value) {}
}

/// Counts quotas that are new or changed, until shutdown. `shared`: other servers write to the same state.
pub(crate) async fn run(api: Arc<Api>, shared: bool, shutdown: CancellationToken) {
    let uncounted = Arc::new(Uncounted::default());
    follow(&api.store, quota_kind(), Arc::clone(&uncounted) as Arc<dyn Follower>);
    let mut rounds = tokio::time::interval(RESYNC);
    rounds.tick().await;
    api.overdue.remember(&api);
    loop {
        tokio::select! {
            _ = rounds.tick(), if shared => {
                api.overdue.remember(&api);
                continue;
            }
            () = uncounted.some.notified() => {}
            namespaces = api.overdue.due(&api) => {
                for quota in namespaces.iter().flat_map(|namespace| quotas(&api, namespace)) {
                    if let Ok(object) = registry::stored(&quota) {
                        count_logged(&api, meta(&object, "namespace"), meta(&object, "name")).await;
                    }
                }
                continue;
            }
            () = shutdown.cancelled() => return,
        }
        for (namespace, name) in uncounted.take() {
            count_logged(&api, &namespace, &name).await;
            let (api, shutdown) = (Arc::clone(&api), shutdown.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => count_logged(&api, &namespace, &name).await,
                    () = shutdown.cancelled() => {}
                }
            });
        }
    }
}

async fn count_logged(api: &Api, namespace: &str, name: &str) {
    match count(api, namespace, name).await {
        // Deleted meanwhile.
        Err(status) if status.code == 404 => {}
        Err(status) => tracing::warn!(namespace, name, error = status.message, "quota not counted"),
        Ok(()) => {}
    }
}

/// Counts what a quota's namespace uses. A charged write in between changes the quota, and this starts anew.
async fn count(api: &Api, namespace: &str, name: &str) -> Result<(), Status> {
    let user = User::server();
    let mut write =
        Write { subresource: Some("status"), ..Write::of_server(api, &user, quota_kind(), namespace, name)? };
    let change = |_: &mut Write<'_>, old: &Value| {
        let mut object = old.clone();
        quota::set_used(&mut object, &used(api, namespace, &Quota::read(old)));
        Ok(Proposal { object, ownership: Ownership::Track })
    };
    write.update(change, None).await.map(drop)
}

fn used(api: &Api, namespace: &str, quota: &Quota) -> Amounts {
    let mut used: Amounts = quota.limited().map(|name| (name.to_owned(), Quantity::default())).collect();
    // What is counted alone needs no look at the objects; the rest belongs to three kinds.
    let mut kinds: BTreeSet<(String, String)> = ["pods", "services", "persistentvolumeclaims"]
        .map(|plural| (String::new(), plural.to_owned()))
        .into();
    kinds.extend(
        quota
            .limited()
            .filter_map(quota::counted)
            .map(|resource| (resource.group.to_owned(), resource.plural.to_owned())),
    );
    let (all, now) = (registry::kinds(api), Timestamp::now());
    for (group, plural) in &kinds {
        let Some(kind) = all.iter().find(|kind| kind.group == group && kind.plural == plural) else {
            continue;
        };
        let Ok(prefix) = registry::prefix(kind, namespace) else { continue };
        let page = api.store.range(&prefix, None, usize::MAX, None::<Revision>);
        for entry in page.map(|page| page.entries).unwrap_or_default() {
            let Ok(object) = registry::stored(&entry) else { continue };
            if is_pod(kind) {
                api.overdue.expect(namespace, &object, now);
            }
            for (name, amount) in quota.counts(&Counted { group, plural }, &object, now) {
                let total = used.get(&name).copied().unwrap_or_default() + amount;
                used.insert(name, total);
            }
        }
    }
    used
}
