use serde_json::{Value, json};

use super::*;
use crate::testing::{merged, object};

fn claim(change: Value) -> PersistentVolumeClaim {
    let base = json!({"metadata": {"name": "c", "namespace": "ns", "uid": "u"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}}});
    object(merged(base, &change))
}

fn volume(name: &str, size: &str, change: Value) -> Arc<PersistentVolume> {
    let base = json!({"metadata": {"name": name}, "status": {"phase": "Available"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": size}, "volumeMode": "Filesystem"}});
    Arc::new(object(merged(base, &change)))
}

fn kept(uid: Option<&str>) -> Value {
    json!({"spec": {"claimRef": {"namespace": "ns", "name": "c", "uid": uid}}})
}

#[test]
fn the_smallest_volume_that_suits_is_found() {
    let none = || json!({});
    let many = json!(["ReadWriteOnce", "ReadWriteMany"]);
    let cases = vec![
        ("too small", none(), vec![volume("a", "4Gi", none())], None),
        ("smallest", none(), vec![volume("a", "9Gi", none()), volume("b", "5Gi", none())], Some("b")),
        (
            "fewest modes first",
            none(),
            vec![volume("a", "5Gi", json!({"spec": {"accessModes": many}})), volume("b", "9Gi", none())],
            Some("b"),
        ),
        (
            "more modes will do",
            none(),
            vec![volume("a", "5Gi", json!({"spec": {"accessModes": many}}))],
            Some("a"),
        ),
        ("all modes", json!({"spec": {"accessModes": many}}), vec![volume("a", "5Gi", none())], None),
        ("device", none(), vec![volume("a", "5Gi", json!({"spec": {"volumeMode": "Block"}}))], None),
        ("class", none(), vec![volume("a", "5Gi", json!({"spec": {"storageClassName": "fast"}}))], None),
        (
            "same class",
            json!({"spec": {"storageClassName": "fast"}}),
            vec![volume("a", "5Gi", json!({"spec": {"storageClassName": "fast"}}))],
            Some("a"),
        ),
        (
            "old annotation goes before the field",
            json!({"metadata": {"annotations": {"volume.beta.kubernetes.io/storage-class": "gold"}}, "spec": {"storageClassName": "fast"}}),
            vec![volume("a", "5Gi", json!({"spec": {"storageClassName": "gold"}}))],
            Some("a"),
        ),
        (
            "attributes",
            none(),
            vec![volume("a", "5Gi", json!({"spec": {"volumeAttributesClassName": "gold"}}))],
            None,
        ),
        (
            "selector",
            json!({"spec": {"selector": {"matchLabels": {"zone": "x"}}}}),
            vec![
                volume("a", "5Gi", none()),
                volume("b", "6Gi", json!({"metadata": {"labels": {"zone": "x"}}})),
            ],
            Some("b"),
        ),
        ("released", none(), vec![volume("a", "5Gi", json!({"status": {"phase": "Released"}}))], None),
        (
            "going",
            none(),
            vec![volume("a", "5Gi", json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}}))],
            None,
        ),
        ("kept", none(), vec![volume("a", "5Gi", none()), volume("b", "9Gi", kept(None))], Some("b")),
        ("kept and bound", none(), vec![volume("b", "9Gi", kept(Some("u")))], Some("b")),
        ("kept for the one before", none(), vec![volume("b", "9Gi", kept(Some("old")))], None),
        ("kept, but too small", none(), vec![volume("b", "1Gi", kept(None))], None),
    ];
    for (what, change, volumes, expected) in cases {
        let found = find(&claim(change), volumes.iter(), &Seeker::Binder { delayed: false });
        assert_eq!(found.and_then(|volume| volume.metadata.name.as_deref()), expected, "{what}");
    }
}

#[test]
fn waiting_claims_get_only_what_is_kept_for_them() {
    let volumes = [volume("a", "5Gi", json!({})), volume("b", "9Gi", kept(None))];
    let delayed = Seeker::Binder { delayed: true };
    let name = |volumes: &[Arc<PersistentVolume>], seeker: &Seeker<'_>| {
        find(&claim(json!({})), volumes.iter(), seeker).and_then(|volume| volume.metadata.name.clone())
    };
    assert_eq!(name(&volumes[..1], &delayed), None);
    assert_eq!(name(&volumes, &delayed).as_deref(), Some("b"));
    let here = |names: &'static [&str]| {
        move |volume: &PersistentVolume| {
            names.iter().any(|name| volume.metadata.name.as_deref() == Some(name))
        }
    };
    let cases: [(&'static [&str], _); 3] = [(&["a", "b"], Some("b")), (&["b"], Some("b")), (&["a"], None)];
    for (reachable, expected) in cases {
        let reaches = here(reachable);
        assert_eq!(name(&volumes, &Seeker::Scheduler(&reaches)).as_deref(), expected, "{reachable:?}");
    }
    let reaches = here(&["a"]);
    assert_eq!(name(&volumes[..1], &Seeker::Scheduler(&reaches)).as_deref(), Some("a"));
}

#[test]
fn volumes_that_claims_name_are_held_against_them() {
    let cases = [
        (json!({}), json!({}), Ok(())),
        (
            json!({"spec": {"resources": {"requests": {"storage": "9Gi"}}}}),
            json!({}),
            Err("requested PV is too small"),
        ),
        (json!({"spec": {"storageClassName": "x"}}), json!({}), Err("storageClassName does not match")),
        (json!({}), json!({"spec": {"volumeMode": "Block"}}), Err("incompatible volumeMode")),
        (json!({"spec": {"accessModes": ["ReadWriteMany"]}}), json!({}), Err("incompatible accessMode")),
        (
            json!({"spec": {"volumeAttributesClassName": "x"}}),
            json!({}),
            Err("volumeAttributesClassName does not match"),
        ),
        (
            json!({}),
            json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}}),
            Err("the volume is marked for deletion \"v\""),
        ),
    ];
    for (ours, theirs, expected) in cases {
        let found = satisfies(&volume("v", "5Gi", theirs), &claim(ours));
        assert_eq!(found, expected.map_err(str::to_owned));
    }
}
