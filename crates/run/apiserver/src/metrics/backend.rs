//! The store below the server, under etcd's names.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels;
use crate::server::Api;

pub(super) fn register(api: &Api, registry: &mut Registry) {
    api.store.register(registry);
    let Ok(stats) = api.store.stats() else { return };
    let storage: Family<labels::Cluster, Gauge> = Family::default();
    let cluster = labels::Cluster { storage_cluster_id: "etcd-0" };
    storage.get_or_create(&cluster).set(i64::try_from(stats.total).unwrap_or(i64::MAX));
    registry.register(
        "apiserver_storage_size_bytes",
        "[STABLE] Size of the storage database file physically allocated in bytes.",
        storage,
    );
}
