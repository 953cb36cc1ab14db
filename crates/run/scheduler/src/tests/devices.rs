//! Devices that pods ask for by the name of a resource, and such that are made ready late.

use super::*;

/// A driver with devices on `n1`, and a class that stands for a resource.
fn driver(devices: Value) -> Api {
    let api = Api::default();
    for name in ["n0", "n1"] {
        api.put("nodes", node(name, "8"));
    }
    let class = json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "gpu"},
        "spec": {"extendedResourceName": "example.com/gpu",
            "selectors": [{"cel": {"expression": "device.driver == 'gpu.example.com'"}}]}});
    api.put("deviceclasses", class);
    let slice = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "s"},
        "spec": {"driver": "gpu.example.com", "nodeName": "n1", "devices": devices,
            "pool": {"name": "n1", "generation": 1, "resourceSliceCount": 1}}});
    api.put("resourceslices", slice);
    api
}

fn asks(name: &str, count: u32) -> Value {
    let mut pod = pod(name, "1");
    pod["spec"]["containers"][0]["resources"]["requests"]["example.com/gpu"] = json!(count.to_string());
    pod
}

fn message(api: &Api, pod: &str) -> String {
    let writes = api.writes(&format!("/pods/{pod}/status"));
    writes.last().unwrap()["status"]["conditions"][0]["message"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_class_stands_for_an_extended_resource() {
    let api = driver(json!([{"name": "gpu-0"}, {"name": "gpu-1"}]));
    api.put("pods", asks("a", 2));
    let _shutdown = start(&api);
    eventually("bound where the devices are", || api.node_of("a").as_deref() == Some("n1")).await;
    let claim = api.object("resourceclaims", "a-extended-resources-1");
    let exactly = json!({"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2});
    assert_eq!(
        claim["spec"]["devices"]["requests"],
        json!([{"name": "container-0-request-1", "exactly": exactly}])
    );
    assert_eq!(claim["metadata"]["annotations"]["resource.kubernetes.io/extended-resource-claim"], "true");
    assert_eq!(claim["status"]["allocation"]["devices"]["results"].as_array().unwrap().len(), 2);
    assert_eq!(claim["status"]["reservedFor"][0]["uid"], "a");
    let mapping = json!({"containerName": "c", "resourceName": "example.com/gpu", "requestName": "container-0-request-1"});
    assert_eq!(
        api.writes("/pods/a/status")[0]["status"]["extendedResourceClaimStatus"],
        json!({"resourceClaimName": "a-extended-resources-1", "requestMappings": [mapping]})
    );

    // All devices are taken; a node with a plugin serves the next.
    api.put("pods", asks("b", 1));
    eventually("it says what is missing", || !api.writes("/pods/b/status").is_empty()).await;
    assert!(message(&api, "b").starts_with("0/2 nodes are available: 2 cannot allocate all claims."));
    let mut plugin = node("n2", "8");
    plugin["status"]["allocatable"]["example.com/gpu"] = json!("1");
    api.put("nodes", plugin);
    eventually("the plugin has one", || api.node_of("b").as_deref() == Some("n2")).await;

    // The class goes: nobody has the resource any more.
    let class = api.object("deviceclasses", "gpu");
    api.put("pods", asks("c", 1));
    eventually("it says what is missing", || !api.writes("/pods/c/status").is_empty()).await;
    api.remove("deviceclasses", "gpu");
    eventually("it is told again", || message(&api, "c").contains("3 Insufficient example.com/gpu")).await;
    // It is back, and devices are free.
    api.remove("pods", "a");
    api.remove("resourceclaims", "a-extended-resources-1");
    api.put("deviceclasses", class);
    eventually("bound", || api.node_of("c").as_deref() == Some("n1")).await;
}

#[tokio::test(start_paused = true)]
async fn devices_are_made_ready_before_the_pod_is_bound() {
    let device = |name: &str| {
        json!({"name": name, "bindsToNode": true, "bindingConditions": ["attached"],
            "bindingFailureConditions": ["broken"]})
    };
    let api = driver(json!([device("gpu-0")]));
    let exactly = json!({"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1});
    let claim = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": {"name": "one", "namespace": "ns", "uid": "one"},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}}});
    api.put("resourceclaims", claim);
    let mut user = pod("a", "1");
    user["spec"]["resourceClaims"] = json!([{"name": "c", "resourceClaimName": "one"}]);
    api.put("pods", user);
    let _shutdown = start(&api);
    let allocated = || api.object("resourceclaims", "one")["status"]["allocation"].is_object();
    let tell = |condition: &str| {
        let condition = json!({"type": condition, "status": "True", "reason": "R", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let mut claim = api.object("resourceclaims", "one");
        claim["status"]["devices"] = json!([{"driver": "gpu.example.com", "pool": "n1", "device": "gpu-0",
            "conditions": [condition]}]);
        api.put("resourceclaims", claim);
    };
    eventually("allocated", allocated).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(api.node_of("a").is_none(), "the device is not there yet");

    // It never will be: what the claim had is free for another attempt.
    tell("broken");
    let failed = "running PreBind plugin \"DynamicResources\": claim one binding failed for device gpu-0: condition broken is true";
    eventually("told", || api.writes("/events").iter().any(|event| event["message"] == failed)).await;
    let freed =
        || api.writes("/resourceclaims/one/status").iter().any(|body| body["status"]["allocation"].is_null());
    eventually("freed", freed).await;
    eventually("allocated again", allocated).await;
    assert!(api.node_of("a").is_none());
    tell("attached");
    eventually("bound", || api.node_of("a").as_deref() == Some("n1")).await;
}
