//! The group `authorization.k8s.io`: what somebody may do.

use crate::kind::Kind;
use crate::verbs::Verbs;

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[
    Kind {
        kind: "LocalSubjectAccessReview",
        plural: "localsubjectaccessreviews",
        singular: "localsubjectaccessreview",
        definition: "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
        namespaced: true,
        ..BASE
    },
    Kind {
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        definition: "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
        ..BASE
    },
    Kind {
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
        definition: "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
        ..BASE
    },
    Kind {
        kind: "SubjectAccessReview",
        plural: "subjectaccessreviews",
        singular: "subjectaccessreview",
        definition: "io.k8s.api.authorization.v1.SubjectAccessReview",
        ..BASE
    },
];

const BASE: Kind =
    Kind { group: "authorization.k8s.io", namespaced: false, verbs: Verbs::CREATE, ..Kind::BASE };
