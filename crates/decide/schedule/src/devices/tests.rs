#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};

use super::*;
use crate::node::Node;

fn node(name: &str) -> Node {
    let labels = [("rack".to_owned(), "r1".to_owned())].into();
    Node { name: name.to_owned(), labels, ..Node::default() }
}

fn slice(name: &str, more: Value, devices: Value) -> Arc<ResourceSlice> {
    let mut spec = json!({"driver": "gpu.example.com", "nodeName": "n", "devices": devices,
        "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap())
}

fn gpu(name: &str, model: &str, memory: &str) -> Value {
    json!({"name": name, "attributes": {"model": {"string": model}, "other.example.com/numa": {"int": 1}, "driverVersion": {"version": "1.2.3"}},
        "capacity": {"memory": {"value": memory}}})
}

fn cluster(devices: Value) -> Devices {
    let mut all = Devices::default();
    all.set_slice(slice("s", json!({}), devices));
    for (name, spec) in [
        (
            "gpu",
            json!({"selectors": [{"cel": {"expression": "device.driver == 'gpu.example.com'"}}],
            "config": [{"opaque": {"driver": "gpu.example.com", "parameters": {"of": "class"}}}]}),
        ),
        ("any", json!({})),
    ] {
        all.set_class(Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap(),
        ));
    }
    all
}

fn claim(uid: &str, devices: Value) -> Arc<ResourceClaim> {
    let meta = json!({"name": uid, "namespace": "ns", "uid": uid});
    Arc::new(serde_json::from_value(json!({"metadata": meta, "spec": {"devices": devices}})).unwrap())
}

/// A request for devices of class `gpu`.
fn ask(more: Value) -> Value {
    let mut exactly = json!({"deviceClassName": "gpu"});
    exactly.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"name": "r", "exactly": exactly})
}

fn cel(expression: &str) -> Value {
    json!({"selectors": [{"cel": {"expression": expression}}]})
}

/// `request=device` of what the claims get.
fn got(devices: &Devices, claims: &[Arc<ResourceClaim>], on: &str) -> String {
    match devices.allocate(claims, &node(on)) {
        Ok(all) => all
            .iter()
            .map(|one| {
                let each = results(one).map(|result| format!("{}={}", result.request, result.device));
                each.collect::<Vec<_>>().join(" ")
            })
            .collect::<Vec<_>>()
            .join("; "),
        Err(failure) => format!("{failure:?}"),
    }
}

#[test]
fn requests_and_what_they_get() {
    let devices =
        cluster(json!([gpu("a", "small", "8Gi"), gpu("b", "big", "80Gi"), gpu("c", "big", "80Gi")]));
    let numa = json!([{"matchAttribute": "gpu.example.com/model"}]);
    let different = json!([{"distinctAttribute": "gpu.example.com/model"}]);
    let unknown = json!([{"matchAttribute": "gpu.example.com/colour"}]);
    let first = |alternatives: Value| json!({"requests": [{"name": "r", "firstAvailable": alternatives}]});
    let one = |more: Value| json!({"requests": [ask(more)]});
    let table = [
        (one(json!({})), "r=a"),
        (one(json!({"count": 3})), "r=a r=b r=c"),
        (one(json!({"count": 4})), "Nothing"),
        (one(json!({"allocationMode": "All"})), "r=a r=b r=c"),
        (one(cel("device.attributes['gpu.example.com'].model == 'big'")), "r=b"),
        (one(cel("device.capacity['gpu.example.com'].memory.compareTo(quantity('40Gi')) >= 0")), "r=b"),
        (
            one(cel("device.attributes['gpu.example.com'].driverVersion.isGreaterThan(semver('1.2.2'))")),
            "r=a",
        ),
        (
            one(cel("device.attributes['other.example.com'].numa == 1 && !has(device.attributes['x'].y)")),
            "r=a",
        ),
        (one(cel("device.driver == 'other'")), "Nothing"),
        (json!({"requests": [ask(json!({"count": 2}))], "constraints": numa}), "r=b r=c"),
        (json!({"requests": [ask(json!({"count": 2}))], "constraints": different}), "r=a r=b"),
        (json!({"requests": [ask(json!({"count": 3}))], "constraints": different}), "Nothing"),
        (json!({"requests": [ask(json!({}))], "constraints": unknown}), "Nothing"),
        (one(json!({"capacity": {"requests": {"memory": "9Gi"}}})), "r=b"),
        (
            first(
                json!([{"name": "many", "deviceClassName": "gpu", "count": 4}, {"name": "two", "deviceClassName": "gpu", "count": 2}]),
            ),
            "r/two=a r/two=b",
        ),
        (
            json!({"requests": [ask(json!({})), {"name": "s", "exactly": {"deviceClassName": "any"}}]}),
            "r=a s=b",
        ),
    ];
    for (asked, expected) in table {
        assert_eq!(got(&devices, &[claim("c", asked.clone())], "n"), expected, "{asked}");
    }
    let broken =
        got(&devices, &[claim("c", one(cel("device.attributes['gpu.example.com'].colour == 'red'")))], "n");
    assert!(broken.contains("no such key: colour"), "{broken}");
    assert_eq!(got(&devices, &[claim("c", one(json!({})))], "elsewhere"), "Nothing");
    let two = [claim("c", one(json!({"count": 2}))), claim("d", one(json!({})))];
    assert_eq!(got(&devices, &two, "n"), "r=a r=b; r=c");
}

