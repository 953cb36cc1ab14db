//! Names rest when what bore them is gone, if somebody may be waiting for its end.
//!
//! `kubectl delete` reads what it deletes and then lists and watches for its end. If another object takes the
//! name between the two, it waits for ever. Where an object's end and its replacement take seconds that hardly
//! happens; here they take milliseconds. So an object that was deleted in two steps (first marked, later gone)
//! is followed by another of its name after [`REST`] at the earliest, unless who deleted it makes that other one and so
//! has done with waiting. What the cluster itself deletes, as in a rollout, is replaced at once: its parts know
//! objects by their uids.
//!
//! What enters are deletions; what leaves is when a name may be taken again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::object::meta;
use crate::user::User;

/// Longer than a client takes for two requests, one after the other, from far away.
pub(crate) const REST: Duration = Duration::from_secs(1);

/// The names that rest, and those that will.
#[derive(Debug, Default)]
pub(crate) struct Rests(Mutex<Names>);

#[derive(Debug, Default)]
struct Names {
    /// By the uids of marked objects, who may await their end.
    awaited: HashMap<String, String>,
    /// Until when keys rest, and for whom they do not.
    resting: HashMap<String, (Instant, String)>,
}

impl Rests {
    /// A user is about to mark an object as deleted.
    pub(crate) fn mark(&self, user: &User, object: &Value) {
        if may_wait(&user.name) {
            self.names().awaited.insert(meta(object, "uid").to_owned(), user.name.clone());
        }
    }

    /// The object of a key is about to go.
    pub(crate) fn begin(&self, key: &str, object: &Value) {
        let mut names = self.names();
        if let Some(user) = names.awaited.remove(meta(object, "uid")) {
            let now = Instant::now();
            names.resting.retain(|_, (until, _)| *until > now);
            names.resting.insert(key.to_owned(), (now + REST, user));
        }
    }

    /// Returns when a user may take a key.
    pub(crate) async fn end(&self, key: &str, user: &User) {
        let resting = self.names().resting.get(key).cloned();
        if let Some((until, _)) = resting.filter(|(_, waiter)| *waiter != user.name) {
            tokio::time::sleep_until(until).await;
        }
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a user may be a person, or a program that waits as one does: not a part of the cluster.
fn may_wait(name: &str) -> bool {
    match name.strip_prefix("system:serviceaccount:") {
        Some(account) => !account.starts_with("kube-system:"),
        None => !name.starts_with("system:"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn names_rest_when_their_end_may_be_awaited() {
        let object = json!({"metadata": {"uid": "1"}});
        let maker = User::authenticated("system:kube-controller-manager", &[]);
        for (user, rests) in [
            ("kubernetes-admin", true),
            ("system:serviceaccount:default:deployer", true),
            ("system:serviceaccount:kube-system:statefulset-controller", false),
            ("system:kube-controller-manager", false),
            ("system:node:n", false),
        ] {
            let names = Rests::default();
            names.mark(&User::authenticated(user, &[]), &object);
            let start = Instant::now();
            names.end("/registry/pods/a/web-0", &maker).await;
            assert_eq!(start.elapsed(), Duration::ZERO, "{user}: it has not gone");
            names.begin("/registry/pods/a/web-0", &object);
            names.end("/registry/pods/a/web-1", &maker).await;
            assert_eq!(start.elapsed(), Duration::ZERO, "{user}: another name");
            names.end("/registry/pods/a/web-0", &User::authenticated(user, &[])).await;
            assert_eq!(start.elapsed(), Duration::ZERO, "{user}: who deleted it makes it again");
            names.end("/registry/pods/a/web-0", &maker).await;
            assert_eq!(start.elapsed(), if rests { REST } else { Duration::ZERO }, "{user}");
            assert!(names.names().awaited.is_empty());
        }
    }
}
