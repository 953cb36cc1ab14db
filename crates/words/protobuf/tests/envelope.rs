//! Whole objects, lists and watch frames, and input that is none of these.

#![expect(clippy::unwrap_used, reason = "tests")]

use plimsoll_protobuf::{ProtobufError, WatchEvent, decode, encode, encodes, watch_event, watch_frame};
use serde_json::{Value, json};

/// A field that carries bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut tag = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 127 {
        tag.push((length & 127) as u8 | 128);
        length >>= 7;
    }
    tag.push(length as u8);
    [&tag, bytes].concat()
}

/// An envelope by hand.
fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let of_type = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [&b"k8s\0"[..], &field(1, &of_type), &field(2, raw), &field(3, b""), &field(4, b"")].concat()
}

#[test]
fn an_object_has_the_published_envelope() {
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}, "spec": {}, "status": {}});
    let metadata = b"\x0a\x11\x0a\x01a\x12\x00\x1a\x00\x22\x00\x2a\x00\x32\x00\x38\x00\x42\x00";
    let raw = [&metadata[..], b"\x12\x00\x1a\x02\x0a\x00"].concat();
    let bytes = envelope("v1", "Namespace", &raw);
    assert_eq!(encode(&namespace).unwrap(), bytes);
    assert_eq!(decode(&bytes).unwrap(), namespace);
}

#[test]
fn every_sort_of_object_survives() {
    for object in [
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "strategy": {}, "template": {
                "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "x", "image": "x", "resources": {}}]}}},
            "status": {}}),
        json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "5", "remainingItemCount": 3},
            "items": [{"metadata": {"name": "a"}, "spec": {"containers": [{"name": "x", "resources": {}}]}, "status": {}}]}),
        json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "message": "no", "reason": "NotFound",
            "details": {"name": "a", "kind": "pods", "causes": [{"reason": "r", "field": "f"}]}, "code": 404}),
        json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground", "gracePeriodSeconds": 0}),
        json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}),
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}, "deleteOptions": {"dryRun": ["All"]}}),
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {}, "spec": {"replicas": 3}, "status": {"replicas": 2}}),
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {},
            "spec": {"audiences": ["a"], "expirationSeconds": 600}, "status": {"token": ""}}),
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "metadata": {},
            "spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}, "status": {"allowed": true}}),
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": [{"metadata": {"name": "a"}}]}),
        json!({"apiVersion": "internal.apiserver.k8s.io/v1alpha1", "kind": "StorageVersion", "metadata": {"name": "a"}, "spec": {}, "status": {}}),
        json!({"apiVersion": "v1", "kind": "WatchEvent", "type": "ADDED", "object": {"apiVersion": "v1", "kind": "Pod"}}),
        json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": [{"apiVersion": "example.com/v1", "kind": "Thing"}]}),
    ] {
        let mut found = decode(&encode(&object).unwrap()).unwrap();
        if object["kind"] == "TokenRequest" {
            // The one nested object whose zero is null.
            assert_eq!(found["status"].as_object_mut().unwrap().remove("expirationTimestamp"), None);
        }
        assert_eq!(found, object);
    }
}

#[test]
fn nested_envelopes_are_read() {
    let inner = envelope("v1", "Namespace", b"");
    let event = [field(1, b"ADDED"), field(2, &field(1, &inner))].concat();
    let found = decode(&envelope("v1", "WatchEvent", &event)).unwrap();
    assert_eq!(found["object"], json!({"apiVersion": "v1", "kind": "Namespace"}));
}

#[test]
fn frames_carry_events() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {}, "status": {}});
    let frames =
        [watch_frame("ADDED", &encode(&pod).unwrap()), watch_frame("DELETED", &encode(&pod).unwrap())];
    let length = u32::from_be_bytes(frames[0][..4].try_into().unwrap());
    assert_eq!(length as usize, frames[0].len() - 4);
    let stream = frames.concat();
    let mut rest = &stream[..];
    for name in ["ADDED", "DELETED"] {
        let expected = WatchEvent { event: name.to_owned(), object: pod.clone() };
        assert_eq!(watch_event(&mut rest), Ok(Some(expected)));
    }
    for length in 0..frames[0].len() {
        let mut part = &frames[0][..length];
        assert_eq!((watch_event(&mut part), part.len()), (Ok(None), length), "not complete yet");
    }
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// A ControllerRevision whose data is that JSON.
fn revision(data: &str) -> Vec<u8> {
    envelope("apps/v1", "ControllerRevision", &field(2, &field(1, data.as_bytes())))
}

