//! What the server does about definitions by itself: it grants names, tells what is wrong with schemas,
//! registers what is served with the aggregation layer, and deletes instances before their definition goes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use plimsoll_store::{Change, Entry, Expect};
use plimsoll_structural::status::{self, Ending, Taken};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::definitions_kind;
use crate::aggregate::local;
use crate::decode::FieldValidation;
use crate::delete::Options;
use crate::object::{deleting, finalizers, meta, metadata_mut};
use crate::registry;
use crate::server::Api;
use crate::user::User;
use crate::write::{Ownership, Proposal, WHATEVER, Write};

/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How often the end of instances that finalizers hold is looked for.
const LOOK: Duration = Duration::from_millis(200);
/// How long their end is waited for before it is tried anew.
const PATIENCE: Duration = Duration::from_secs(60);
const MANAGER: &str = "kube-apiserver";

/// A definition that is to be deleted waits for its instances.
pub(crate) fn begin_end(definition: &mut Value, now: Timestamp) {
    if deleting(definition) {
        return;
    }
    let mut names: Vec<String> = finalizers(definition).into_iter().map(str::to_owned).collect();
    if !names.iter().any(|name| name == status::CLEANUP) {
        names.push(status::CLEANUP.to_owned());
    }
    metadata_mut(definition).insert("finalizers".to_owned(), json!(names));
    if !definition["status"].is_object() {
        definition["status"] = json!({});
    }
    status::end(&mut definition["status"], &Ending::Pending, now);
}

/// Looks after definitions until `shutdown`.
pub(crate) fn start(api: &Arc<Api>, shutdown: CancellationToken) {
    let keeper = Arc::new(Keeper { api: Arc::clone(api), ending: Mutex::default() });
    tokio::spawn(shutdown.run_until_cancelled_owned(async move { keeper.run().await }));
}

struct Keeper {
    api: Arc<Api>,
    /// Definitions whose instances are being deleted.
    ending: Mutex<BTreeSet<String>>,
}

