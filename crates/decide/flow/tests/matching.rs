//! Which schema a request belongs to, and how the first objects are kept.

use plimsoll_flow::{AUTO_UPDATE, Digest, Schema, levels, maintained, schemas};
use serde_json::json;

/// The name of the schema and the flow of a request.
fn classify(request: Digest<'_>) -> (String, String) {
    let mut all: Vec<Schema> = schemas().iter().map(Schema::read).collect();
    all.sort_by(Schema::order);
    let found = all.iter().find(|schema| schema.matches(&request)).expect("catch-all takes the rest");
    (found.name.clone(), found.flow(&request).to_owned())
}

#[test]
fn requests_find_their_schema() {
    let nodes = ["system:nodes".to_owned(), "system:authenticated".to_owned()];
    let masters = ["system:masters".to_owned(), "system:authenticated".to_owned()];
    let accounts = ["system:serviceaccounts".to_owned(), "system:authenticated".to_owned()];
    let anybody = ["system:authenticated".to_owned()];
    let nobody: [String; 0] = [];
    let pods = |user, groups, verb| Digest {
        user,
        groups,
        verb,
        resource: "pods",
        namespace: "a",
        path: "/api/v1/namespaces/a/pods",
        ..Digest::default()
    };
    let lease = |user, groups, verb| Digest {
        user,
        groups,
        verb,
        group: "coordination.k8s.io",
        resource: "leases",
        namespace: "kube-system",
        ..Digest::default()
    };
    let path = |groups, path| Digest { user: "u", groups, verb: "get", path, ..Digest::default() };
    let table = [
        (pods("admin", &masters[..], "list"), ("exempt", "")),
        (pods("u", &anybody[..], "list"), ("global-default", "u")),
        (
            pods("system:serviceaccount:x:y", &accounts[..], "list"),
            ("service-accounts", "system:serviceaccount:x:y"),
        ),
        (
            pods("system:serviceaccount:kube-system:y", &accounts[..], "list"),
            ("kube-system-service-accounts", "a"),
        ),
        (
            pods("system:serviceaccount:kube-systemd:y", &accounts[..], "list"),
            ("service-accounts", "system:serviceaccount:kube-systemd:y"),
        ),
        (pods("system:kube-controller-manager", &anybody[..], "list"), ("kube-controller-manager", "a")),
        (pods("system:node:n", &nodes[..], "list"), ("system-nodes", "system:node:n")),
        (lease("system:node:n", &nodes[..], "update"), ("system-node-high", "system:node:n")),
        (
            lease("system:kube-scheduler", &anybody[..], "update"),
            ("system-leader-election", "system:kube-scheduler"),
        ),
        (lease("system:kube-scheduler", &anybody[..], "watch"), ("kube-scheduler", "kube-system")),
        (path(&anybody[..], "/readyz"), ("probes", "")),
        (path(&anybody[..], "/readyz/etcd"), ("probes", "")),
        (path(&anybody[..], "/readyzz"), ("global-default", "u")),
    ];
    for (request, expected) in table {
        let (name, flow) = classify(request);
        assert_eq!((name.as_str(), flow.as_str()), expected, "{request:?}");
    }
    let subresource = Digest {
        resource: "nodes",
        subresource: "status",
        user: "n",
        groups: &nodes,
        verb: "patch",
        ..Digest::default()
    };
    assert_eq!(classify(subresource).0, "system-node-high");
    let proxied = Digest { subresource: "proxy", ..subresource };
    assert_eq!(classify(proxied).0, "system-nodes");
    let mut all: Vec<Schema> = schemas().iter().map(Schema::read).collect();
    all.sort_by(Schema::order);
    assert!(!all.iter().any(|schema| schema.matches(&pods("u", &nobody, "get"))));
}

#[test]
fn first_objects_are_kept_as_upstream_keeps_them() {
    let all = levels();
    let named =
        |name: &str| all.iter().find(|level| level["metadata"]["name"] == name).expect("a level").clone();
    let mut system = named("system");
    assert_eq!(maintained(&named("system"), &system), None);
    system["spec"]["limited"]["nominalConcurrencyShares"] = json!(99);
    assert_eq!(maintained(&named("system"), &system), Some(named("system")));
    system["metadata"]["annotations"][AUTO_UPDATE] = json!("false");
    assert_eq!(maintained(&named("system"), &system), None);
    // Without the annotation the generation tells whether somebody has changed it.
    system["metadata"]["annotations"] = json!({});
    system["metadata"]["generation"] = json!(2);
    let marked = maintained(&named("system"), &system).expect("a mark");
    assert_eq!(marked["metadata"]["annotations"][AUTO_UPDATE], "false");
    assert_eq!(marked["spec"], system["spec"]);
    let mut catch_all = named("catch-all");
    catch_all["metadata"]["annotations"][AUTO_UPDATE] = json!("false");
    catch_all["spec"]["limited"]["nominalConcurrencyShares"] = json!(1);
    assert_eq!(maintained(&named("catch-all"), &catch_all), Some(named("catch-all")));
    let mut exempt = named("exempt");
    exempt["spec"]["exempt"]["nominalConcurrencyShares"] = json!(7);
    assert_eq!(maintained(&named("exempt"), &exempt), None, "its shares are the user's");
}
