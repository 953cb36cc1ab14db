//! The group `coordination.k8s.io`.

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};

use crate::access::Access;
use crate::column::{self, Column};
use crate::kind::{Kind, Storage};
use crate::report::{NOT_NEGATIVE, Report};
use crate::strategy::Strategy;

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[Kind {
    group: "coordination.k8s.io",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    definition: "io.k8s.api.coordination.v1.Lease",
    storage: Storage::Stored { prefix: "/registry/leases", group: "coordination.k8s.io", version: "v1" },
    columns: &[
        column::NAME,
        Column::text("Holder", "who holds the lease", |object, _| object.text("spec.holderIdentity").into()),
        column::AGE,
    ],
    create_on_update: true,
    unconditional_update: false,
    strategy: &Lease,
    ..Kind::BASE
}];

struct Lease;

impl Strategy for Lease {
    fn validate(&self, lease: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let path = Path::root("spec");
        if let Some(seconds) = lease.int("spec.leaseDurationSeconds")
            && seconds <= 0
        {
            report.invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0");
        }
        if let Some(times) = lease.int("spec.leaseTransitions")
            && times < 0
        {
            report.invalid(&path.child("leaseTransitions"), times, NOT_NEGATIVE);
        }
        if lease.has("spec.preferredHolder") && lease.text("spec.strategy").is_empty() {
            let holder = lease["spec"]["preferredHolder"].clone();
            report.invalid(
                &path.child("preferredHolder"),
                holder,
                "cannot be specified when strategy is not set",
            );
        }
        report.into_errors()
    }
}
