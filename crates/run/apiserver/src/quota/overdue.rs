//! Pods that should be gone and are not: from a time on quotas count them no more, and somebody has to look then.
//!
//! What enters are pods of namespaces with quotas, as they are written or counted; what leaves are the namespaces
//! whose quotas are to be counted anew. A pod that goes in time leads to nothing.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use plimsoll_admission::quota;
use plimsoll_catalogue::Kind;
use serde_json::Value;
use tokio::sync::Notify;

use super::{Written, quota_kind};
use crate::object::meta;
use crate::registry;
use crate::server::Api;

/// When to look, at which namespace, and the pod that it is about; none if it ended or went already, after its time.
type Look = (Timestamp, String, Option<String>);

/// When quotas are to be counted anew.
#[derive(Debug, Default)]
pub(crate) struct Overdue {
    looks: Mutex<BTreeSet<Look>>,
    first: Notify,
}

impl Overdue {
    /// A pod of a namespace with quotas is written.
    pub(crate) fn note(&self, namespace: &str, written: &Written<'_>, now: Timestamp) {
        match (written.old.and_then(quota::overdue), written.new) {
            // Its end takes nothing from what is used, which may count it still.
            (Some(end), new) if end < now && new.and_then(quota::overdue).is_none() => {
                self.add((now, namespace.to_owned(), None));
            }
            (_, Some(pod)) => self.expect(namespace, pod, now),
            (_, None) => {}
        }
    }

    /// A pod counts at `now`; if it is to end, it may not later.
    pub(super) fn expect(&self, namespace: &str, pod: &Value, now: Timestamp) {
        if let Some(end) = quota::overdue(pod).filter(|end| *end >= now) {
            self.add((end, namespace.to_owned(), Some(meta(pod, "name").to_owned())));
        }
    }

    /// Takes in the pods that were to end before this process began, or whose end another one was to look for.
    pub(super) fn remember(&self, api: &Api) {
        let namespaces: BTreeSet<String> =
            each(api, quota_kind(), "").map(|quota| meta(&quota, "namespace").to_owned()).collect();
        for namespace in namespaces {
            for pod in each(api, pod_kind(), &namespace) {
                // What became overdue while no process looked may be counted still.
                self.expect(&namespace, &pod, Timestamp::MIN);
            }
        }
    }

    /// Waits until quotas are to be counted anew, and gives their namespaces.
    pub(super) async fn due(&self, api: &Api) -> BTreeSet<String> {
        loop {
            let now = Timestamp::now();
            let (looks, next) = self.take(now);
            let there = |look: &Look| look.2.as_deref().is_none_or(|pod| is_there(api, &look.1, pod));
            let namespaces: BTreeSet<String> =
                looks.into_iter().filter(there).map(|(_, namespace, _)| namespace).collect();
            if !namespaces.is_empty() {
                return namespaces;
            }
            let wait = next.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
            tokio::select! {
                () = self.first.notified() => {}
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
    }

    /// What is due now, and when the next is.
    fn take(&self, now: Timestamp) -> (BTreeSet<Look>, Option<Timestamp>) {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let later = looks.split_off(&(now, String::new(), None));
        let next = later.first().map(|(at, ..)| *at);
        (std::mem::replace(&mut looks, later), next)
    }

    fn add(&self, look: Look) {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = looks.first().is_none_or(|first| look < *first);
        looks.insert(look);
        if is_first {
            self.first.notify_one();
        }
    }
}

fn pod_kind() -> &'static Kind {
    plimsoll_catalogue::find("", "v1", "pods").expect("pods are in the catalogue")
}

fn each(api: &Api, kind: &Kind, namespace: &str) -> impl Iterator<Item = Value> {
    let prefix = registry::prefix(kind, namespace).ok();
    let page = prefix.and_then(|prefix| api.store.range(&prefix, None, usize::MAX, None).ok());
    let entries = page.map(|page| page.entries).unwrap_or_default();
    entries.into_iter().filter_map(|entry| registry::stored(&entry).ok())
}

/// Whether a pod is there that should not be any more.
fn is_there(api: &Api, namespace: &str, name: &str) -> bool {
    let entry = pod_kind().key(namespace, name).and_then(|key| api.store.get(&key));
    let end = entry.and_then(|entry| registry::stored(&entry).ok()).as_ref().and_then(quota::overdue);
    end.is_some_and(|end| end < Timestamp::now())
}
