//! The webhooks that are registered now, ready to be called.
//!
//! Follows both kinds of configurations and reads them once, when they change. A request that no webhook
//! wants costs a look at their rules.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use http::Uri;
use plimsoll_admission::plugins::{Plugin, Plugins};
use plimsoll_admission::policy::{Conditions, Match};
use plimsoll_admission::webhook::{Hook, hooks};
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use plimsoll_remote::{Authorities, Remote, client_tls};
use plimsoll_store::Store;
use serde_json::Value;

use super::expressions::{Scene, answered};
use super::seen::Seen;
use super::subject::Subject;
use crate::follow::{Follower, follow};
use crate::object::meta;
use crate::reach::ServiceNames;

const GROUP: &str = "admissionregistration.k8s.io";
const KINDS: [(Plugin, &str); 2] = [
    (Plugin::MutatingAdmissionWebhook, "mutatingwebhookconfigurations"),
    (Plugin::ValidatingAdmissionWebhook, "validatingwebhookconfigurations"),
];
/// Longest answer of a webhook that is taken, in bytes: a patch may hold the largest object several times.
const LIMIT: usize = 16 << 20;

/// A webhook and the way to it.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) hook: Hook,
    /// What else must hold of a request.
    pub(crate) conditions: Conditions,
    /// With the time that it has.
    pub(crate) url: String,
    /// The client, or why there can be none.
    pub(crate) way: Result<(Remote, Uri), String>,
}

impl Ready {
    /// Whether the webhook's conditions hold for a request.
    ///
    /// # Errors
    /// The 403 of a condition that failed, unless failures are ignored.
    pub(crate) async fn wants(
        &self,
        subject: &Subject<'_>,
        seen: &Seen,
        object: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<bool, Status> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        let (shown, before) =
            (seen.show_present(subject, object).await?, seen.show_present(subject, old).await?);
        let scene = Scene::new(subject, seen, object, old);
        let run = |authorizer: &dyn plimsoll_cel::Authorizer| {
            let input = scene.input(shown.as_deref(), before.as_deref(), &Value::Null, authorizer);
            self.conditions.hold(input, self.hook.failure_policy)
        };
        match answered(subject, run).await {
            Match::Yes => Ok(true),
            Match::No => Ok(false),
            Match::Failed(error) => {
                let attributes = subject.attributes(object, old);
                let resource = attributes.target.resource;
                Err(Status::forbidden(resource.group, resource.resource, attributes.name, error))
            }
        }
    }
}

/// All webhooks of one kind, in the order of their calls.
pub(crate) type Registered = Arc<[Ready]>;

/// Both kinds of webhooks.
#[derive(Debug)]
pub(crate) struct Hooks {
    mutating: Side,
    validating: Side,
    clients: Clients,
}

#[derive(Debug, Default)]
struct Side {
    configurations: Mutex<BTreeMap<String, Value>>,
    ready: RwLock<Registered>,
}

impl Hooks {
    /// Reads all configurations and follows their changes, as far as the plugins are on.
    pub(crate) fn follow(store: &Store, plugins: &Plugins) -> Arc<Self> {
        let clients = Clients { names: Arc::new(ServiceNames(store.clone())), known: Mutex::default() };
        let hooks = Arc::new(Self { mutating: Side::default(), validating: Side::default(), clients });
        for (_, plural) in KINDS.into_iter().filter(|(plugin, _)| plugins.has(*plugin)) {
            if let Some(kind) = plimsoll_catalogue::find(GROUP, "v1", plural) {
                follow(store, kind, Arc::clone(&hooks) as Arc<dyn Follower>);
            }
        }
        hooks
    }

    /// Those that may change objects.
    pub(crate) fn mutating(&self) -> Registered {
        self.mutating.ready()
    }

    /// Those that only say yes or no.
    pub(crate) fn validating(&self) -> Registered {
        self.validating.ready()
    }

    fn side(&self, kind: &Kind) -> &Side {
        if kind.kind == "MutatingWebhookConfiguration" { &self.mutating } else { &self.validating }
    }

    fn change(&self, kind: &Kind, change: impl FnOnce(&mut BTreeMap<String, Value>)) {
        let side = self.side(kind);
        let mut configurations = side.configurations.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut configurations);
        let ready = hooks(configurations.values()).into_iter().map(|hook| self.clients.ready(hook)).collect();
        *side.ready.write().unwrap_or_else(PoisonError::into_inner) = ready;
    }
}

impl Side {
    fn ready(&self) -> Registered {
        Arc::clone(&self.ready.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Follower for Hooks {
    fn reset(&self, kind: &'static Kind, objects: Vec<Value>) {
        self.change(kind, |known| {
            *known = objects.into_iter().map(|object| (meta(&object, "name").to_owned(), object)).collect();
        });
    }

    fn put(&self, kind: &'static Kind, object: &Value) {
        self.change(kind, |known| drop(known.insert(meta(object, "name").to_owned(), object.clone())));
    }

    fn remove(&self, kind: &'static Kind, object: &Value) {
        self.change(kind, |known| drop(known.remove(meta(object, "name"))));
    }
}

/// Clients by whom they trust: webhooks that trust the same share one, and its connections.
struct Clients {
    names: Arc<ServiceNames>,
    known: Mutex<HashMap<Authorities, Remote>>,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clients")
    }
}

impl Clients {
    fn ready(&self, hook: Hook) -> Ready {
        let url = hook.location.url_within(hook.timeout);
        let way = self.way(&hook, &url);
        let conditions = Conditions::of_webhook(hook.conditions.clone());
        Ready { hook, conditions, url, way }
    }

    fn way(&self, hook: &Hook, url: &str) -> Result<(Remote, Uri), String> {
        let uri: Uri = url.parse().map_err(|error| format!("Unparsable URL: {error}"))?;
        let authorities = match hook.location.authorities.is_empty() {
            true => Authorities::System,
            false => Authorities::Bundle(hook.location.authorities.clone()),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(remote) = known.get(&authorities) {
            return Ok((remote.clone(), uri));
        }
        let tls = client_tls(&authorities, None).map_err(|error| error.to_string())?;
        let remote = Remote::new(tls, Arc::clone(&self.names) as Arc<dyn plimsoll_remote::Resolve>, LIMIT);
        known.insert(authorities, remote.clone());
        Ok((remote, uri))
    }
}