impl Keeper {
    async fn run(self: Arc<Self>) {
        loop {
            self.api.customs.0.changed.notified().await;
            let dirty = self.api.customs.take_dirty();
            let mut failed = Vec::new();
            for name in dirty {
                if let Err(error) = self.keep(&name).await {
                    tracing::warn!(definition = name, %error, "a definition's status is not written");
                    failed.push(name);
                }
            }
            if let Err(error) = self.register().await {
                tracing::warn!(%error, "a custom group is not registered");
            }
            if !failed.is_empty() {
                let customs = self.api.customs.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(RETRY).await;
                    customs.mark(failed);
                });
            }
        }
    }

    async fn keep(self: &Arc<Self>, name: &str) -> Result<(), Status> {
        let Some(definition) = self.api.customs.stored(name) else { return Ok(()) };
        if deleting(&definition) {
            self.end(name, &definition);
            return Ok(());
        }
        let group = definition["spec"]["group"].as_str().unwrap_or_default();
        let now = Timestamp::now();
        let settled = status::settle(&definition, &self.taken(group, name), now);
        if settled == definition["status"] {
            return Ok(());
        }
        self.write(name, |definition| {
            definition["status"] = status::settle(definition, &self.taken(group, name), now);
        })
        .await
    }

    /// The names that others of a group have.
    fn taken(&self, group: &str, name: &str) -> Taken {
        let mut taken = Taken::default();
        for kind in plimsoll_catalogue::kinds().iter().filter(|kind| kind.group == group) {
            taken.resources.extend([kind.plural, kind.singular].map(str::to_owned));
            taken.resources.extend(kind.short_names.iter().map(|short| (*short).to_owned()));
            taken.kinds.extend([kind.kind.to_owned(), kind.list_kind()]);
        }
        for other in self.api.customs.group(group) {
            if meta(&other, "name") != name {
                taken.claim(&other);
            }
        }
        taken
    }

    /// Changes a definition's status (and finalizers), whatever it is by then.
    async fn write(&self, name: &str, change: impl Fn(&mut Value) + Send) -> Result<(), Status> {
        let Some(kind) = definitions_kind() else { return Ok(()) };
        let user = User::server();
        let mut write = self.writer(kind, &user, "", name, Some("status"))?;
        let proposal = |_: &mut Write<'_>, old: &Value| {
            let mut object = old.clone();
            metadata_mut(&mut object).insert("resourceVersion".to_owned(), WHATEVER.into());
            change(&mut object);
            Ok(Proposal { object, ownership: Ownership::Track })
        };
        match write.update(proposal, None).await {
            Err(status) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    }

    fn writer<'w>(
        &'w self,
        kind: &'static Kind,
        user: &'w User,
        namespace: &'w str,
        name: &'w str,
        subresource: Option<&'w str>,
    ) -> Result<Write<'w>, Status> {
        let write = Write::of_server(&self.api, user, kind, namespace, name)?;
        Ok(Write { subresource, manager: MANAGER.to_owned(), validation: FieldValidation::Ignore, ..write })
    }

    /// Begins to delete the instances of a definition, unless that is going on.
    fn end(self: &Arc<Self>, name: &str, definition: &Value) {
        let waits = finalizers(definition).contains(&status::CLEANUP);
        let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        if !waits || !ending.insert(name.to_owned()) {
            return;
        }
        let (keeper, name) = (Arc::clone(self), name.to_owned());
        let established = status::holds(definition, "Established");
        tokio::spawn(async move {
            while let Err(error) = keeper.finish(&name, established).await {
                tracing::warn!(definition = name, %error, "instances are not deleted");
                tokio::time::sleep(RETRY).await;
            }
            keeper.ending.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
        });
    }

    async fn finish(&self, name: &str, established: bool) -> Result<(), Status> {
        let Some(definition) = self.api.customs.stored(name) else { return Ok(()) };
        let mut ending = Ending::NeverEstablished;
        if established {
            self.tell(name, &Ending::InProgress).await?;
            if let Err(error) = self.delete_instances(&definition).await {
                self.tell(name, &Ending::Failed(error.to_string())).await?;
                return Err(error);
            }
            ending = Ending::Completed;
        }
        self.write(name, |definition| {
            status::end(&mut definition["status"], &ending, Timestamp::now());
            let left: Vec<&str> =
                finalizers(definition).into_iter().filter(|one| *one != status::CLEANUP).collect();
            let left = json!(left);
            metadata_mut(definition).insert("finalizers".to_owned(), left);
        })
        .await
    }

    async fn tell(&self, name: &str, ending: &Ending) -> Result<(), Status> {
        self.write(name, |definition| status::end(&mut definition["status"], ending, Timestamp::now())).await
    }

    /// Deletes all instances and waits until they are gone.
    async fn delete_instances(&self, definition: &Value) -> Result<(), Status> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (group, plural) =
            (text(&definition["spec"]["group"]), text(&definition["spec"]["names"]["plural"]));
        let versions = definition["spec"]["versions"].as_array().map_or(&[][..], Vec::as_slice);
        let served = versions
            .iter()
            .filter(|version| version["served"] == true)
            .max_by_key(|version| version["storage"] == true);
        let kind = served.and_then(|version| self.api.customs.find(&group, &text(&version["name"]), &plural));
        let patience = tokio::time::Instant::now() + PATIENCE;
        loop {
            let left = self.instances(&group, &plural)?;
            if left.is_empty() {
                return Ok(());
            }
            for entry in &left {
                self.delete_instance(kind, entry).await?;
            }
            if tokio::time::Instant::now() > patience {
                return Err(Status::internal("timed out waiting for the condition"));
            }
            if !self.instances(&group, &plural)?.is_empty() {
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    fn instances(&self, group: &str, plural: &str) -> Result<Vec<Arc<Entry>>, Status> {
        let prefix = format!("/registry/{group}/{plural}/");
        let page = self.api.store.range(&prefix, None, usize::MAX, None).map_err(Status::internal)?;
        Ok(page.entries)
    }

    async fn delete_instance(&self, kind: Option<&'static Kind>, entry: &Arc<Entry>) -> Result<(), Status> {
        let Some(kind) = kind else {
            // No version is served, so that nobody could answer for its finalizers.
            let last = plimsoll_store::Value::plain(entry.value.clone());
            let gone = self.api.store.commit(&entry.key, Expect::Any, Change::Delete(last)).await;
            return gone.map(drop).map_err(Status::internal);
        };
        if registry::stored(entry).is_ok_and(|object| deleting(&object)) {
            return Ok(());
        }
        let (namespace, name) = registry::key_parts(kind, &entry.key);
        let user = User::server();
        let mut write = self.writer(kind, &user, namespace, name, None)?;
        match write.delete(&Options::default()).await {
            Err(status) if status.code == 404 => Ok(()),
            other => other.map(drop),
        }
    }

    /// Keeps an APIService for each custom group version.
    async fn register(&self) -> Result<(), Status> {
        let Some(kind) = plimsoll_catalogue::find("apiregistration.k8s.io", "v1", "apiservices") else {
            return Ok(());
        };
        let user = User::server();
        let wanted = local::services(self.api.customs.kinds());
        for service in &wanted {
            let name = meta(service, "name");
            let known = kind.key("", name).is_some_and(|key| self.api.store.get(&key).is_some());
            if known {
                continue;
            }
            match self.writer(kind, &user, "", "", None)?.create(service.clone()).await {
                Err(status) if status.reason != "AlreadyExists" => return Err(status),
                _ => {}
            }
        }
        let page = self
            .api
            .store
            .range(&registry::prefix(kind, "")?, None, usize::MAX, None)
            .map_err(Status::internal)?;
        for entry in &page.entries {
            let Ok(object) = registry::stored(entry) else { continue };
            let (_, name) = registry::key_parts(kind, &entry.key);
            if local::is_custom(&object) && !wanted.iter().any(|service| meta(service, "name") == name) {
                match self.writer(kind, &user, "", name, None)?.delete(&Options::default()).await {
                    Err(status) if status.code != 404 => return Err(status),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
