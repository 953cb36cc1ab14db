//! Keeps the records as the cluster's Services are.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use plimsoll_client::{Delta, Informer, Informers};
use plimsoll_netplan::dns::ServiceRecords;
use plimsoll_netplan::endpoints::{BY_SERVICE, service_index_value};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::excerpts::{ServiceExcerpt, SliceExcerpt, TellsService, TellsSlice};
use crate::{Copies, Shared};

type Key = (String, String);

/// Follows the informers; ends only with them.
pub(crate) async fn follow(informers: Informers, copies: Copies, shared: &Shared) {
    match copies {
        Copies::Shared => {
            let services = informers.informer::<Service>();
            run(shared, &services, &informers.informer::<EndpointSlice>()).await;
        }
        Copies::Own => {
            let services = informers.excerpts::<Service, ServiceExcerpt>();
            run(shared, &services, &informers.excerpts::<EndpointSlice, SliceExcerpt>()).await;
        }
    }
}

async fn run<S: TellsService, E: TellsSlice>(shared: &Shared, services: &Informer<S>, slices: &Informer<E>) {
    slices.add_index(BY_SERVICE, E::index);
    let (mut service_changes, mut slice_changes) = (services.subscribe(), slices.subscribe());
    services.synced().await;
    slices.synced().await;
    let mut dirty = HashSet::new();
    loop {
        gather(&mut service_changes, &mut dirty, service_key);
        gather(&mut slice_changes, &mut dirty, slice_key);
        // Not drained: the first time it holds all Services.
        for key in std::mem::take(&mut dirty) {
            update(shared, services, slices, &key);
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

fn update<S: TellsService, E: TellsSlice>(
    shared: &Shared,
    services: &Informer<S>,
    slices: &Informer<E>,
    key: &Key,
) {
    let (namespace, name) = key;
    let records = services.get(namespace, name).and_then(|service| {
        let slices = slices.indexed(BY_SERVICE, &service_index_value(namespace, name));
        Some(ServiceRecords::new(service.facts()?, slices.iter().map(|slice| slice.facts())))
    });
    shared.records.write().expect("no code under the lock panics").set(namespace, name, records);
}

fn service_key<S: TellsService>(service: &S) -> Option<Key> {
    Some((service.namespace().to_owned(), service.name().to_owned()))
}

fn slice_key<E: TellsSlice>(slice: &E) -> Option<Key> {
    Some((slice.namespace().to_owned(), slice.service()?.to_owned()))
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
