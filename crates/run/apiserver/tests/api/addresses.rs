//! Service addresses are claimed by IPAddresses, out of the ranges that ServiceCIDRs name.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::{Answer, Cluster};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";
const MERGE: &str = "application/merge-patch+json";

fn service(name: &str, address: Option<&str>) -> Value {
    let ports = json!([{"port": 80}]);
    json!({"metadata": {"name": name}, "spec": {"clusterIP": address, "ports": ports, "selector": {"a": "b"}}})
}

fn given(made: &Answer) -> String {
    made.json()["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_address_has_an_object_as_long_as_its_service_holds_it() {
    let cluster = Cluster::start().await;
    let made = cluster.post(SERVICES, service("web", None)).await;
    let path = format!("{ADDRESSES}/{}", given(&made));
    let claim = cluster.get(&path).await.json();
    assert_eq!(
        (&claim["metadata"]["labels"], &claim["spec"]),
        (
            &json!({"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}),
            &json!({"parentRef": {"resource": "services", "namespace": "default", "name": "web"}}),
        )
    );
    assert!(claim["metadata"]["uid"].is_string() && claim["metadata"]["managedFields"].is_array());
    // Services that every cluster has hold theirs, too.
    for (address, name) in [("10.96.0.1", "kubernetes"), ("10.96.0.10", "kube-dns")] {
        let claim = cluster.get(&format!("{ADDRESSES}/{address}")).await.json();
        assert_eq!(claim["spec"]["parentRef"]["name"], name, "{claim}");
    }
    // A Service without an address lets go of it, and gets another when it needs one.
    let without = json!({"spec": {"type": "ExternalName", "externalName": "a.b", "clusterIP": null, "clusterIPs": null}});
    assert_eq!(cluster.patch(&format!("{SERVICES}/web"), MERGE, without).await.code, 200);
    assert_eq!(cluster.get(&path).await.code, 404);
    let with = json!({"spec": {"type": "ClusterIP", "externalName": null}});
    let again = given(&cluster.patch(&format!("{SERVICES}/web"), MERGE, with).await);
    assert_eq!(cluster.get(&format!("{ADDRESSES}/{again}")).await.code, 200);
    assert_eq!(cluster.delete(&format!("{SERVICES}/web")).await.code, 200);
    assert_eq!(cluster.get(&format!("{ADDRESSES}/{again}")).await.code, 404);
    // Nothing is claimed by what is only tried.
    let before = cluster.get(ADDRESSES).await.json()["items"].as_array().map(Vec::len);
    assert_eq!(cluster.post(&format!("{SERVICES}?dryRun=All"), service("dry", None)).await.code, 201);
    assert_eq!(cluster.get(ADDRESSES).await.json()["items"].as_array().map(Vec::len), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_address_is_given_that_somebody_claims_or_no_range_has() {
    let cluster = Cluster::start().await;
    let foreign = json!({"metadata": {"name": "10.96.5.5"},
        "spec": {"parentRef": {"group": "mygroup", "resource": "things", "name": "mine"}}});
    assert_eq!(cluster.post(ADDRESSES, foreign).await.code, 201);
    let outside = "the provided network does not match the current range";
    for (address, cause) in [
        ("10.96.5.5", "provided IP is already allocated"),
        ("10.96.0.1", "provided IP is already allocated"),
        ("10.96.0.0", outside),
        ("10.96.255.255", outside),
        ("203.0.113.10", outside),
    ] {
        let refused = cluster.post(SERVICES, service("web", Some(address))).await;
        let message = format!(
            "Service \"web\" is invalid: spec.clusterIPs: Invalid value: [\"{address}\"]: failed to allocate IP {address}: {cause}"
        );
        assert_eq!((refused.code, refused.message()), (422, message));
    }
    let more =
        json!({"metadata": {"name": "more", "finalizers": ["a.b/c"]}, "spec": {"cidrs": ["203.0.113.0/24"]}});
    assert_eq!(cluster.post(RANGES, more).await.code, 201);
    assert_eq!(cluster.post(SERVICES, service("web", Some("203.0.113.10"))).await.code, 201);
    // From a range that goes nothing is given any more.
    assert_eq!(cluster.delete(&format!("{RANGES}/more")).await.code, 200);
    let refused = cluster.post(SERVICES, service("late", Some("203.0.113.11"))).await;
    assert!(refused.message().ends_with(outside), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_range_is_extended_by_another() {
    let small = |config: &mut plimsoll_apiserver::Config| {
        config.service_cidrs = vec!["10.96.0.0/28".parse().expect("a range")];
    };
    let cluster = Arc::new(Cluster::start_with(small).await);
    // 14 addresses, of which two are in use; many ask at once.
    let asking = (0..20).map(|number| {
        let cluster = Arc::clone(&cluster);
        tokio::spawn(async move { cluster.post(SERVICES, service(&format!("s{number}"), None)).await })
    });
    let answers: Vec<Answer> = futures::future::try_join_all(asking).await.expect("they answer");
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.code == 201);
    let distinct: BTreeSet<String> = made.iter().map(|answer| given(answer)).collect();
    assert_eq!((made.len(), distinct.len()), (12, 12));
    let message = "Internal error occurred: failed to allocate a serviceIP: range is full";
    assert!(refused.iter().all(|answer| answer.code == 500 && answer.message() == message), "{refused:?}");
    let more = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.97.0.0/24"]}});
    assert_eq!(cluster.post(RANGES, more).await.code, 201);
    let made = cluster.post(SERVICES, service("more", None)).await;
    assert!(given(&made).starts_with("10.97.0."), "{made:?}");
    // The default range is there again whoever deletes it.
    let range = cluster.get(&format!("{RANGES}/kubernetes")).await.json();
    assert_eq!(range["spec"]["cidrs"], json!(["10.96.0.0/28"]));
    assert_eq!(range["status"]["conditions"][0]["message"], "Kubernetes default Service CIDR is ready");
    assert_eq!(cluster.delete(&format!("{RANGES}/kubernetes")).await.code, 200);
    let old = range["metadata"]["uid"].clone();
    let cluster = &cluster;
    cluster
        .until(async || {
            let range = cluster.get(&format!("{RANGES}/kubernetes")).await;
            range.code == 200 && range.json()["metadata"]["uid"] != old
        })
        .await;
}

#[test]
fn what_older_services_hold_is_claimed_at_the_start() {
    let folder = Arc::new(tempfile::tempdir().expect("a scratch folder"));
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    let address = runtime().block_on(async {
        let cluster = Cluster::start_in(Arc::clone(&folder), |_| {}).await;
        let address = given(&cluster.post(SERVICES, service("web", None)).await);
        assert_eq!(cluster.delete(&format!("{ADDRESSES}/{address}")).await.code, 200);
        address
    });
    runtime().block_on(async {
        let cluster = Cluster::start_in(Arc::clone(&folder), |_| {}).await;
        let claim = cluster.get(&format!("{ADDRESSES}/{address}")).await.json();
        assert_eq!(claim["spec"]["parentRef"]["name"], "web");
        let refused = cluster.post(SERVICES, service("other", Some(&address))).await;
        assert!(refused.message().ends_with("provided IP is already allocated"), "{refused:?}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn services_have_the_families_they_ask_for() {
    let both = |config: &mut plimsoll_apiserver::Config| {
        config.service_cidrs =
            ["10.96.0.0/16", "fd96::/112"].map(|range| range.parse().expect("a range")).into();
    };
    let cluster = Cluster::start_with(both).await;
    let range = cluster.get(&format!("{RANGES}/kubernetes")).await.json();
    assert_eq!(range["spec"]["cidrs"], json!(["10.96.0.0/16", "fd96::/112"]));
    let cases = [
        ("usual", json!({}), json!(["IPv4"]), "SingleStack"),
        ("six", json!({"ipFamilies": ["IPv6"]}), json!(["IPv6"]), "SingleStack"),
        ("prefer", json!({"ipFamilyPolicy": "PreferDualStack"}), json!(["IPv4", "IPv6"]), "PreferDualStack"),
        (
            "require",
            json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6"]}),
            json!(["IPv6", "IPv4"]),
            "RequireDualStack",
        ),
        (
            "named",
            json!({"ipFamilyPolicy": "RequireDualStack", "clusterIP": "fd96::77", "clusterIPs": ["fd96::77", "10.96.7.7"]}),
            json!(["IPv6", "IPv4"]),
            "RequireDualStack",
        ),
        (
            "headless",
            json!({"ipFamilyPolicy": "PreferDualStack", "clusterIP": "None", "selector": {"a": "b"}}),
            json!(["IPv4", "IPv6"]),
            "PreferDualStack",
        ),
    ];
    for (name, spec, families, policy) in cases {
        let mut object = service(name, None);
        let fields = object["spec"].as_object_mut().expect("a spec");
        fields.extend(spec.as_object().expect("fields").clone());
        let made = cluster.post(SERVICES, object).await.json();
        let spec = &made["spec"];
        assert_eq!(
            (&spec["ipFamilies"], &spec["ipFamilyPolicy"]),
            (&families, &json!(policy)),
            "{name}: {made}"
        );
        assert_eq!(spec["clusterIP"], spec["clusterIPs"][0], "{name}");
        if name != "headless" {
            let given = spec["clusterIPs"].as_array().expect("addresses");
            let of = |address: &serde_json::Value| {
                json!(if address.as_str().is_some_and(|text| text.starts_with("fd96::")) {
                    "IPv6"
                } else {
                    "IPv4"
                })
            };
            assert_eq!(json!(given.iter().map(of).collect::<Vec<_>>()), families, "{name}");
        }
    }
    // One more family comes and goes with the policy.
    let second = async |policy: &str| {
        let patch = json!({"spec": {"ipFamilyPolicy": policy}});
        let made = cluster.patch(&format!("{SERVICES}/usual"), MERGE, patch).await.json();
        let second = made["spec"]["clusterIPs"][1].as_str().unwrap_or_default().to_owned();
        let count = made["spec"]["ipFamilies"].as_array().map_or(0, Vec::len);
        (second, count)
    };
    let (address, count) = second("PreferDualStack").await;
    assert_eq!((address.starts_with("fd96::"), count), (true, 2));
    assert_eq!(cluster.get(&format!("{ADDRESSES}/{address}")).await.code, 200);
    assert_eq!(second("SingleStack").await, (String::new(), 1));
    assert_eq!(cluster.get(&format!("{ADDRESSES}/{address}")).await.code, 404);
    let patch = json!({"spec": {"ipFamilies": ["IPv6"]}});
    let refused = cluster.patch(&format!("{SERVICES}/prefer"), MERGE, patch).await;
    assert_eq!(refused.code, 422, "{refused:?}");
}
