//! The group `rbac.authorization.k8s.io`.

use serde_json::Value;

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use crate::access::{self, Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Kind, Storage};
use crate::label_selector;
use crate::names;
use crate::report::Report;
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
        strategy: &Binding { of_cluster: true },
        ..BASE
    },
    Kind {
        kind: "ClusterRole",
        plural: "clusterroles",
        singular: "clusterrole",
        namespaced: false,
        definition: "io.k8s.api.rbac.v1.ClusterRole",
        storage: stored("/registry/clusterroles"),
        strategy: &Role { of_cluster: true },
        ..BASE
    },
    Kind {
        kind: "RoleBinding",
        plural: "rolebindings",
        singular: "rolebinding",
        definition: "io.k8s.api.rbac.v1.RoleBinding",
        storage: stored("/registry/rolebindings"),
        columns: BINDING_COLUMNS,
        strategy: &Binding { of_cluster: false },
        ..BASE
    },
    Kind {
        kind: "Role",
        plural: "roles",
        singular: "role",
        definition: "io.k8s.api.rbac.v1.Role",
        storage: stored("/registry/roles"),
        strategy: &Role { of_cluster: false },
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

struct Binding {
    of_cluster: bool,
}

impl Strategy for Binding {
    fn default(&self, object: &mut Value) {
        if let Some(role) = object.object("roleRef") {
            role.fill_zero("apiGroup", GROUP);
        }
        for subject in object.elements("subjects") {
            if matches!(subject.text("kind"), "User" | "Group") {
                subject.fill_zero("apiGroup", GROUP);
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        let path = Path::root("roleRef");
        let (group, kind, name) =
            (object.text("roleRef.apiGroup"), object.text("roleRef.kind"), object.text("roleRef.name"));
        if group != GROUP {
            report.not_supported(&path.child("apiGroup"), group, &[GROUP]);
        }
        let kinds: &[&str] = if self.of_cluster { &["ClusterRole"] } else { &["Role", "ClusterRole"] };
        if !kinds.contains(&kind) {
            report.not_supported(&path.child("kind"), kind, kinds);
        }
        match name {
            "" => report.required(&path.child("name"), ""),
            _ => report.rule(&path.child("name"), name, name::is_path_segment(name)),
        }
        for (at, subject) in object.list("subjects").iter().enumerate() {
            check_subject(subject, self.of_cluster, &Path::root("subjects").index(at), &mut report);
        }
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        report.extend(self.validate(new));
        if !access::same(new.at("roleRef"), old.at("roleRef")) {
            report.invalid(&Path::root("roleRef"), new["roleRef"].clone(), "cannot change roleRef");
        }
        report.into_errors()
    }
}

struct Role {
    of_cluster: bool,
}

impl Strategy for Role {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        for (at, rule) in object.list("rules").iter().enumerate() {
            check_rule(rule, self.of_cluster, &Path::root("rules").index(at), &mut report);
        }
        if let Some(aggregation) = object.at("aggregationRule") {
            let path = Path::root("aggregationRule").child("clusterRoleSelectors");
            let selectors = aggregation.list("clusterRoleSelectors");
            if selectors.is_empty() {
                let message = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                report.required(&path, message);
            }
            for (at, selector) in selectors.iter().enumerate() {
                label_selector::check(selector, &path.index(at), &mut report);
            }
        }
        report.into_errors()
    }
}

fn check_rule(rule: &Value, of_cluster: bool, path: &Path, report: &mut Report) {
    let has = |field: &str| !rule.list(field).is_empty();
    if !has("verbs") {
        report.required(&path.child("verbs"), "verbs must contain at least one value");
    }
    if has("nonResourceURLs") {
        let (at, shown) = (path.child("nonResourceURLs"), rule.list("nonResourceURLs").to_vec());
        if !of_cluster {
            report.invalid(&at, shown.clone(), "namespaced rules cannot apply to non-resource URLs");
        }
        if has("apiGroups") || has("resources") || has("resourceNames") {
            report.invalid(&at, shown, "rules cannot apply to both regular resources and non-resource URLs");
        }
        return;
    }
    if !has("apiGroups") {
        report.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
    }
    if !has("resources") {
        report.required(&path.child("resources"), "resource rules must supply at least one resource");
    }
}

fn check_subject(subject: &Value, of_cluster: bool, path: &Path, report: &mut Report) {
    let (kind, name, group) = (subject.text("kind"), subject.text("name"), subject.text("apiGroup"));
    report.need(subject, "name", path);
    match kind {
        "ServiceAccount" => {
            if !name.is_empty() {
                report.rule(&path.child("name"), name, name::is_dns1123_subdomain(name));
            }
            if !group.is_empty() {
                report.not_supported(&path.child("apiGroup"), group, &[""]);
            }
            if subject.text("namespace").is_empty() && of_cluster {
                report.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" if group != GROUP => report.not_supported(&path.child("apiGroup"), group, &[GROUP]),
        "User" | "Group" => {}
        other => report.not_supported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}
