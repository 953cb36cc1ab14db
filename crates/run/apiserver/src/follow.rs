//! Keeps a picture of some kinds current: roles, definitions, webhooks, extension servers.
//!
//! What enters are a built-in kind and somebody who follows it; what leaves are all its objects at once, before
//! this returns, and each change after that in order. A follower that was too slow sees all objects again.

use std::sync::Arc;

use plimsoll_catalogue::Kind;
use plimsoll_store::{Event, EventKind, Revision, Store, StoreError, WatchEnd, WatchItem};
use serde_json::Value;

use crate::registry;

/// Somebody whose picture is kept current. Calls come one at a time for each kind, and must not wait.
pub(crate) trait Follower: Send + Sync + 'static {
    /// These are all objects of the kind; whatever else was known is gone.
    fn reset(&self, kind: &'static Kind, objects: Vec<Value>);

    /// An object is new or different.
    fn put(&self, kind: &'static Kind, object: &Value);

    /// An object is gone; this was its last state.
    fn remove(&self, kind: &'static Kind, object: &Value);
}

/// Shows all objects of `kind` to the follower, then every change, until the store closes.
pub(crate) fn follow(store: &Store, kind: &'static Kind, follower: Arc<dyn Follower>) {
    let revision = read(store, kind, &*follower);
    tokio::spawn(keep(store.clone(), kind, follower, revision));
}

fn read(store: &Store, kind: &'static Kind, follower: &dyn Follower) -> Revision {
    let page =
        registry::prefix(kind, "").ok().and_then(|prefix| store.range(&prefix, None, usize::MAX, None).ok());
    let Some(page) = page else { return store.revision() };
    let objects = page.entries.iter().filter_map(|entry| registry::served(kind, entry).ok()).collect();
    follower.reset(kind, objects);
    page.revision
}

async fn keep(store: Store, kind: &'static Kind, follower: Arc<dyn Follower>, mut revision: Revision) {
    let Ok(prefix) = registry::prefix(kind, "") else { return };
    loop {
        match store.watch(&prefix, Some(revision)) {
            Ok(mut watch) => loop {
                match watch.next().await {
                    Ok(WatchItem::Event(event)) => take(kind, &*follower, &event),
                    Err(WatchEnd::Closed) => return,
                    Err(_) => break,
                }
            },
            Err(StoreError::Closed) => return,
            Err(_) => {}
        }
        revision = read(&store, kind, &*follower);
    }
}

fn take(kind: &'static Kind, follower: &dyn Follower, event: &Event) {
    let Ok(object) = registry::served(kind, &event.entry) else { return };
    match event.kind {
        EventKind::Put => follower.put(kind, &object),
        EventKind::Delete => follower.remove(kind, &object),
    }
}
