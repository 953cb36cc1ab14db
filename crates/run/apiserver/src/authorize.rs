//! What the asking user may do.
//!
//! [`crate::authorizers`] decides; here are the refusal that clients see, the policy that roles and
//! bindings make, kept current by a watch on the four kinds, and the rule that nobody grants more than
//! he has.

use std::sync::{Arc, RwLock};
use std::time::Instant;

use plimsoll_access::Decision;
use plimsoll_admission::MASTERS;
use plimsoll_admission::rbac::{Attributes, Policy, Rule, Who, uncovered};
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::{Status, qualified};
use plimsoll_store::Store;
use serde_json::Value;

use crate::audit;
use crate::authorizers::Verdict;
use crate::follow::{Follower, follow};
use crate::object::meta;
use crate::server::Api;
use crate::user::User;
use crate::write::Write;

const GROUP: &str = "rbac.authorization.k8s.io";
/// The kinds that make up the policy.
const KINDS: [&str; 4] = ["clusterroles", "clusterrolebindings", "roles", "rolebindings"];

/// The policy as of now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rbac(Arc<RwLock<Policy>>);

impl Rbac {
    /// Reads all roles and bindings and follows their changes.
    pub(crate) fn follow(store: &Store) -> Self {
        let rbac = Self::default();
        for kind in KINDS.iter().filter_map(|plural| plimsoll_catalogue::find(GROUP, "v1", plural)) {
            follow(store, kind, Arc::new(rbac.clone()));
        }
        rbac
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Policy> {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&Policy) -> T) -> T {
        look(&self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl Rbac {
    /// What roles and bindings say.
    pub(crate) fn decide(&self, user: &User, wanted: &Attributes<'_>) -> Decision {
        self.with(|policy| match policy.allows(who(user), wanted) {
            Some(reason) => Decision::Allow(reason),
            None => Decision::NoOpinion(policy.broken(who(user), wanted.namespace)),
        })
    }
}

impl Follower for Rbac {
    fn reset(&self, kind: &'static Kind, objects: Vec<Value>) {
        let mut policy = self.write();
        policy.remove_all(kind.kind);
        objects.iter().for_each(|object| policy.put(object));
    }

    fn put(&self, _kind: &'static Kind, object: &Value) {
        self.write().put(object);
    }

    fn remove(&self, kind: &'static Kind, object: &Value) {
        self.write().remove(kind.kind, meta(object, "namespace"), meta(object, "name"));
    }
}

fn who(user: &User) -> Who<'_> {
    Who { name: &user.name, groups: &user.groups }
}

fn is_master(user: &User) -> bool {
    user.groups.iter().any(|group| group == MASTERS)
}

/// Whether it is allowed.
pub(crate) async fn allowed(api: &Api, user: &User, wanted: &Attributes<'_>) -> bool {
    decide(api, user, wanted).await.is_allowed()
}

/// What the authorizers say together.
async fn decide(api: &Api, user: &User, wanted: &Attributes<'_>) -> Verdict {
    let since = Instant::now();
    let verdict = api.authorizers.decide(user, wanted).await;
    api.metrics.access.authorized(&verdict.decision, since.elapsed());
    verdict
}

/// The 403 that clients expect, unless it is allowed.
pub(crate) async fn require(api: &Api, user: &User, wanted: &Attributes<'_>) -> Result<(), Status> {
    let (decision, reason, outcome) = match decide(api, user, wanted).await.decision {
        Decision::Allow(reason) => ("allow", reason, Ok(())),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => {
            let refusal = refusal(user, wanted, &reason);
            ("forbid", reason, Err(refusal))
        }
    };
    audit::annotate("authorization.k8s.io/decision", decision);
    audit::annotate("authorization.k8s.io/reason", reason);
    outcome
}

/// The same without a word in the audit: for what is asked beside the request itself.
pub(crate) async fn ask(api: &Api, user: &User, wanted: &Attributes<'_>) -> Result<(), Status> {
    match api.authorizers.decide(user, wanted).await.decision {
        Decision::Allow(_) => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(refusal(user, wanted, &reason)),
    }
}

pub(crate) fn refusal(user: &User, wanted: &Attributes<'_>, reason: &str) -> Status {
    let because = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let Attributes { verb, group, resource, subresource, namespace, name, path, .. } = wanted;
    if resource.is_empty() {
        let cause = format!("User {:?} cannot {verb} path {path:?}{because}", user.name);
        return Status { details: serde_json::json!({}), ..Status::forbidden("", "", "", cause) };
    }
    let full =
        if subresource.is_empty() { (*resource).to_owned() } else { format!("{resource}/{subresource}") };
    let place = match namespace.is_empty() {
        true => "at the cluster scope".to_owned(),
        false => format!("in the namespace {namespace:?}"),
    };
    let cause = format!(
        "User {:?} cannot {verb} resource {full:?} in API group {group:?} {place}{because}",
        user.name
    );
    Status::forbidden(group, resource, name, cause)
}

/// The rules that roles give a user in a namespace.
fn rules(api: &Api, user: &User, namespace: &str) -> Vec<Rule> {
    api.rbac.with(|policy| policy.rules(who(user), namespace))
}

/// Nobody grants more than he has, unless he may `escalate` roles or `bind` them.
pub(crate) async fn escalation(write: &Write<'_>, object: &Value) -> Result<(), Status> {
    let (api, user) = (write.api, write.user);
    if is_master(user) {
        return Ok(());
    }
    let kind = write.kind;
    let namespace = write.namespace;
    let may = async |verb: &str, resource: &str, namespace: &str, name: &str| {
        let wanted = Attributes { verb, group: GROUP, resource, namespace, name, ..Attributes::default() };
        allowed(api, user, &wanted).await
    };
    let name = meta(object, "name");
    let wanted = if kind.kind.ends_with("Binding") {
        let role = object["roleRef"]["name"].as_str().unwrap_or_default();
        let (resource, scope) = match object["roleRef"]["kind"].as_str() {
            Some("Role") => ("roles", namespace),
            _ => ("clusterroles", ""),
        };
        if may("bind", resource, namespace, role).await {
            return Ok(());
        }
        let found = api.rbac.with(|policy| policy.role(scope, role).map(<[Rule]>::to_vec));
        found.ok_or_else(|| Status::not_found(GROUP, resource, role))?
    } else {
        if may("escalate", kind.plural, namespace, name).await {
            return Ok(());
        }
        Rule::read_all(object)
    };
    let missing = uncovered(&rules(api, user, namespace), &wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
    let cause = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        groups.join(" "),
        missing.join("\n")
    );
    tracing::debug!(resource = qualified(kind.group, kind.plural), "refused an escalation");
    Err(Status::forbidden(kind.group, kind.plural, name, cause))
}
