//! Patches, server-side apply and managed fields.

use plimsoll_merge::apply::{Request, apply};
use plimsoll_merge::managed::{Writer, track};
use plimsoll_merge::paths::{Element, Set};
use plimsoll_merge::{Typed, json_patch, merge_patch, overlay, strategic_merge};
use plimsoll_schema::builtin;
use serde_json::{Value, json};

use crate::{Decoder, parts, text, texts};

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","labels":{"a":"b"},"finalizers":["x/y"],"managedFields":[{"manager":"m","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{"f:a":{}},"f:finalizers":{"v:\"x/y\"":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:ports":{"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{}}}}}}}]},"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":80}]},{"name":"d","image":"j","args":["1","2"]}],"tolerations":[{"key":"k"}]}}"#;

pub(crate) const DECODERS: &[Decoder] = &[
    Decoder { name: "json_patch", examples: json_patches, read: read_json_patch },
    Decoder { name: "merge_patch", examples: objects, read: read_merge_patch },
    Decoder { name: "strategic_merge", examples: strategic_patches, read: read_strategic },
    Decoder { name: "apply", examples: objects, read: read_apply },
    Decoder { name: "managed_fields", examples: objects, read: read_managed },
    Decoder { name: "fields_v1", examples: fields, read: read_fields },
];

fn pod() -> Typed<'static> {
    let id = builtin().lookup("io.k8s.api.core.v1.Pod");
    id.map_or(Typed::DEDUCED, |id| Typed::of(builtin(), id))
}

fn behind_pod(patches: &[&str]) -> Vec<Vec<u8>> {
    patches.iter().map(|patch| format!("{POD}\n{patch}").into_bytes()).collect()
}

fn json_patches() -> Vec<Vec<u8>> {
    behind_pod(&[
        r#"[{"op":"add","path":"/spec/containers/-","value":{"name":"e"}},{"op":"remove","path":"/metadata/labels/a"}]"#,
        r#"[{"op":"copy","from":"/spec/containers/0","path":"/spec/containers/1"},{"op":"move","from":"/spec/a~1b~0c","path":""}]"#,
        r#"[{"op":"test","path":"/spec/containers/0/ports/0/containerPort","value":80},{"op":"replace","path":"/spec","value":null}]"#,
    ])
}

fn strategic_patches() -> Vec<Vec<u8>> {
    behind_pod(&[
        r#"{"spec":{"$setElementOrder/containers":[{"name":"d"},{"name":"c"}],"containers":[{"name":"c","image":"k","$patch":"merge"},{"$patch":"delete","name":"d"}]}}"#,
        r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["x/y"],"$setElementOrder/finalizers":["z"],"finalizers":["z"]}}"#,
        r#"{"spec":{"$retainKeys":["containers"],"volumes":[{"name":"v","$retainKeys":["name"]}],"containers":[{"$patch":"replace"}]}}"#,
        r#"{"spec":{"containers":[{"name":"c","ports":[{"containerPort":80,"$patch":"delete"}]}],"$patch":"replace"}}"#,
    ])
}

fn objects() -> Vec<Vec<u8>> {
    behind_pod(&[
        POD,
        r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","labels":{"a":null,"c":"d"}},"spec":{"containers":[{"name":"c","image":"k"},{"name":"e"}]}}"#,
        r#"{"apiVersion":"v1","metadata":{"managedFields":[{}],"finalizers":["x/y","x/y"]},"spec":{"containers":[{"name":"c"},{"name":"c"},{}],"overhead":{"cpu":1}}}"#,
    ])
}

fn fields() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"f:metadata":{"f:labels":{".":{},"f:a":{}}},"k:{\"name\":\"c\"}":{"v:1":{},"i:3":{}}}"#,
        r#"{"f:a":{},"v:\"x\"":{},"k:{\"a\":1,\"b\":null}":{".":{}}}"#,
    ])
}

fn read_json_patch(bytes: &[u8]) {
    let [document, patch] = parts(bytes);
    drop(json_patch(document, &patch));
}

fn read_merge_patch(bytes: &[u8]) {
    let [mut document, patch] = parts(bytes);
    merge_patch(&mut document, &patch);
}

fn read_strategic(bytes: &[u8]) {
    let [document, patch]: [Value; 2] = parts(bytes);
    drop(strategic_merge(document.clone(), &patch, pod()));
    drop(strategic_merge(document, &patch, Typed::DEDUCED));
}

fn writer() -> Writer<'static> {
    Writer { manager: "m", api_version: "v1", subresource: "", now: "2024-01-01T00:00:00Z" }
}

fn read_apply(bytes: &[u8]) {
    let [live, config] = parts(bytes);
    for (force, typed) in [(false, pod()), (true, pod()), (true, Typed::DEDUCED)] {
        let request = Request { config: &config, writer: writer(), force };
        let first = apply(Some(&live), &request, typed, &Set::EMPTY);
        drop(apply(None, &request, typed, &Set::of_fields(&[&["status"]])));
        if let Ok(first) = first {
            drop(apply(Some(&first), &request, typed, &Set::EMPTY));
        }
    }
    drop(overlay(&live, &config, pod()));
}

fn read_managed(bytes: &[u8]) {
    let [old, mut new] = parts(bytes);
    track(Some(&old), &mut new, &writer(), pod(), &Set::EMPTY);
    track(None, &mut new, &writer(), Typed::DEDUCED, &Set::EMPTY);
}

fn read_fields(bytes: &[u8]) {
    let [fields] = parts(bytes);
    let set = Set::decode(&fields);
    let again = Set::decode(&set.encode());
    let (union, other) = (set.union(&again), Set::decode(&json!({"f:a": {}})));
    drop((
        union.difference(&other),
        set.intersection(&other),
        other.without(&set),
        Element::parse(&text(bytes)),
    ));
}
