//! All rows and the ways to find one.

use std::sync::LazyLock;

use crate::kind::Kind;
use crate::{
    admission_registration, api_extensions, apps, authentication, authorization, autoscaling, batch,
    certificates, coordination, core, discovery, events, flow_control, networking, node, policy, rbac,
    resource, scheduling, storage,
};

/// The groups in the order of upstream's discovery, each with its rows; the rows of a group
/// begin with those of its preferred version.
const GROUPS: &[&[Kind]] = &[
    core::KINDS,
    api_extensions::AGGREGATION,
    apps::KINDS,
    events::KINDS,
    authentication::KINDS,
    authorization::KINDS,
    autoscaling::KINDS,
    batch::KINDS,
    certificates::KINDS,
    networking::KINDS,
    policy::KINDS,
    rbac::KINDS,
    storage::KINDS,
    admission_registration::KINDS,
    api_extensions::KINDS,
    scheduling::KINDS,
    coordination::KINDS,
    node::KINDS,
    discovery::KINDS,
    flow_control::KINDS,
    resource::KINDS,
    storage::MIGRATION,
];

static ROWS: LazyLock<Vec<Kind>> = LazyLock::new(|| GROUPS.concat());

/// An API group as discovery lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Name, empty for the core group.
    pub name: &'static str,
    /// Versions; the first is the preferred one.
    pub versions: Vec<&'static str>,
}

/// Every built-in kind, group by group in the order of discovery.
pub fn kinds() -> &'static [Kind] {
    &ROWS
}

/// The row of a resource.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    kinds().iter().find(|kind| kind.plural == plural && kind.group == group && kind.version == version)
}

/// The row of a kind as manifests name it.
pub fn by_kind(group: &str, version: &str, name: &str) -> Option<&'static Kind> {
    kinds().iter().find(|kind| kind.kind == name && kind.group == group && kind.version == version)
}

/// The groups in the order of discovery, each with its versions.
pub fn groups() -> Vec<Group> {
    groups_of(kinds())
}

