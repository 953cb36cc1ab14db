//! Keeps the records as the cluster's Services are.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use plimsoll_client::{Delta, Informer, Informers};
use plimsoll_netplan::dns::ServiceRecords;
use plimsoll_netplan::endpoints::{BY_SERVICE, service_index, service_index_value, service_of};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::Shared;

type Key = (String, String);

/// Follows the informers; ends only with them.
pub(crate) async fn follow(informers: Informers, shared: &Shared) {
    let services = informers.informer::<Service>();
    let slices = informers.informer::<EndpointSlice>();
    slices.add_index(BY_SERVICE, service_index);
    let (mut service_changes, mut slice_changes) = (services.subscribe(), slices.subscribe());
    services.synced().await;
    slices.synced().await;
    let mut dirty = HashSet::new();
    loop {
        gather(&mut service_changes, &mut dirty, service_key);
        gather(&mut slice_changes, &mut dirty, slice_key);
        for key in dirty.drain() {
            update(shared, &services, &slices, &key);
        }
        shared.synced.store(true, Ordering::Release);
        let open = tokio::select! {
            delta = service_changes.recv() => delta.map(|delta| mark(delta, &mut dirty, service_key)),
            delta = slice_changes.recv() => delta.map(|delta| mark(delta, &mut dirty, slice_key)),
        };
        if open.is_none() {
            return;
        }
    }
}

fn update(shared: &Shared, services: &Informer<Service>, slices: &Informer<EndpointSlice>, key: &Key) {
    let (namespace, name) = key;
    let records = services.get(namespace, name).and_then(|service| {
        let slices = slices.indexed(BY_SERVICE, &service_index_value(namespace, name));
        ServiceRecords::of(&service, slices.iter().map(Arc::as_ref))
    });
    shared.records.write().expect("no code under the lock panics").set(namespace, name, records);
}

fn service_key(service: &Service) -> Option<Key> {
    Some((service.metadata.namespace.clone()?, service.metadata.name.clone()?))
}

fn slice_key(slice: &EndpointSlice) -> Option<Key> {
    Some((slice.metadata.namespace.clone()?, service_of(slice)?.to_owned()))
}

fn gather<K>(
    changes: &mut UnboundedReceiver<Delta<K>>,
    dirty: &mut HashSet<Key>,
    key: impl Fn(&K) -> Option<Key>,
) {
    while let Ok(delta) = changes.try_recv() {
        mark(delta, dirty, &key);
    }
}

/// Adds the Services that a change is about, before and after it.
fn mark<K>(delta: Delta<K>, dirty: &mut HashSet<Key>, key: impl Fn(&K) -> Option<Key>) {
    match delta {
        Delta::Applied { old, new } => {
            dirty.extend(old.iter().chain([&new]).filter_map(|object| key(object)))
        }
        Delta::Deleted(last) => dirty.extend(key(&last)),
        Delta::Synced => {}
    }
}
