//! The group `authentication.k8s.io`: who somebody is.

use crate::kind::Kind;
use crate::verbs::Verbs;

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[
    Kind {
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        definition: "io.k8s.api.authentication.v1.SelfSubjectReview",
        ..BASE
    },
    Kind {
        kind: "TokenReview",
        plural: "tokenreviews",
        singular: "tokenreview",
        definition: "io.k8s.api.authentication.v1.TokenReview",
        ..BASE
    },
];

const BASE: Kind =
    Kind { group: "authentication.k8s.io", namespaced: false, verbs: Verbs::CREATE, ..Kind::BASE };
