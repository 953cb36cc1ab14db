//! The definitions of the Gateway API: what they let through, and whose they are.

use std::sync::Arc;

use plimsoll_document::Document;
use serde_json::{Value, json};

use crate::support::Cluster;

const DEFINITIONS: &str = include_str!("../../../../decide/route/src/gateway/definitions.yaml");
const DEFINED: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const GROUP: &str = "gateway.networking.k8s.io";

#[test]
fn gateways_are_checked_and_their_definitions_give_way() {
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    let folder = Arc::new(tempfile::tempdir().expect("a scratch folder"));
    let mut list = Document::yaml(DEFINITIONS).expect("YAML").value;
    let mut objects: Vec<Value> = serde_json::from_value(list["items"].take()).expect("a list");
    let start = |objects: &[Value]| {
        let objects = objects.to_vec();
        Cluster::start_in(Arc::clone(&folder), |config| config.own_objects = objects)
    };
    let run = runtime();
    run.block_on(async {
        let cluster = start(&objects).await;
        for definition in &objects {
            established(&cluster, definition["metadata"]["name"].as_str().expect("a name")).await;
        }
        objects_are_checked(&cluster).await;
        // Who applies a definition of their own meets no conflict.
        let mut theirs =
            objects.iter().find(|one| one["spec"]["names"]["kind"] == "Gateway").expect("there").clone();
        theirs["metadata"]["annotations"]["gateway.networking.k8s.io/bundle-version"] = json!("v9");
        theirs["spec"]["names"]["shortNames"] = json!(["gateway"]);
        let path = format!("{DEFINED}/gateways.{GROUP}?fieldManager=kubectl");
        let answer = cluster.patch(&path, "application/apply-patch+yaml", theirs).await;
        assert_eq!(answer.code, 200, "{}", answer.message());
        cluster.stop();
    });
    drop(run);
    // Another release comes with other definitions.
    for definition in &mut objects {
        definition["metadata"]["annotations"]["gateway.networking.k8s.io/bundle-version"] = json!("v2");
        definition["spec"]["names"]["categories"] = json!(["gateway-api", "more"]);
    }
    runtime().block_on(async {
        let cluster = start(&objects).await;
        for (name, version, categories) in [("httproutes", "v2", 2), ("gateways", "v9", 1)] {
            let kept = cluster.get(&format!("{DEFINED}/{name}.{GROUP}")).await.json();
            let annotations = &kept["metadata"]["annotations"];
            assert_eq!(annotations["gateway.networking.k8s.io/bundle-version"], version, "{name}");
            assert_eq!(kept["spec"]["names"]["categories"].as_array().map(Vec::len), Some(categories));
        }
    });
}

async fn established(cluster: &Cluster, name: &str) {
    cluster
        .until(async || {
            let defined = cluster.get(&format!("{DEFINED}/{name}")).await.json();
            let conditions = defined["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let wrong = conditions.iter().find(|one| one["type"] == "NonStructuralSchema");
            assert_eq!(wrong, None);
            let of = |kind: &str| conditions.iter().any(|one| one["type"] == kind && one["status"] == "True");
            of("Established") && of("KubernetesAPIApprovalPolicyConformant")
        })
        .await;
}

async fn objects_are_checked(cluster: &Cluster) {
    let create = async |kind: &str, plural: &str, spec: Value| {
        let object = json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind,
            "metadata": {"generateName": "a-"}, "spec": spec});
        cluster.post(&format!("/apis/{GROUP}/v1/namespaces/default/{plural}"), object).await
    };
    let listener =
        |protocol: &str| json!({"name": protocol.to_lowercase(), "port": 80, "protocol": protocol});
    let backend = json!([{"name": "web", "port": 80}]);
    let filter = |kind: &str| json!([{"type": kind, "urlRewrite": {"hostname": "a.com"}}]);
    let refused = [
        (
            "Gateway",
            "gateways",
            json!({"gatewayClassName": "a", "listeners": [listener("HTTP"), listener("HTTP")]}),
            "Listener name must be unique within the Gateway",
        ),
        (
            "Gateway",
            "gateways",
            json!({"gatewayClassName": "a",
            "listeners": [{"name": "a", "port": 80, "protocol": "HTTP", "tls": {}}]}),
            "tls",
        ),
        (
            "HTTPRoute",
            "httproutes",
            json!({"rules": [{"backendRefs": [{"name": "web"}]}]}),
            "Must have port for Service reference",
        ),
        (
            "HTTPRoute",
            "httproutes",
            json!({"rules": [{"filters": filter("CORS"), "backendRefs": backend}]}),
            "filter",
        ),
        ("HTTPRoute", "httproutes", json!({"hostnames": ["1.2.3.4:80"]}), "spec.hostnames[0]"),
        (
            "GRPCRoute",
            "grpcroutes",
            json!({"rules": [{"matches": [{"method": {"type": "Exact"}}]}]}),
            "method",
        ),
    ];
    for (kind, plural, spec, message) in refused {
        let answer = create(kind, plural, spec.clone()).await;
        let told = answer.message();
        assert!(answer.code == 422 && told.contains(message), "{spec}: {told}");
    }
    let spec = json!({"rules": [{"filters": filter("URLRewrite"), "backendRefs": backend}]});
    let answer = create("HTTPRoute", "httproutes", spec).await;
    let made = answer.json();
    assert_eq!(answer.code, 201, "{made}");
    assert_eq!(made["spec"]["rules"][0]["matches"], json!([{"path": {"type": "PathPrefix", "value": "/"}}]));
    assert_eq!(made["spec"]["rules"][0]["backendRefs"][0]["weight"], 1);
    let older = cluster.get(&format!("/apis/{GROUP}/v1beta1/namespaces/default/httproutes")).await.json();
    assert_eq!(older["items"].as_array().map(Vec::len), Some(1));
}
