//! All controllers, a row each, under upstream's names.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::executor::Executor;
use crate::unit::Unit;
use crate::units;
use crate::{Context, Error};

type Start = fn(&Arc<Context>, CancellationToken) -> Result<BoxFuture<'static, ()>, Error>;

/// A controller and how to start it.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) start: Start,
}

/// Declares a row: a controller's name, the source that its Events name, and what builds its unit.
macro_rules! row {
    ($name:literal, $component:literal, $build:path) => {
        Row {
            name: $name,
            start: |context, shutdown| {
                let executor = Executor::new(context.client.clone(), $component);
                let unit: Unit = $build(context, Unit::new($name, executor))?;
                Ok(unit.run(shutdown).boxed())
            },
        }
    };
}

/// Every controller there is.
pub(crate) const ROWS: &[Row] = &[
    row!("deployment-controller", "deployment-controller", units::deployment::build),
    row!("replicaset-controller", "replicaset-controller", units::replicaset::build),
    row!("replicationcontroller-controller", "replication-controller", units::replication::build),
    row!("job-controller", "job-controller", units::job::build),
    row!("daemonset-controller", "daemonset-controller", units::daemon_set::build),
    row!("statefulset-controller", "statefulset-controller", units::stateful_set::build),
    row!("cronjob-controller", "cronjob-controller", units::cron_job::build),
    row!("ttl-after-finished-controller", "ttl-after-finished-controller", units::cron_job::ended),
    row!("disruption-controller", "controllermanager", units::disruption::build),
    row!("endpointslice-controller", "endpoint-slice-controller", units::endpoints::slices),
    row!("endpoints-controller", "endpoint-controller", units::endpoints::lists),
    row!("serviceaccount-controller", "serviceaccount-controller", units::service_account::account),
    row!(
        "root-ca-certificate-publisher-controller",
        "root-ca-cert-publisher",
        units::service_account::authority
    ),
    row!("namespace-controller", "namespace-controller", units::namespace::build),
    row!("garbage-collector-controller", "garbage-collector-controller", units::garbage::build),
    row!("node-lifecycle-controller", "node-controller", units::node::lifecycle),
    row!("node-ipam-controller", "cidrAllocator", units::node::ranges),
    row!("taint-eviction-controller", "taint-eviction-controller", units::node::taints),
    row!("clusterrole-aggregation-controller", "clusterrole-aggregation-controller", units::access::roles),
    row!("token-cleaner-controller", "token-cleaner", units::access::tokens),
    row!("serviceaccount-token-controller", "serviceaccount-token-controller", units::certificates::tokens),
    row!(
        "legacy-serviceaccount-token-cleaner-controller",
        "legacy-service-account-token-cleaner",
        units::certificates::unused_tokens
    ),
    row!(
        "certificatesigningrequest-approving-controller",
        "certificate-controller",
        units::certificates::approving
    ),
    row!(
        "certificatesigningrequest-signing-controller",
        "certificate-controller",
        units::certificates::signing
    ),
    row!(
        "certificatesigningrequest-cleaner-controller",
        "certificate-controller",
        units::certificates::cleaning
    ),
    row!("pod-garbage-collector-controller", "pod-garbage-collector", units::node::lost_pods),
];

/// The names of all controllers.
pub fn names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.name)
}
