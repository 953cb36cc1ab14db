//! Tells in the status of each ValidatingAdmissionPolicy whether its expressions fit the types that it is
//! about. A policy is looked at once for each of its generations.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plimsoll_admission::policy::{MAX_TYPES, Typed, named_resources, type_check};
use plimsoll_catalogue::Kind;
use plimsoll_cel::Declared;
use plimsoll_meta::status::Status;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::decode::FieldValidation;
use crate::follow::{Follower, follow};
use crate::object::{meta, metadata_mut};
use crate::registry;
use crate::server::Api;
use crate::shape::Shape;
use crate::user::User;
use crate::write::{Ownership, Proposal, WHATEVER, Write};

const MANAGER: &str = "validatingadmissionpolicy-status";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Looks after policies until `shutdown`.
pub(crate) fn start(api: &Arc<Api>, shutdown: CancellationToken) {
    let Some(kind) =
        plimsoll_catalogue::find("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies")
    else {
        return;
    };
    let waiting = Arc::<Waiting>::default();
    follow(&api.store, kind, Arc::clone(&waiting) as Arc<dyn Follower>);
    let keeper = Keeper { api: Arc::clone(api), kind, waiting };
    tokio::spawn(shutdown.run_until_cancelled_owned(async move { keeper.run().await }));
}

/// The policies whose present generation nobody looked at yet.
#[derive(Debug, Default)]
struct Waiting {
    names: Mutex<BTreeSet<String>>,
    more: Notify,
}

impl Waiting {
    fn add(&self, names: impl IntoIterator<Item = String>) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
        self.more.notify_one();
    }

    fn take(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.names.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Follower for Waiting {
    fn reset(&self, kind: &'static Kind, objects: Vec<Value>) {
        objects.iter().for_each(|object| self.put(kind, object));
    }

    fn put(&self, _kind: &'static Kind, object: &Value) {
        if !is_observed(object) {
            self.add([meta(object, "name").to_owned()]);
        }
    }

    fn remove(&self, _kind: &'static Kind, _object: &Value) {}
}

fn is_observed(policy: &Value) -> bool {
    policy["status"]["observedGeneration"].as_i64() >= policy["metadata"]["generation"].as_i64()
}

struct Keeper {
    api: Arc<Api>,
    kind: &'static Kind,
    waiting: Arc<Waiting>,
}

impl Keeper {
    async fn run(&self) {
        loop {
            self.waiting.more.notified().await;
            for name in self.waiting.take() {
                if let Err(error) = self.keep(&name).await {
                    tracing::warn!(policy = name, %error, "a policy's status is not written");
                    let waiting = Arc::clone(&self.waiting);
                    tokio::spawn(async move {
                        tokio::time::sleep(RETRY).await;
                        waiting.add([name]);
                    });
                }
            }
        }
    }

    async fn keep(&self, name: &str) -> Result<(), Status> {
        let user = User::server();
        let write = Write::of_server(&self.api, &user, self.kind, "", name)?;
        let mut write = Write {
            subresource: Some("status"),
            manager: MANAGER.to_owned(),
            validation: FieldValidation::Ignore,
            ..write
        };
        let change = |_: &mut Write<'_>, old: &Value| {
            let mut object = old.clone();
            metadata_mut(&mut object).insert("resourceVersion".to_owned(), WHATEVER.into());
            if !is_observed(old) {
                self.tell(&mut object);
            }
            Ok(Proposal { object, ownership: Ownership::Track })
        };
        match write.update(change, None).await {
            Err(status) if status.code == 404 => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    fn tell(&self, policy: &mut Value) {
        let params = self.params(policy);
        let warnings = type_check(policy, &self.types(policy), params.as_ref());
        let mut checked = json!({});
        if !warnings.is_empty() {
            checked["expressionWarnings"] = Value::Array(warnings);
        }
        if !policy["status"].is_object() {
            policy["status"] = json!({});
        }
        policy["status"]["observedGeneration"] = policy["metadata"]["generation"].clone();
        policy["status"]["typeChecking"] = checked;
    }

    /// The types of all resources that the policy's rules name, by group, version and kind.
    fn types(&self, policy: &Value) -> Vec<Typed> {
        let mut kinds: Vec<&'static Kind> = Vec::new();
        let rules = policy["spec"]["matchConstraints"]["resourceRules"].as_array().into_iter().flatten();
        let served = registry::kinds(&self.api);
        for rule in rules {
            let named = named_resources(rule);
            // A rule about the core group is about others with such a resource, too, as upstream finds kinds.
            let found = named.iter().flat_map(|(group, version, resource)| {
                served.iter().copied().filter(move |kind| {
                    kind.version == version
                        && kind.plural == resource
                        && (group.is_empty() || kind.group == group)
                })
            });
            let found: Vec<&'static Kind> = found.take(MAX_TYPES).collect();
            let is_full = found.len() == MAX_TYPES;
            kinds.extend(found);
            if is_full {
                break;
            }
        }
        kinds.sort_by_key(|kind| (kind.group, kind.version, kind.kind));
        kinds.dedup_by_key(|kind| (kind.group, kind.version, kind.kind));
        let typed = |kind: &Kind| {
            let name = format!("{}/{}, Kind={}", kind.group, kind.version, kind.kind);
            Some(Typed { name, declared: self.declared(kind)? })
        };
        kinds.into_iter().filter_map(typed).collect()
    }

    fn params(&self, policy: &Value) -> Option<Declared> {
        let wanted = &policy["spec"]["paramKind"];
        let kinds = registry::kinds(&self.api).into_iter();
        let kind = kinds
            .filter(|kind| wanted["kind"] == kind.kind && wanted["apiVersion"] == kind.api_version())
            .min_by_key(|kind| !kind.is_stored())?;
        self.declared(kind)
    }

    fn declared(&self, kind: &Kind) -> Option<Declared> {
        let props = match Shape::of(&self.api, kind).ok()? {
            Shape::Builtin(root) => plimsoll_schema::props(plimsoll_schema::builtin(), root),
            Shape::Custom(definition) => {
                let mut props = definition.props.clone()?;
                let schemas = plimsoll_schema::builtin();
                props["properties"]["apiVersion"] = json!({"type": "string"});
                props["properties"]["kind"] = json!({"type": "string"});
                props["properties"]["metadata"] = plimsoll_schema::props(schemas, schemas.lookup(META)?);
                props
            }
        };
        Declared::of_resource(&props, kind.kind)
    }
}
