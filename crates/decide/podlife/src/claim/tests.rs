//! Pods, the claims they may use, and what they get.
#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};

use super::*;

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
        "spec": {
            "resourceClaims": [
                {"name": "named", "resourceClaimName": "shared"},
                {"name": "made", "resourceClaimTemplateName": "t"},
                {"name": "needless", "resourceClaimTemplateName": "t"},
            ],
            "containers": [
                {"name": "a", "resources": {"claims": [{"name": "named", "request": "gpu"}, {"name": "made"}]}},
                {"name": "b", "resources": {"requests": {"example.com/gpu": "1"}, "claims": [{"name": "needless"}]}},
                {"name": "c"},
            ],
        },
        "status": {
            "resourceClaimStatuses": [{"name": "made", "resourceClaimName": "p-made"}, {"name": "needless"}],
            "extendedResourceClaimStatus": {"resourceClaimName": "ext", "requestMappings": [
                {"containerName": "b", "resourceName": "example.com/gpu", "requestName": "r0"},
                {"containerName": "a", "resourceName": "example.com/gpu", "requestName": "r1"}]},
        },
    }))
    .unwrap()
}

fn object(change: Value) -> ResourceClaim {
    let mut object = json!({
        "metadata": {"name": "p-made", "namespace": "ns", "uid": "c1", "ownerReferences": [
            {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]},
        "spec": {},
        "status": {
            "reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}],
            "allocation": {"devices": {"results": [
                {"request": "gpu", "driver": "d1", "pool": "n", "device": "g0"},
                {"request": "nic", "driver": "d2", "pool": "n", "device": "n0"}]}},
        },
    });
    for (path, value) in change.as_object().unwrap() {
        *object.pointer_mut(path).unwrap() = value.clone();
    }
    serde_json::from_value(object).unwrap()
}

#[test]
fn pods_use_claims_that_exist() {
    let names: Vec<_> = used(&pod()).unwrap().into_iter().map(|it| (it.name, it.is_own)).collect();
    assert_eq!(names, [("shared".into(), false), ("p-made".into(), true), ("ext".into(), false)]);
    let mut early = pod();
    early.status = None;
    assert_eq!(used(&early).unwrap_err(), "pod \"ns/p\": ResourceClaim not created yet");
    let requests = |at: usize| requests(&pod(), &pod().spec.unwrap().containers[at]).unwrap();
    let asked = |list: &[(&str, &str)]| -> BTreeMap<String, Vec<String>> {
        list.iter().map(|(claim, request)| ((*claim).into(), vec![(*request).into()])).collect()
    };
    assert_eq!(requests(0), asked(&[("shared", "gpu"), ("p-made", "")]));
    assert_eq!(requests(1), asked(&[("ext", "r0")]));
    assert_eq!(requests(2), asked(&[]));
}

#[test]
fn pods_may_use_claims_that_are_allocated_and_reserved_for_them() {
    let own = Used { name: "p-made".into(), is_own: true };
    let found = claim(&pod(), &own, &object(json!({}))).unwrap();
    assert_eq!(found.drivers.into_keys().collect::<Vec<_>>(), ["d1", "d2"]);
    for (change, expected) in [
        (
            json!({"/metadata/ownerReferences": []}),
            "ResourceClaim ns/p-made was not created for Pod ns/p (Pod is not owner)",
        ),
        (
            json!({"/status/reservedFor": [{"resource": "pods", "name": "q", "uid": "v"}]}),
            "pod p (u) is not allowed to use ResourceClaim p-made (c1)",
        ),
        (json!({"/status/allocation": null}), "ResourceClaim p-made: not allocated"),
    ] {
        assert_eq!(claim(&pod(), &own, &object(change)).unwrap_err(), expected);
    }
    let foreign = Used { is_own: false, ..own };
    assert!(claim(&pod(), &foreign, &object(json!({"/metadata/ownerReferences": []}))).is_ok());
}

fn device(requests: &[&str], cdi: &str) -> Device {
    let requests = requests.iter().map(|it| (*it).to_owned()).collect();
    Device { pool: "n".into(), name: cdi.into(), share: None, requests, cdi: vec![cdi.into()] }
}

#[test]
fn claims_are_prepared_once_and_taken_back_by_the_last() {
    let own = Used { name: "p-made".into(), is_own: true };
    let made = claim(&pod(), &own, &object(json!({}))).unwrap();
    let mut book = Book::default();
    assert_eq!(book.enter("u", &made), Ok(true));
    assert_eq!(book.enter("u", &made), Ok(true), "nobody said that it is prepared");
    book.add("ns", "p-made", "d1", vec![device(&["gpu"], "v/gpu=0"), device(&[], "v/all=0")]);
    book.add("ns", "p-made", "d2", vec![device(&["nic"], "v/nic=0")]);
    book.prepared("ns", "p-made");
    assert_eq!(book.enter("v", &made), Ok(false));
    let cdi = |request: &str| book.cdi("ns", "p-made", &[request.into()]).unwrap();
    assert_eq!(cdi("gpu"), ["v/gpu=0", "v/all=0"]);
    assert_eq!(cdi(""), ["v/gpu=0", "v/all=0", "v/nic=0"]);
    assert_eq!(
        book.cdi("ns", "x", &[]).unwrap_err(),
        "internal error: unable to get claim info for ResourceClaim x in namespace ns"
    );
    let again = Claim { uid: "c2".into(), ..made.clone() };
    assert_eq!(
        book.enter("w", &again).unwrap_err(),
        "old ResourceClaim with same name p-made and different UID c1 still exists (previous pod force-deleted?!)"
    );
    assert_eq!(book.strangers(|uid| uid == "u"), ["v".to_owned()].into());
    assert!(book.leave("u").is_empty() && !book.uses("u"));
    let last = book.leave("v");
    assert_eq!((last.len(), book.uses("v")), (1, true));
    book.taken_back(&last[0]);
    assert_eq!(book, Book::default());
}

#[test]
fn records_are_upstreams() {
    let text = r#"{"Data":"{\"kind\":\"DRACheckpoint\",\"apiVersion\":\"checkpoint.dra.kubelet.k8s.io/v1\",\"ClaimInfoStateList\":[{\"ClaimUID\":\"067798be-454e-4be4-9047-1aa06aea63f7\",\"ClaimName\":\"example\",\"Namespace\":\"default\",\"PodUIDs\":{\"139cdb46-f989-4f17-9561-ca10cfb509a6\":{}},\"DriverState\":{\"test-driver.cdi.k8s.io\":{\"Devices\":[{\"PoolName\":\"worker-1\",\"DeviceName\":\"dev-1\",\"RequestNames\":[\"test request\"],\"CDIDeviceIDs\":[\"example.com/example=cdi-example\"]}]}}}]}","Checksum":1656016162}"#;
    let book = record::read(text).unwrap();
    let held = book.get("default", "example").unwrap();
    assert_eq!(held.claim.drivers["test-driver.cdi.k8s.io"][0].cdi, ["example.com/example=cdi-example"]);
    assert!(book.uses("139cdb46-f989-4f17-9561-ca10cfb509a6") && !held.prepared);
    assert_eq!(record::write(&book), text);
    assert_eq!(record::read(&text.replace("dev-1", "dev-2")).unwrap_err(), "checkpoint is corrupted");
    let empty = record::write(&Book::default());
    assert_eq!(record::read(&empty).unwrap(), Book::default());
}
