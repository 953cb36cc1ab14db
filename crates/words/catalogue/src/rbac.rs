//! The group `rbac.authorization.k8s.io`.

use serde_json::Value;

use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Kind, Storage};
use crate::names;
use crate::strategy::Strategy;

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[
    Kind {
        kind: "ClusterRoleBinding",
        plural: "clusterrolebindings",
        singular: "clusterrolebinding",
        namespaced: false,
        definition: "io.k8s.api.rbac.v1.ClusterRoleBinding",
        storage: stored("/registry/clusterrolebindings"),
        columns: BINDING_COLUMNS,
        strategy: &Binding,
        ..BASE
    },
    Kind {
        kind: "ClusterRole",
        plural: "clusterroles",
        singular: "clusterrole",
        namespaced: false,
        definition: "io.k8s.api.rbac.v1.ClusterRole",
        storage: stored("/registry/clusterroles"),
        strategy: &Role,
        ..BASE
    },
    Kind {
        kind: "RoleBinding",
        plural: "rolebindings",
        singular: "rolebinding",
        definition: "io.k8s.api.rbac.v1.RoleBinding",
        storage: stored("/registry/rolebindings"),
        columns: BINDING_COLUMNS,
        strategy: &Binding,
        ..BASE
    },
    Kind {
        kind: "Role",
        plural: "roles",
        singular: "role",
        definition: "io.k8s.api.rbac.v1.Role",
        storage: stored("/registry/roles"),
        strategy: &Role,
        ..BASE
    },
];

const GROUP: &str = "rbac.authorization.k8s.io";

const BASE: Kind =
    Kind { group: GROUP, name_rule: names::path_segment, create_on_update: true, ..Kind::BASE };

const fn stored(prefix: &'static str) -> Storage {
    Storage::Stored { prefix, group: GROUP, version: "v1" }
}

const BINDING_COLUMNS: &[Column] = &[
    column::NAME,
    Column::text("Role", "granted role", |object, _| {
        format!("{}/{}", object.text("roleRef.kind"), object.text("roleRef.name")).into()
    }),
    column::AGE,
    Column::text("Users", "users with the role", |object, _| subjects(object, "User").into()).wide(),
    Column::text("Groups", "groups with the role", |object, _| subjects(object, "Group").into()).wide(),
    Column::text("ServiceAccounts", "service accounts with the role", |object, _| {
        subjects(object, "ServiceAccount").into()
    })
    .wide(),
];

fn subjects(object: &Value, kind: &str) -> String {
    let found = object.list("subjects").iter().filter(|subject| subject.text("kind") == kind);
    let name = |subject: &Value| match (kind, subject.text("namespace")) {
        ("ServiceAccount", namespace) if !namespace.is_empty() => {
            format!("{namespace}/{}", subject.text("name"))
        }
        _ => subject.text("name").to_owned(),
    };
    found.map(name).collect::<Vec<_>>().join(", ")
}

struct Binding;

impl Strategy for Binding {
    fn default(&self, object: &mut Value) {
        if let Some(role) = object.inside("roleRef") {
            role.fill_zero("apiGroup", GROUP);
        }
        for subject in object.elements("subjects") {
            if matches!(subject.text("kind"), "User" | "Group") {
                subject.fill_zero("apiGroup", GROUP);
            }
        }
    }
}

struct Role;

impl Strategy for Role {}