/// The groups of these rows, in their order.
pub fn groups_of<'k>(kinds: impl IntoIterator<Item = &'k Kind>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for kind in kinds {
        match groups.iter_mut().find(|group| group.name == kind.group) {
            None => groups.push(Group { name: kind.group, versions: vec![kind.version] }),
            Some(group) if !group.versions.contains(&kind.version) => group.versions.push(kind.version),
            Some(_) => {}
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::access::Access;
    use crate::kind::Storage;
    use crate::strategy::Grace;

    #[test]
    fn each_row_is_whole_and_there_once() {
        let mut seen = BTreeSet::new();
        let mut kinds_seen = BTreeSet::new();
        for kind in kinds() {
            assert!(
                plimsoll_schema::builtin().lookup(kind.definition).is_some(),
                "{kind:?}: {}",
                kind.definition
            );
            assert!(seen.insert((kind.group, kind.version, kind.plural)), "{kind:?} is there twice");
            assert!(kinds_seen.insert((kind.group, kind.version, kind.kind)), "{kind:?} is there twice");
            assert_eq!(kind.singular, kind.kind.to_lowercase(), "{kind:?}");
            assert_eq!(kind.is_stored(), kind.verbs.contains(crate::Verb::Update), "{kind:?}");
            assert!(kind.columns.iter().any(|column| column.format == "name"), "{kind:?}");
            let names: Vec<&str> = kind.subresources.iter().map(|sub| sub.name).collect();
            assert!(names.is_sorted(), "{kind:?}: {names:?}");
            assert_eq!(kind.storage_kind().kind, kind.kind);
        }
    }

    #[test]
    fn only_versions_of_one_kind_share_a_prefix() {
        for (at, one) in kinds().iter().enumerate() {
            for other in &kinds()[at + 1..] {
                if let (Storage::Stored { prefix: a, .. }, Storage::Stored { prefix: b, .. }) =
                    (one.storage, other.storage)
                {
                    assert!(a != b || one.kind == other.kind, "{one:?} and {other:?} both live in {a}");
                }
            }
        }
    }

    #[test]
    fn no_strategy_stumbles_over_odd_values() {
        let odd = [
            serde_json::json!(null),
            serde_json::json!([]),
            serde_json::json!({"metadata": [], "spec": "x", "status": 1}),
            serde_json::json!({"metadata": {"name": 1, "labels": "x"}, "spec": {"template": [], "containers": {}, "ports": "x"}}),
            serde_json::json!({"spec": {"template": {"spec": {"containers": [1, "x", null, []], "volumes": [null, 3]}}}}),
            serde_json::json!({"spec": {"containers": [null, 1], "volumes": ["x"], "rules": [1], "metrics": [1]}, "webhooks": [2]}),
        ];
        for kind in kinds() {
            for object in &odd {
                let mut new = object.clone();
                kind.default(&mut new);
                kind.prepare_create(&mut new);
                for sub in [
                    None,
                    Some("status"),
                    Some("resize"),
                    Some("ephemeralcontainers"),
                    Some("approval"),
                    Some("finalize"),
                ] {
                    let mut updated = new.clone();
                    kind.prepare_update(&mut updated, object, sub);
                    kind.validate_update(&updated, object, sub);
                }
                kind.validate(object);
                kind.validate(&new);
                kind.cells(object, jiff::Timestamp::UNIX_EPOCH);
                kind.strategy.fields(object);
                kind.strategy.warnings(object);
                kind.strategy.row_conditions(object);
                assert!(matches!(
                    kind.strategy.graceful(object, Some(1)),
                    Grace::Immediate | Grace::Seconds(_)
                ));
                for other in kinds().iter().filter(|other| other.kind == kind.kind) {
                    crate::convert(kind, other, object.clone());
                }
            }
        }
    }

    /// Facts of the published v1.28 discovery that are different in v1.37.
    const CHANGED: &[&str] = &[];

    /// Compares with the published discovery document where it lies beside the project.
    #[test]
    fn rows_agree_with_upstream() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../../shared/reference/discovery-aggregated-1.28.json"
        );
        let Ok(text) = std::fs::read_to_string(path) else { return };
        let document: Value = serde_json::from_str(&text).expect("discovery is JSON");
        let mut differences = Vec::new();
        for group in document.list("items") {
            let name = group.text("metadata.name");
            for version in group.list("versions") {
                if kinds().iter().any(|kind| (kind.group, kind.version) == (name, version.text("version"))) {
                    for resource in version.list("resources") {
                        compare(name, version.text("version"), resource, &mut differences);
                    }
                }
            }
        }
        differences.retain(|one| !CHANGED.contains(&one.as_str()));
        assert!(differences.is_empty(), "{differences:#?}");
    }

    fn compare(group: &str, version: &str, resource: &Value, differences: &mut Vec<String>) {
        let plural = resource.text("resource");
        let Some(kind) = find(group, version, plural) else {
            differences.push(format!("{plural}.{group} is missing"));
            return;
        };
        let verbs = |verbs: crate::Verbs| verbs.iter().map(crate::Verb::name).collect::<Vec<_>>();
        let mut check = |what: &str, ours: String, theirs: String| {
            if ours != theirs {
                differences.push(format!("{plural}.{group} {what}: {ours} is not {theirs}"));
            }
        };
        let scope = if kind.namespaced { "Namespaced" } else { "Cluster" };
        check("kind", kind.kind.to_owned(), resource.text("responseKind.kind").to_owned());
        check("scope", scope.to_owned(), resource.text("scope").to_owned());
        check("singular", kind.singular.to_owned(), resource.text("singularResource").to_owned());
        check(
            "short names",
            format!("{:?}", kind.short_names),
            format!("{:?}", resource.texts("shortNames")),
        );
        check("categories", format!("{:?}", kind.categories), format!("{:?}", resource.texts("categories")));
        check("verbs", format!("{:?}", verbs(kind.verbs)), format!("{:?}", resource.texts("verbs")));
        let ours: Vec<_> = kind
            .subresources
            .iter()
            .map(|sub| {
                format!("{} {}/{}/{} {:?}", sub.name, sub.group, sub.version, sub.kind, verbs(sub.verbs))
            })
            .collect();
        let theirs: Vec<_> = resource
            .list("subresources")
            .iter()
            .map(|sub| {
                format!(
                    "{} {}/{}/{} {:?}",
                    sub.text("subresource"),
                    sub.text("responseKind.group"),
                    sub.text("responseKind.version"),
                    sub.text("responseKind.kind"),
                    sub.texts("verbs")
                )
            })
            .collect();
        check("subresources", format!("{ours:?}"), format!("{theirs:?}"));
    }
}