/// A choice that leaves nothing for the next request is taken back.
#[test]
fn goes_back_a_step() {
    let devices = cluster(json!([gpu("a", "big", "80Gi"), gpu("b", "small", "8Gi")]));
    let mut picky = ask(cel("device.attributes['gpu.example.com'].model == 'big'"));
    picky["name"] = json!("picky");
    assert_eq!(
        got(&devices, &[claim("c", json!({"requests": [ask(json!({})), picky]}))], "n"),
        "r=b picky=a"
    );
}

#[test]
fn what_others_have_is_gone() {
    let mut devices = cluster(json!([gpu("a", "m", "8Gi"), gpu("b", "m", "8Gi")]));
    let one = |uid: &str| claim(uid, json!({"requests": [ask(json!({}))]}));
    let take = |devices: &mut Devices, uid: &str| {
        let allocation = devices.allocate(&[one(uid)], &node("n")).unwrap().remove(0);
        devices.keep(&one(uid), Arc::new(allocation.clone()));
        allocation
    };
    let first = take(&mut devices, "x");
    take(&mut devices, "y");
    assert_eq!(got(&devices, &[one("z")], "n"), "Nothing");
    let admin =
        claim("admin", json!({"requests": [ask(json!({"adminAccess": true, "allocationMode": "All"}))]}));
    assert_eq!(got(&devices, &[admin], "n"), "r=a r=b");
    devices.release("y");
    assert_eq!(got(&devices, &[one("z")], "n"), "r=b");
    // The API shows what was kept, and then that it is free again.
    let mut shown = (*one("x")).clone();
    shown.status = Some(serde_json::from_value(json!({"allocation": first})).unwrap());
    devices.set_claim(Arc::new(shown.clone()));
    devices.release("x");
    assert_eq!(got(&devices, &[one("z")], "n"), "r=b");
    shown.status = None;
    devices.set_claim(Arc::new(shown));
    assert_eq!(got(&devices, &[one("z")], "n"), "r=a");
}

#[test]
fn taints_are_borne_or_keep_away() {
    let mut tainted = gpu("a", "m", "8Gi");
    tainted["taints"] = json!([{"key": "broken", "value": "fan", "effect": "NoSchedule"}]);
    let mut devices = cluster(json!([tainted, gpu("b", "m", "8Gi")]));
    let one = |more: Value| [claim("c", json!({"requests": [ask(more)]}))];
    assert_eq!(got(&devices, &one(json!({})), "n"), "r=b");
    assert_eq!(
        got(&devices, &one(json!({"tolerations": [{"key": "broken", "operator": "Exists"}]})), "n"),
        "r=a"
    );
    assert_eq!(got(&devices, &one(json!({"tolerations": [{"key": "broken", "value": "fan"}]})), "n"), "r=a");
    assert_eq!(got(&devices, &one(json!({"tolerations": [{"key": "broken", "value": "x"}]})), "n"), "r=b");
    let rule = json!({"metadata": {"name": "t"}, "spec": {"deviceSelector": {"driver": "gpu.example.com", "device": "b"},
        "taint": {"key": "k", "effect": "NoExecute"}}});
    devices.set_rule(Arc::new(serde_json::from_value(rule).unwrap()));
    assert_eq!(got(&devices, &one(json!({})), "n"), "Nothing");
}

