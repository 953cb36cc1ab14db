//! Extension API servers: groups that others serve, behind the same address and the same authorization.
//!
//! What enters are APIServices; those that name a Service take the requests of their group version
//! ([`proxy`]), are asked now and then whether they answer ([`availability`]), and appear in discovery
//! ([`discovery`]) and documents ([`openapi`]). Every group version of this server's own has an APIService, too ([`local`]).

pub(crate) mod availability;
mod backends;
pub(crate) mod discovery;
mod inquiry;
pub(crate) mod local;
pub(crate) mod openapi;
pub(crate) mod proxy;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use plimsoll_catalogue::Kind;
use plimsoll_remote::{Authorities, Identity, Remote, Resolve, client_tls};
use plimsoll_store::Store;
use serde_json::Value;
use tokio::sync::Notify;

pub(crate) use discovery::Offers;

use crate::follow::{Follower, follow};
use crate::object::meta;
use crate::reach::ServiceNames;
use crate::tunnel::Wires;

/// The largest document that an extension server may answer to discovery, in bytes.
const DOCUMENT: usize = 16 << 20;

/// The extension servers of now.
pub(crate) struct Aggregator {
    extensions: RwLock<Arc<BTreeMap<String, Arc<Extension>>>>,
    /// What they last said of themselves, by the name of the APIService.
    documents: Mutex<Arc<BTreeMap<String, Value>>>,
    /// What they last published of their kinds, by the same name.
    published: Mutex<BTreeMap<String, openapi::Published>>,
    identity: Identity,
    names: Arc<dyn Resolve>,
    changed: Notify,
    /// Woken when one becomes available, or another server serves it.
    came: Notify,
}

/// An APIService that names a Service.
pub(crate) struct Extension {
    /// `VERSION.GROUP`.
    name: String,
    group: String,
    version: String,
    group_priority: i64,
    version_priority: i64,
    /// `spec`, to see whether it changed.
    spec: Value,
    namespace: String,
    service: String,
    port: u16,
    available: bool,
    /// How it is reached, or why it cannot be.
    reach: Result<Arc<Reach>, String>,
}

/// Whom to trust there, ready for use.
struct Reach {
    streams: Wires,
    documents: Remote,
}

impl fmt::Debug for Aggregator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aggregator")
    }
}

impl Aggregator {
    /// Reads all APIServices and follows their changes. `identity` proves to extension servers that a
    /// request comes from here.
    pub(crate) fn follow(store: &Store, identity: Identity) -> Arc<Self> {
        let aggregator = Arc::new(Self {
            extensions: RwLock::default(),
            documents: Mutex::default(),
            published: Mutex::default(),
            identity,
            names: Arc::new(ServiceNames(store.clone())),
            changed: Notify::new(),
            came: Notify::new(),
        });
        if let Some(kind) = plimsoll_catalogue::find("apiregistration.k8s.io", "v1", "apiservices") {
            follow(store, kind, Arc::clone(&aggregator) as Arc<dyn Follower>);
        }
        aggregator
    }

    fn extensions(&self) -> Arc<BTreeMap<String, Arc<Extension>>> {
        Arc::clone(&self.extensions.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who serves a group version, if it is not this server.
    pub(crate) fn find(&self, group: &str, version: &str) -> Option<Arc<Extension>> {
        let extensions = self.extensions();
        if extensions.is_empty() {
            return None;
        }
        extensions.get(&format!("{version}.{group}")).cloned()
    }

    fn change(&self, edit: impl FnOnce(&mut BTreeMap<String, Arc<Extension>>)) {
        let mut guard = self.extensions.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = BTreeMap::clone(&guard);
        edit(&mut next);
        *guard = Arc::new(next);
    }

    /// The extension that an APIService describes; one that is known already keeps its connections.
    fn extension(&self, object: &Value, known: Option<&Extension>) -> Option<Extension> {
        let spec = &object["spec"];
        let service = spec["service"].as_object()?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let named = |field: &str| service.get(field).map(text).unwrap_or_default();
        let port = service.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let reach = match known.filter(|known| known.spec == *spec) {
            Some(known) => known.reach.clone(),
            None => self.reach(spec).map(Arc::new),
        };
        Some(Extension {
            name: meta(object, "name").to_owned(),
            group: text(&spec["group"]),
            version: text(&spec["version"]),
            group_priority: spec["groupPriorityMinimum"].as_i64().unwrap_or(0),
            version_priority: spec["versionPriority"].as_i64().unwrap_or(0),
            spec: spec.clone(),
            namespace: named("namespace"),
            service: named("name"),
            port: port.unwrap_or(443),
            available: conditions.any(|one| one["type"] == "Available" && one["status"] == "True"),
            reach,
        })
    }

    fn reach(&self, spec: &Value) -> Result<Reach, String> {
        let bundle = spec["caBundle"].as_str().unwrap_or_default();
        let authorities = if spec["insecureSkipTLSVerify"] == true {
            Authorities::Anybody
        } else if bundle.is_empty() {
            Authorities::System
        } else {
            Authorities::Bundle(STANDARD.decode(bundle).map_err(|error| format!("caBundle: {error}"))?)
        };
        let tls = client_tls(&authorities, Some(&self.identity)).map_err(|error| error.to_string())?;
        let documents = Remote::new(tls.clone(), Arc::clone(&self.names), DOCUMENT);
        Ok(Reach { streams: Wires(Arc::new(tls)), documents })
    }

    /// Learns an APIService; true when something else than its status changed.
    fn take(&self, object: &Value) -> bool {
        let name = meta(object, "name");
        let known = self.extensions().get(name).cloned();
        let next = self.extension(object, known.as_deref());
        let changed = known.as_ref().map(|known| &known.spec) != next.as_ref().map(|next| &next.spec);
        let was_there = known.as_ref().is_some_and(|known| known.available) && !changed;
        let comes = next.as_ref().is_some_and(|next| next.available) && !was_there;
        if next.is_none() {
            self.forget(name);
        }
        if known.is_some() || next.is_some() {
            self.change(|all| match next {
                Some(next) => drop(all.insert(name.to_owned(), Arc::new(next))),
                None => drop(all.remove(name)),
            });
        }
        if comes {
            self.came.notify_one();
        }
        changed
    }

    /// Nobody serves what this APIService named.
    fn forget(&self, name: &str) {
        self.change_documents(|documents| drop(documents.remove(name)));
        self.published.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

impl Follower for Aggregator {
    fn reset(&self, _kind: &'static Kind, objects: Vec<Value>) {
        self.change(BTreeMap::clear);
        for object in &objects {
            self.take(object);
        }
        self.changed.notify_one();
    }

    fn put(&self, _kind: &'static Kind, object: &Value) {
        // The answer to an availability check is a change, too, and must not lead to the next check.
        if self.take(object) {
            self.changed.notify_one();
        }
    }

    fn remove(&self, _kind: &'static Kind, object: &Value) {
        let name = meta(object, "name");
        self.change(|all| drop(all.remove(name)));
        self.forget(name);
    }
}
