//! What only clients of etcd want to measure, under etcd's names.

use plimsoll_metrics::Histogram;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Etcd;

/// etcd's buckets of times to live: 1 second doubled.
const SECONDS: &[f64] = &[
    1.0,
    2.0,
    4.0,
    8.0,
    16.0,
    32.0,
    64.0,
    128.0,
    256.0,
    512.0,
    1024.0,
    2048.0,
    4096.0,
    8192.0,
    16384.0,
    32768.0,
    65536.0,
    131_072.0,
    262_144.0,
    524_288.0,
    1_048_576.0,
    2_097_152.0,
    4_194_304.0,
    8_388_608.0,
];

/// The distribution of times to live.
pub(super) fn lifetimes() -> Histogram {
    Histogram::new(SECONDS)
}

/// Adds the figures of this moment, beside those of the store.
pub(super) fn register(etcd: &Etcd, registry: &mut Registry) {
    etcd.store.register(registry);
    // `etcdctl check datascale` reads what the process takes.
    plimsoll_metrics::register_process(registry);
    for (name, help, value) in [
        ("etcd_server_has_leader", "Whether or not a leader exists. 1 is existence, 0 is not.", 1),
        ("etcd_server_is_leader", "Whether or not this member is a leader. 1 if is, 0 otherwise.", 1),
        ("etcd_debugging_mvcc_current_revision", "The current revision of store.", etcd.store.revision().0),
        (
            "etcd_debugging_mvcc_compact_revision",
            "The revision of the last compaction in store.",
            etcd.store.compacted().0,
        ),
    ] {
        let gauge: Gauge = Gauge::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    }
    let tally = etcd.store.lease_tally();
    for (name, help, value) in [
        ("etcd_server_leader_changes_seen", "The number of leader changes seen.", super::TERM),
        ("etcd_debugging_lease_granted", "The total number of granted leases.", tally.granted),
        ("etcd_debugging_lease_revoked", "The total number of revoked leases.", tally.revoked),
        ("etcd_debugging_lease_renewed", "The number of renewed leases seen by the leader.", tally.renewed),
    ] {
        let counter: Counter = Counter::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
    let lifetimes = etcd.member.lifetimes.clone();
    registry.register("etcd_debugging_lease_ttl_total", "Bucketed histogram of lease TTLs.", lifetimes);
}