/// A definition with a schema of that depth.
fn definition(levels: usize) -> Vec<u8> {
    // Number 25, allOf, has a tag of two bytes.
    let all_of = |inner: Vec<u8>, _| [&[0xca, 0x01][..], &field(0, &inner)[1..]].concat();
    let schema = (0..levels).fold(Vec::new(), all_of);
    // openAPIV3Schema of schema of versions of spec.
    let spec = [1, 4, 7, 2].into_iter().fold(schema, |inner, number| field(number, &inner));
    envelope("apiextensions.k8s.io/v1", "CustomResourceDefinition", &spec)
}

/// An event that carries an event, and so on.
fn events(levels: usize) -> Vec<u8> {
    (0..levels).fold(envelope("v1", "WatchEvent", b""), |inner, _| {
        envelope("v1", "WatchEvent", &field(2, &field(1, &inner)))
    })
}

#[test]
fn other_input_is_refused() {
    let packed = [&b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod"[..], b"\x1a\x04gzip"].concat();
    for (bytes, cause) in [
        (Vec::new(), "expected prefix [107 56 115 0]"),
        (b"{\"kind\":\"Pod\"}".to_vec(), "expected prefix"),
        (b"k8s\0".to_vec(), "no kind \"\" is registered for version \"\""),
        (envelope("v1", "Pood", b""), "no kind \"Pood\""),
        (
            envelope("example.com/v1", "Pod", b""),
            "no kind \"Pod\" is registered for version \"example.com/v1\"",
        ),
        (envelope("apps/v1", "Pod", b""), "no kind \"Pod\""),
        (envelope("v1", "Pod", b"\x0a"), "unexpected EOF"),
        (envelope("v1", "Pod", b"\x08\x01"), "metadata: proto: wrong wire type 0"),
        (envelope("v1", "Pod", b"\x0a\x03\x0a\x01\xff"), "metadata.name: proto: invalid UTF-8"),
        (envelope("v1", "Pod", b"\x12\x04\x12\x02\x0a\x09"), "spec.containers[0]: unexpected EOF"),
        (packed, "unsupported content encoding \"gzip\""),
        (revision("{"), "data: malformed JSON"),
        (revision(&nested(500)), "malformed JSON: recursion limit exceeded"),
        (revision(&nested(120)), "nested deeper than 120 levels"),
        (definition(200), "nested deeper than 120 levels"),
        (events(3000), "nested deeper than 120 levels"),
    ] {
        let error = decode(&bytes).expect_err(cause).to_string();
        assert!(error.contains(cause), "{error}");
    }
}

#[test]
fn deep_input_is_read_as_far_as_json_can_be() {
    for bytes in [revision(&nested(119)), definition(56), events(119)] {
        let text = decode(&bytes).unwrap().to_string();
        assert!(serde_json::from_str::<Value>(&text).is_ok());
    }
}

#[test]
fn values_that_do_not_fit_are_named() {
    for (object, expected) in [
        (json!({"metadata": {"name": 1}}), "metadata.name: a number where text is expected"),
        (json!({"spec": {"containers": {}}}), "spec.containers: an object where a list is expected"),
        (
            json!({"spec": {"containers": [{"name": "a"}, {"ports": [{"containerPort": 3_000_000_000u32}]}]}}),
            "spec.containers[1].ports[0].containerPort: a number where a whole number in range is expected",
        ),
        (json!({"metadata": {"labels": {"a": []}}}), "metadata.labels.a: a list where text is expected"),
        (
            json!({"metadata": {"creationTimestamp": "soon"}}),
            "metadata.creationTimestamp: \"soon\" is not a time",
        ),
    ] {
        let mut pod = object;
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        let error = encode(&pod).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let custom = json!({"apiVersion": "example.com/v1", "kind": "Thing"});
    assert!(matches!(encode(&custom), Err(ProtobufError::UnknownKind { .. })));
    assert!(matches!(encode(&Value::Null), Err(ProtobufError::UnknownKind { .. })));
}

#[test]
fn built_in_types_are_known() {
    for (api_version, kind, known) in [
        ("v1", "Pod", true),
        ("v1", "PodList", true),
        ("apps/v1", "Status", true),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", true),
        ("apiregistration.k8s.io/v1", "APIServiceList", true),
        ("meta.k8s.io/v1", "PartialObjectMetadata", true),
        ("meta.k8s.io/v1", "Table", false),
        ("v1", "Deployment", false),
        ("core.example.com/v1", "Pod", false),
        ("", "", false),
    ] {
        assert_eq!(encodes(api_version, kind), known, "{api_version} {kind}");
    }
}
