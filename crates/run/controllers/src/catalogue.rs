//! All controllers, a row each, under upstream's names.
//!
//! A row is: the name; the source that its Events name; what builds its unit (inputs and decision, in `units/`); and
//! what it writes. What a row does not declare the executor refuses, so a declaration cannot lie, and start-up
//! refuses two controllers that own the same. To write one:
//!
//! - `makes("v1/pods").of("ReplicaSets")`: it creates pods; `of` names the part of them that is its own, where
//!   several controllers make such objects.
//! - `status("apps/v1/replicasets/status")`: it writes the status.
//! - `changes("v1/nodes", &["spec.taints"])`: it patches these fields and what is below them; a subresource stands
//!   behind the kind (`v1/pods/status`; `*/scale` is that of every kind), `"*"` are all fields (what `Action::Replace` needs).
//! - `removes("v1/pods")`: it deletes; many may.
//! - `.shared()`: others write there, too (entries of a list that are their own, say).
//!
//! `cargo xtask graph` prints inputs and outputs of all of them.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::executor::Executor;
use crate::output::{Output, changes, makes, removes, status};
use crate::unit::Unit;
use crate::units;
use crate::{Context, Error};

/// Builds a unit out of an empty one.
type Build = fn(&Context, Unit) -> Result<Unit, Error>;

/// A controller, how it is built and what it writes.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    component: &'static str,
    build: Build,
    pub(crate) outputs: &'static [Output],
}

impl Row {
    /// Its unit, ready to run.
    pub(crate) fn unit(&self, context: &Context) -> Result<Unit, Error> {
        let executor = Executor::new(context.client.clone(), self.component, self.name, self.outputs)
            .within(context.config.term.clone());
        let queue = context.config.metrics.queue(self.name);
        (self.build)(context, Unit::new(self.name, executor, queue, context.config.workers(self.name)))
    }

    /// Runs it until `shutdown`.
    pub(crate) fn start(
        &self,
        context: &Arc<Context>,
        shutdown: CancellationToken,
    ) -> Result<impl Future<Output = ()> + Send + use<>, Error> {
        Ok(self.unit(context)?.run(shutdown))
    }
}

/// Declares a row: a controller's name, the source that its Events name, what builds its unit, what it writes.
macro_rules! row {
    ($name:literal, $component:literal, $build:path, [$($output:expr),* $(,)?]) => {
        Row { name: $name, component: $component, build: $build, outputs: &[$($output),*] }
    };
}

