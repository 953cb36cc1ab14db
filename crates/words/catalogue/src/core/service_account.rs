//! Service accounts.

use super::stored;
use crate::access::Access;
use crate::column::{self, Column};
use crate::kind::{Kind, Subresource};
use crate::verbs::Verbs;

pub(super) const SERVICE_ACCOUNT: Kind = Kind {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    subresources: &[Subresource {
        name: "token",
        verbs: Verbs::CREATE,
        group: "authentication.k8s.io",
        version: "v1",
        kind: "TokenRequest",
    }],
    definition: "io.k8s.api.core.v1.ServiceAccount",
    storage: stored("/registry/serviceaccounts"),
    columns: &[
        column::NAME,
        Column::text("Secrets", "number of secrets that the account may use", |object, _| {
            object.list("secrets").len().into()
        }),
        column::AGE,
    ],
    ..Kind::BASE
};