/// Partitions of one device share its counters.
#[test]
fn partitions_share_counters() {
    let part = |name: &str, memory: &str| json!({"name": name, "consumesCounters": [{"counterSet": "card", "counters": {"memory": {"value": memory}}}]});
    let mut devices = cluster(json!([]));
    let counters = json!({"sharedCounters": [{"name": "card", "counters": {"memory": {"value": "40Gi"}}}]});
    devices.set_slice(slice(
        "s",
        counters,
        json!([part("whole", "40Gi"), part("half-0", "20Gi"), part("half-1", "20Gi")]),
    ));
    let asks = |count: i64| claim("c", json!({"requests": [ask(json!({"count": count}))]}));
    assert_eq!(got(&devices, &[asks(1)], "n"), "r=whole");
    assert_eq!(got(&devices, &[asks(2)], "n"), "r=half-0 r=half-1");
    assert_eq!(got(&devices, &[asks(3)], "n"), "Nothing");
    let whole = devices.allocate(&[asks(1)], &node("n")).unwrap().remove(0);
    devices.keep(&asks(1), Arc::new(whole));
    assert_eq!(got(&devices, &[claim("d", json!({"requests": [ask(json!({}))]}))], "n"), "Nothing");
}

/// A device that several claims share gives each a part of its capacity.
#[test]
fn capacity_is_shared_out() {
    let mut nic = json!({"name": "nic", "allowMultipleAllocations": true, "capacity": {"bandwidth": {"value": "10",
        "requestPolicy": {"default": "1", "validRange": {"min": "1", "step": "2"}}}}});
    nic["attributes"] = json!({});
    let mut devices = cluster(json!([nic]));
    let asks = |uid: &str, amount: Option<&str>| {
        let capacity = amount.map(|amount| json!({"requests": {"bandwidth": amount}}));
        claim(uid, json!({"requests": [ask(json!({"capacity": capacity}))]}))
    };
    let mut take = |uid: &str, amount: Option<&str>| {
        let one = asks(uid, amount);
        let allocation = devices.allocate(std::slice::from_ref(&one), &node("n")).ok()?.remove(0);
        let result = results(&allocation).next().unwrap().clone();
        devices.keep(&one, Arc::new(allocation));
        assert!(result.share_id.is_some());
        Some(result.consumed_capacity.unwrap()["bandwidth"].0.clone())
    };
    assert_eq!(take("a", None).as_deref(), Some("1"));
    assert_eq!(take("b", Some("4")).as_deref(), Some("5"), "up to the next step");
    assert_eq!(take("c", Some("5")), None);
    assert_eq!(take("d", Some("3")).as_deref(), Some("3"));
}

#[test]
fn places_of_devices() {
    let mut devices = cluster(json!([gpu("own", "m", "8Gi")]));
    let rack = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "rack", "operator": "In", "values": ["r1"]}]}]});
    let pool = json!({"name": "shared", "generation": 2, "resourceSliceCount": 1});
    let shared = json!({"nodeName": null, "nodeSelector": rack, "pool": pool});
    devices.set_slice(slice("t", shared.clone(), json!([gpu("shared", "m", "8Gi")])));
    let any = claim("c", json!({"requests": [ask(json!({}))]}));
    let placed = |devices: &Devices, on: &str| {
        let all = devices.allocate(std::slice::from_ref(&any), &node(on)).ok()?;
        Some(serde_json::to_value(&all[0].node_selector).unwrap()["nodeSelectorTerms"][0].to_string())
    };
    let own = r#"{"matchFields":[{"key":"metadata.name","operator":"In","values":["n"]}]}"#;
    let by_rack = r#"{"matchExpressions":[{"key":"rack","operator":"In","values":["r1"]}]}"#;
    assert_eq!(placed(&devices, "n").as_deref(), Some(own));
    assert_eq!(placed(&devices, "other").as_deref(), Some(by_rack));
    // A slice of an older generation is not counted; one that is missing makes the pool wait.
    let mut newer = shared;
    newer["pool"] = json!({"name": "shared", "generation": 3, "resourceSliceCount": 2});
    devices.set_slice(slice("u", newer, json!([gpu("new", "m", "8Gi")])));
    assert_eq!(placed(&devices, "other"), None);
    assert!(devices.allocate(&[any], &node("n")).is_ok());
}

#[test]
fn configuration_of_class_and_claim() {
    let devices = cluster(json!([gpu("a", "m", "8Gi")]));
    let config = json!([
        {"opaque": {"driver": "gpu.example.com", "parameters": {"of": "claim"}}},
        {"requests": ["other"], "opaque": {"driver": "gpu.example.com", "parameters": {"of": "another"}}},
    ]);
    let all =
        devices.allocate(&[claim("c", json!({"requests": [ask(json!({}))], "config": config}))], &node("n"));
    let devices = all.unwrap().remove(0).devices.unwrap();
    let of = |at: usize| {
        let config = &devices.config.as_ref().unwrap()[at];
        (
            config.source.clone(),
            config.opaque.as_ref().unwrap().parameters.0["of"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(of(0), ("FromClass".to_owned(), "class".to_owned()));
    assert_eq!(of(1), ("FromClaim".to_owned(), "claim".to_owned()));
    assert_eq!(devices.config.unwrap().len(), 2);
}
