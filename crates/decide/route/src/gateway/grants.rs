//! Who may refer to objects of other namespaces.

use std::sync::Arc;

use super::kinds::{GROUP, GrantFrom, ReferenceGrant};

/// Something that is referred to, in its namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) group: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

/// Whether an object of a kind of this group in a namespace may refer to the target.
pub(crate) fn permits(
    grants: &[Arc<ReferenceGrant>],
    kind: &str,
    namespace: &str,
    target: Target<'_>,
) -> bool {
    if namespace == target.namespace {
        return true;
    }
    let from = |from: &GrantFrom| from.group == GROUP && from.kind == kind && from.namespace == namespace;
    let mut there =
        grants.iter().filter(|grant| grant.metadata.namespace.as_deref() == Some(target.namespace));
    there.any(|grant| {
        let to = grant.spec.to.iter().any(|to| {
            to.group == target.group
                && to.kind == target.kind
                && to.name.as_deref().is_none_or(|name| name == target.name)
        });
        to && grant.spec.from.iter().any(from)
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_namespace_of_the_target_decides() {
        let grant = |namespace: &str, to: serde_json::Value| {
            let from = json!([{"group": GROUP, "kind": "HTTPRoute", "namespace": "a"}]);
            let grant = json!({"metadata": {"namespace": namespace}, "spec": {"from": from, "to": [to]}});
            vec![Arc::new(serde_json::from_value::<ReferenceGrant>(grant).unwrap())]
        };
        let services = json!({"group": "", "kind": "Service"});
        let one = json!({"group": "", "kind": "Service", "name": "web"});
        let other = json!({"group": "", "kind": "Service", "name": "db"});
        let table = [
            (Vec::new(), "HTTPRoute", "b", true),
            (Vec::new(), "HTTPRoute", "a", false),
            (grant("b", services.clone()), "HTTPRoute", "a", true),
            (grant("b", one), "HTTPRoute", "a", true),
            (grant("b", other), "HTTPRoute", "a", false),
            (grant("a", services.clone()), "HTTPRoute", "a", false),
            (grant("b", services.clone()), "GRPCRoute", "a", false),
            (grant("b", services), "HTTPRoute", "c", false),
            (grant("b", json!({"group": "", "kind": "Secret"})), "HTTPRoute", "a", false),
        ];
        for (grants, kind, namespace, expected) in table {
            let target = Target { group: "", kind: "Service", namespace: "b", name: "web" };
            assert_eq!(permits(&grants, kind, namespace, target), expected, "{grants:?} {kind} {namespace}");
        }
    }
}