/// Every controller there is.
pub(crate) const ROWS: &[Row] = &[
    row!(
        "deployment-controller",
        "deployment-controller",
        units::deployment::build,
        [
            changes("apps/v1/deployments/status", &["status", "metadata.annotations"]),
            changes("apps/v1/deployments", &["metadata.annotations", "spec.template"]),
            makes("apps/v1/replicasets"),
            changes(
                "apps/v1/replicasets",
                &[
                    "metadata.annotations",
                    "metadata.ownerReferences",
                    "spec.replicas",
                    "spec.minReadySeconds"
                ]
            ),
            removes("apps/v1/replicasets"),
        ]
    ),
    row!(
        "replicaset-controller",
        "replicaset-controller",
        units::replicaset::build,
        [
            status("apps/v1/replicasets/status"),
            makes("v1/pods").of("ReplicaSets"),
            changes("v1/pods", &["metadata.ownerReferences"]).of("ReplicaSets"),
            removes("v1/pods"),
        ]
    ),
    row!(
        "replicationcontroller-controller",
        "replication-controller",
        units::replication::build,
        [
            status("v1/replicationcontrollers/status"),
            makes("v1/pods").of("ReplicationControllers"),
            changes("v1/pods", &["metadata.ownerReferences"]).of("ReplicationControllers"),
            removes("v1/pods"),
        ]
    ),
    row!(
        "job-controller",
        "job-controller",
        units::job::build,
        [
            status("batch/v1/jobs/status"),
            makes("v1/pods").of("Jobs"),
            changes("v1/pods", &["metadata.ownerReferences", "metadata.finalizers"]).of("Jobs"),
            removes("v1/pods"),
        ]
    ),
    row!(
        "daemonset-controller",
        "daemonset-controller",
        units::daemon_set::build,
        [
            status("apps/v1/daemonsets/status"),
            makes("v1/pods").of("DaemonSets"),
            changes("v1/pods", &["metadata.ownerReferences", "metadata.labels"]).of("DaemonSets"),
            removes("v1/pods"),
            makes("apps/v1/controllerrevisions").of("DaemonSets"),
            changes("apps/v1/controllerrevisions", &["revision", "metadata"]).of("DaemonSets"),
            removes("apps/v1/controllerrevisions"),
        ]
    ),
    row!(
        "statefulset-controller",
        "statefulset-controller",
        units::stateful_set::build,
        [
            status("apps/v1/statefulsets/status"),
            makes("v1/pods").of("StatefulSets"),
            changes("v1/pods", &["metadata.ownerReferences", "metadata.labels"]).of("StatefulSets"),
            removes("v1/pods"),
            makes("v1/persistentvolumeclaims").of("StatefulSets"),
            changes("v1/persistentvolumeclaims", &["metadata.ownerReferences"]).of("StatefulSets"),
            makes("apps/v1/controllerrevisions").of("StatefulSets"),
            changes("apps/v1/controllerrevisions", &["revision", "metadata"]).of("StatefulSets"),
            removes("apps/v1/controllerrevisions"),
        ]
    ),
    row!(
        "cronjob-controller",
        "cronjob-controller",
        units::cron_job::build,
        [status("batch/v1/cronjobs/status"), makes("batch/v1/jobs").of("CronJobs"), removes("batch/v1/jobs"),]
    ),
    row!(
        "ttl-after-finished-controller",
        "ttl-after-finished-controller",
        units::cron_job::ended,
        [removes("batch/v1/jobs"),]
    ),
    row!(
        "disruption-controller",
        "controllermanager",
        units::disruption::build,
        [
            status("policy/v1/poddisruptionbudgets/status"),
            changes("v1/pods/status", &["status.conditions"]).of("spared pods"),
        ]
    ),
    row!(
        "endpointslice-controller",
        "endpoint-slice-controller",
        units::endpoints::slices,
        [
            makes("discovery.k8s.io/v1/endpointslices").of("Services"),
            changes("discovery.k8s.io/v1/endpointslices", &["endpoints", "ports", "metadata"]).of("Services"),
            removes("discovery.k8s.io/v1/endpointslices"),
        ]
    ),
    row!(
        "endpoints-controller",
        "endpoint-controller",
        units::endpoints::lists,
        [
            makes("v1/endpoints"),
            changes("v1/endpoints", &["subsets", "metadata.annotations", "metadata.labels"]),
            removes("v1/endpoints"),
        ]
    ),
    row!(
        "endpointslice-mirroring-controller",
        "endpoint-slice-mirroring-controller",
        units::endpoints::mirrored,
        [
            makes("discovery.k8s.io/v1/endpointslices").of("Endpoints"),
            changes("discovery.k8s.io/v1/endpointslices", &["endpoints", "ports", "metadata"])
                .of("Endpoints"),
            removes("discovery.k8s.io/v1/endpointslices"),
        ]
    ),
    row!(
        "resourceclaim-controller",
        "resource_claim",
        units::resource_claim::build,
        [
            makes("resource.k8s.io/v1/resourceclaims").of("pods"),
            status("resource.k8s.io/v1/resourceclaims/status"),
            changes("resource.k8s.io/v1/resourceclaims", &["metadata.finalizers"]),
            changes("v1/pods/status", &["status.resourceClaimStatuses"]),
            removes("resource.k8s.io/v1/resourceclaims"),
        ]
    ),
    row!(
        "device-taint-eviction-controller",
        "device-taint-eviction",
        units::resource_claim::device_taints,
        [
            changes("v1/pods/status", &["status.conditions"]).of("tainted devices"),
            removes("v1/pods"),
            status("resource.k8s.io/v1/devicetaintrules/status")
        ]
    ),
    row!(
        "serviceaccount-controller",
        "serviceaccount-controller",
        units::service_account::account,
        [makes("v1/serviceaccounts").of("namespaces"),]
    ),
    row!(
        "root-ca-certificate-publisher-controller",
        "root-ca-cert-publisher",
        units::service_account::authority,
        [
            makes("v1/configmaps").of("kube-root-ca.crt"),
            changes("v1/configmaps", &["data", "metadata.annotations"]).of("kube-root-ca.crt"),
        ]
    ),
    row!(
        "namespace-controller",
        "namespace-controller",
        units::namespace::build,
        [status("v1/namespaces/status"), changes("v1/namespaces/finalize", &["*"]), removes("*"),]
    ),
    row!(
        "garbage-collector-controller",
        "garbage-collector-controller",
        units::garbage::build,
        [changes("*", &["metadata.ownerReferences", "metadata.finalizers"]).shared(), removes("*"),]
    ),
    row!(
        "node-lifecycle-controller",
        "node-controller",
        units::node::lifecycle,
        [
            changes("v1/nodes/status", &["status.conditions"]),
            changes("v1/nodes", &["spec.taints", "metadata.labels"]),
            changes("v1/pods/status", &["status.conditions"]).of("silent nodes"),
        ]
    ),
    row!(
        "node-ipam-controller",
        "cidrAllocator",
        units::node::ranges,
        [changes("v1/nodes", &["spec.podCIDR", "spec.podCIDRs"]),]
    ),
    row!(
        "taint-eviction-controller",
        "taint-eviction-controller",
        units::node::taints,
        [changes("v1/pods/status", &["status.conditions"]).of("tainted nodes"), removes("v1/pods"),]
    ),
    row!(
        "clusterrole-aggregation-controller",
        "clusterrole-aggregation-controller",
        units::access::roles,
        [changes("rbac.authorization.k8s.io/v1/clusterroles", &["rules"]),]
    ),
    row!(
        "bootstrap-signer-controller",
        "bootstrap-signer",
        units::access::signatures,
        [changes("v1/configmaps", &["data"]).of("cluster-info")]
    ),
    row!(
        "storage-version-migrator-controller",
        "storage-version-migrator-controller",
        units::storage_migration::build,
        [status("storagemigration.k8s.io/v1/storageversionmigrations/status")]
    ),
    row!(
        "ttl-controller",
        "ttl-controller",
        units::node::lifetimes,
        [changes("v1/nodes", &["metadata.annotations"])]
    ),
    row!("token-cleaner-controller", "token-cleaner", units::access::tokens, [removes("v1/secrets")]),
    row!(
        "serviceaccount-token-controller",
        "serviceaccount-token-controller",
        units::certificates::tokens,
        [
            changes("v1/secrets", &["data", "metadata.annotations"]).of("service accounts"),
            removes("v1/secrets"),
        ]
    ),
    row!(
        "legacy-serviceaccount-token-cleaner-controller",
        "legacy-service-account-token-cleaner",
        units::certificates::unused_tokens,
        [changes("v1/secrets", &["metadata.labels"]).of("service accounts"), removes("v1/secrets")]
    ),
    row!(
        "certificatesigningrequest-approving-controller",
        "certificate-controller",
        units::certificates::approving,
        [changes("certificates.k8s.io/v1/certificatesigningrequests/approval", &["status.conditions"])]
    ),
    row!(
        "certificatesigningrequest-signing-controller",
        "certificate-controller",
        units::certificates::signing,
        [status("certificates.k8s.io/v1/certificatesigningrequests/status")]
    ),
    row!(
        "certificatesigningrequest-cleaner-controller",
        "certificate-controller",
        units::certificates::cleaning,
        [removes("certificates.k8s.io/v1/certificatesigningrequests")]
    ),
    row!(
        "pod-garbage-collector-controller",
        "pod-garbage-collector",
        units::node::lost_pods,
        [
            changes("v1/pods/status", &["status.conditions", "status.phase"]).of("lost nodes"),
            removes("v1/pods"),
        ]
    ),
    row!(
        "persistentvolume-binder-controller",
        "persistentvolume-controller",
        units::persistent_volume::binder,
        [
            changes("v1/persistentvolumes", &["spec.claimRef", "metadata.annotations"]),
            status("v1/persistentvolumes/status"),
            changes(
                "v1/persistentvolumeclaims",
                &["spec.volumeName", "spec.storageClassName", "metadata.annotations"]
            )
            .of("bindings"),
            status("v1/persistentvolumeclaims/status").of("bindings"),
        ]
    ),
    row!(
        "persistentvolume-expander-controller",
        "volume_expand",
        units::persistent_volume::expansion,
        [
            changes("v1/persistentvolumes", &["spec.capacity"]),
            changes("v1/persistentvolumeclaims/status", &["status.capacity"]).of("growing folders"),
        ]
    ),
    row!(
        "local-volume-provisioner-controller",
        "plimsoll.io/local",
        units::local_volume::build,
        [
            makes("v1/persistentvolumes"),
            changes("v1/persistentvolumes", &["metadata.finalizers"]).of("lost nodes"),
            removes("v1/persistentvolumes"),
            changes("v1/persistentvolumeclaims", &["metadata.annotations"]).of("folders"),
        ]
    ),
    row!(
        "persistentvolume-attach-detach-controller",
        "attachdetach-controller",
        units::attachment::build,
        [
            makes("storage.k8s.io/v1/volumeattachments"),
            removes("storage.k8s.io/v1/volumeattachments"),
            changes("v1/nodes/status", &["status.volumesAttached"]),
        ]
    ),
    row!(
        "ephemeral-volume-controller",
        "ephemeral_volume",
        units::persistent_volume::ephemeral,
        [makes("v1/persistentvolumeclaims").of("pods")]
    ),
    row!(
        "persistentvolumeclaim-protection-controller",
        "persistentvolumeclaim-protection-controller",
        units::protection::claims,
        [changes("v1/persistentvolumeclaims", &["metadata.finalizers"])]
    ),
    row!(
        "persistentvolume-protection-controller",
        "persistentvolume-protection-controller",
        units::protection::volumes,
        [changes("v1/persistentvolumes", &["metadata.finalizers"]).of("pv-protection")]
    ),
    row!(
        "volumeattributesclass-protection-controller",
        "volumeattributesclass-protection-controller",
        units::protection::attributes,
        [changes("storage.k8s.io/v1/volumeattributesclasses", &["metadata.finalizers"])]
    ),
    row!(
        "service-cidr-controller",
        "service-cidr-controller",
        units::service_range::ranges,
        [
            changes("networking.k8s.io/v1/servicecidrs", &["metadata.finalizers"]),
            status("networking.k8s.io/v1/servicecidrs/status"),
        ]
    ),
    row!(
        "ipallocator-repair-controller",
        "ipallocator-repair-controller",
        units::service_range::repair,
        [makes("networking.k8s.io/v1/ipaddresses"), removes("networking.k8s.io/v1/ipaddresses")]
    ),
    row!(
        "service-lb-controller",
        "service-controller",
        units::load_balancer::build,
        [status("v1/services/status")]
    ),
    row!(
        "horizontal-pod-autoscaler-controller",
        "horizontal-pod-autoscaler",
        units::autoscale::build,
        [
            status("autoscaling/v2/horizontalpodautoscalers/status"),
            changes("*/scale", &["spec.replicas"]).of("HorizontalPodAutoscalers"),
        ]
    ),
    row!(
        "proportional-autoscaler-controller",
        "proportional-autoscaler",
        units::proportional::build,
        [
            status("autoscaling.plimsoll.io/v1/proportionalautoscalers/status"),
            changes("*/scale", &["spec.replicas"]).of("ProportionalAutoscalers"),
        ]
    ),
];

/// The names of all controllers.
pub fn names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.name)
}
