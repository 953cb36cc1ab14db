//! Kinds that users define, from their definition to their end.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Cluster, admin};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const THINGS: &str = "/apis/example.com/v1/namespaces/default/things";
const MERGE: &str = "application/merge-patch+json";

fn schema() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1},
            "color": {"type": "string", "default": "red"},
            "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                     "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "string"}}}},
        }},
        "status": {"type": "object", "properties": {"size": {"type": "integer"}, "selector": {"type": "string"}}},
    }})
}

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList", "shortNames": ["th"], "categories": ["all"]},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema()},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.selector"}},
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]}]}
    })
}

/// A cluster that serves a definition.
async fn serving(definition: Value) -> Cluster {
    let cluster = Cluster::start().await;
    define(&cluster, definition).await;
    cluster
}

async fn define(cluster: &Cluster, definition: Value) {
    let path = format!("{DEFINITIONS}/{}", definition["metadata"]["name"].as_str().expect("a name"));
    let made = cluster.post(DEFINITIONS, definition).await;
    assert_eq!(made.code, 201, "{made:?}");
    until(cluster, &path, |answer| condition(&answer.json(), "Established") == "True").await;
}

/// Asks until the answer is as wanted.
async fn until(cluster: &Cluster, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
    for _ in 0..2400 {
        let answer = cluster.get(path).await;
        if wanted(&answer) {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{path} is never as wanted: {:?}", cluster.get(path).await);
}

fn condition(definition: &Value, kind: &str) -> String {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    let found = conditions.into_iter().find(|one| one["type"] == kind);
    found.map(|one| one["status"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

fn thing(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_must_say_what_they_are() {
    let cluster = serving(definition()).await;
    let with = |field: &str, value: Value| {
        let mut object = thing("a", json!({"size": 1}));
        object[field] = value;
        object
    };
    let missing = r#"the object provided is unrecognized (must be of type Thing): Object 'Kind' is missing in '{"apiVersion":"example.com/v1","kind":"","metadata":{"name":"a"},"spec":{"size":1}}' ({"apiVersion":"example.com/v1" ...)"#;
    for (object, code, message) in [
        (with("kind", json!("")), 400, missing),
        (
            with("kind", json!("Foo")),
            422,
            "Foo.example.com \"a\" is invalid: kind: Invalid value: \"Foo\": must be Thing",
        ),
        (
            with("apiVersion", Value::Null),
            400,
            "the API version in the data () does not match the expected API version (example.com/v1)",
        ),
        (
            with("apiVersion", json!("other/v1")),
            400,
            "the API version in the data (other/v1) does not match the expected API version (example.com/v1)",
        ),
    ] {
        let refused = cluster.post(THINGS, object).await;
        assert_eq!((refused.code, refused.message().as_str()), (code, message));
    }
    assert_eq!(cluster.post(THINGS, thing("a", json!({"size": 1}))).await.code, 201);
    for (patch, message) in [
        (
            json!({"kind": "Foo"}),
            "Foo.example.com \"a\" is invalid: kind: Invalid value: \"Foo\": must be Thing",
        ),
        (
            json!({"apiVersion": "example.com/v9"}),
            "Thing.example.com \"a\" is invalid: apiVersion: Invalid value: \"example.com/v9\": must be example.com/v1",
        ),
    ] {
        let refused = cluster.patch(&format!("{THINGS}/a"), "application/merge-patch+json", patch).await;
        assert_eq!((refused.code, refused.message().as_str()), (422, message));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_pruned_defaulted_and_validated() {
    let cluster = serving(definition()).await;
    let made = cluster.post(THINGS, thing("a", json!({"size": 1, "odd": {"x": 1}}))).await;
    assert_eq!((made.code, made.json()["spec"].clone()), (201, json!({"size": 1, "color": "red"})));
    assert_eq!(made.headers["warning"], "299 - \"unknown field \\\"spec.odd\\\"\"");
    assert_eq!(made.json()["metadata"]["generation"], 1);

    let strict = format!("{THINGS}?fieldValidation=Strict");
    let refused = cluster.post(&strict, thing("b", json!({"size": 1, "odd": 1}))).await;
    assert_eq!(
        refused.message(),
        "Thing in version \"v1\" cannot be handled as a Thing: strict decoding error: unknown field \"spec.odd\""
    );
    let refused = cluster.post(THINGS, thing("b", json!({"size": 1, "color": 5}))).await;
    assert_eq!(
        (refused.code, refused.message()),
        (422, "Thing.example.com \"b\" is invalid: spec.color: Invalid value: \"integer\": spec.color in body must be of type string: \"integer\"".to_owned())
    );
    let refused =
        cluster.post(THINGS, thing("b", json!({"size": 1, "list": [{"k": "a"}, {"k": "a"}]}))).await;
    assert_eq!(
        refused.message(),
        "Thing.example.com \"b\" is invalid: spec.list[1]: Duplicate value: {\"k\":\"a\"}"
    );
    let protobuf = [("content-type", "application/vnd.kubernetes.protobuf")];
    let refused = cluster.ask_as(admin(), Method::POST, THINGS, &protobuf, Some(json!({}))).await;
    assert_eq!(refused.code, 415);
    let strategic =
        cluster.patch(&format!("{THINGS}/a"), "application/strategic-merge-patch+json", json!({})).await;
    assert_eq!(strategic.code, 415);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_spec_are_written_apart() {
    let cluster = serving(definition()).await;
    let mut object = thing("a", json!({"size": 2}));
    object["status"] = json!({"size": 9});
    let made = cluster.post(THINGS, object).await.json();
    assert_eq!(made["status"], Value::Null);
    let path = format!("{THINGS}/a");
    let patch = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"size": 7}, "status": {"size": 1, "selector": "a=b"}});
    let written = cluster.patch(&format!("{path}/status"), MERGE, patch.clone()).await.json();
    assert_eq!((&written["spec"]["size"], &written["status"]["size"]), (&json!(2), &json!(1)));
    assert_eq!(
        (&written["metadata"]["labels"], &written["metadata"]["generation"]),
        (&Value::Null, &json!(1))
    );
    let written =
        cluster.patch(&path, MERGE, json!({"spec": {"size": 7}, "status": {"size": 4}})).await.json();
    assert_eq!((&written["status"]["size"], &written["metadata"]["generation"]), (&json!(1), &json!(2)));
    let refused = cluster.patch(&format!("{path}/status"), MERGE, json!({"status": {"size": "x"}})).await;
    assert!(refused.message().contains("status.size: Invalid value: \"string\""), "{refused:?}");

    let scale = cluster.get(&format!("{path}/scale")).await.json();
    assert_eq!(
        (&scale["spec"]["replicas"], &scale["status"]),
        (&json!(7), &json!({"replicas": 1, "selector": "a=b"}))
    );
    let scaled = cluster.patch(&format!("{path}/scale"), MERGE, json!({"spec": {"replicas": 3}})).await;
    assert_eq!((scaled.code, scaled.json()["spec"]["replicas"].clone()), (200, json!(3)));
    assert_eq!(cluster.get(&path).await.json()["spec"]["size"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_listed_selected_and_shown() {
    let cluster = serving(definition()).await;
    for (name, color) in [("a", "red"), ("b", "blue")] {
        cluster.post(THINGS, thing(name, json!({"size": 1, "color": color}))).await;
    }
    let names = |answer: Answer| -> Vec<String> {
        let list = answer.json();
        let items = list["items"].as_array().expect("items");
        items.iter().map(|item| item["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(cluster.get(THINGS).await.json()["kind"], "ThingList");
    assert_eq!(names(cluster.get(&format!("{THINGS}?fieldSelector=spec.color%3Dblue")).await), ["b"]);
    assert_eq!(
        names(cluster.get("/apis/example.com/v1/things?fieldSelector=metadata.name%3Da").await),
        ["a"]
    );
    let unknown = cluster.get(&format!("{THINGS}?fieldSelector=spec.size%3D1")).await;
    assert_eq!((unknown.code, unknown.message()), (400, "field label not supported: spec.size".to_owned()));
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = cluster.ask_as(admin(), Method::GET, THINGS, &table, None).await.json();
    assert_eq!(table["columnDefinitions"][1]["name"], "Size");
    assert_eq!(table["rows"][0]["cells"], json!(["a", 1]));

    let resources = cluster.get("/apis/example.com/v1").await.json();
    let of = |name: &str| {
        let all = resources["resources"].as_array().expect("resources").iter();
        all.clone().find(|one| one["name"] == name).cloned().unwrap_or_default()
    };
    assert_eq!(of("things")["shortNames"], json!(["th"]));
    assert_eq!(of("things/scale")["kind"], "Scale");
    let document = cluster.get("/openapi/v3/apis/example.com/v1").await.json();
    let published = &document["components"]["schemas"]["com.example.v1.Thing"];
    assert_eq!(published["properties"]["spec"]["properties"]["color"]["default"], "red");
    let path = &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/things/{name}"];
    // kubectl reads here that there are no strategic patches.
    let patches = path["patch"]["requestBody"]["content"].as_object().expect("media types");
    let expected =
        ["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"];
    assert_eq!(patches.keys().collect::<Vec<_>>(), expected);
    let two = cluster.get("/openapi/v2").await.json();
    assert_eq!(
        two["definitions"]["com.example.v1.Thing"]["x-kubernetes-group-version-kind"][0]["kind"],
        "Thing"
    );
    until(&cluster, "/apis/apiregistration.k8s.io/v1/apiservices/v1.example.com", |answer| {
        answer.code == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn appliers_own_elements_of_list_maps() {
    let cluster = serving(definition()).await;
    let apply = async |manager: &str, list: Value| {
        let path = format!("{THINGS}/a?fieldManager={manager}");
        let mut object = thing("a", json!({"list": list}));
        if manager == "one" {
            object["spec"]["size"] = json!(1);
        }
        cluster.patch(&path, "application/apply-patch+yaml", object).await
    };
    assert_eq!(apply("one", json!([{"k": "a", "v": "1"}])).await.code, 201);
    let both = apply("two", json!([{"k": "b", "v": "2"}])).await;
    assert_eq!(both.json()["spec"]["list"], json!([{"k": "a", "v": "1"}, {"k": "b", "v": "2"}]), "{both:?}");
    let conflict = apply("two", json!([{"k": "a", "v": "9"}])).await;
    assert_eq!(
        (conflict.code, conflict.message()),
        (409, "Apply failed with 1 conflict: conflict with \"one\": .spec.list[k=\"a\"].v".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_share_their_objects() {
    let mut object = definition();
    let mut second = object["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    second["storage"] = json!(false);
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        .as_object_mut()
        .expect("properties")
        .remove("list");
    let mut old = second.clone();
    (old["name"], old["deprecated"]) = (json!("v1beta1"), json!(true));
    let versions = object["spec"]["versions"].as_array_mut().expect("versions");
    versions.extend([second, old]);
    let cluster = serving(object).await;
    cluster.post(THINGS, thing("a", json!({"size": 1, "list": [{"k": "a"}]}))).await;
    let second = THINGS.replace("/v1/", "/v2/");
    let seen = cluster.get(&format!("{second}/a")).await.json();
    assert_eq!(
        (&seen["apiVersion"], &seen["spec"]),
        (&json!("example.com/v2"), &json!({"size": 1, "color": "red"}))
    );
    let list = cluster.get(&second).await.json();
    assert_eq!(
        (&list["apiVersion"], &list["items"][0]["apiVersion"]),
        (&json!("example.com/v2"), &json!("example.com/v2"))
    );
    let warned = cluster.get(&THINGS.replace("/v1/", "/v1beta1/")).await;
    assert_eq!(
        warned.headers["warning"],
        "299 - \"example.com/v1beta1 Thing is deprecated; use example.com/v2 Thing\""
    );
    assert_eq!(cluster.get(&THINGS.replace("/v1/", "/v3/")).await.code, 404);
    let group = cluster.get("/apis/example.com").await.json();
    assert_eq!(group["preferredVersion"]["version"], "v2");
    let order: Vec<&str> = group["versions"]
        .as_array()
        .expect("versions")
        .iter()
        .filter_map(|one| one["version"].as_str())
        .collect();
    assert_eq!(order, ["v2", "v1", "v1beta1"]);

    // Another version is stored from now on, and stays on record.
    let path = format!("{DEFINITIONS}/things.example.com");
    let mut changed = cluster.get(&path).await.json();
    changed["spec"]["versions"][0]["storage"] = json!(false);
    changed["spec"]["versions"][1]["storage"] = json!(true);
    let changed = cluster.put(&path, changed).await;
    assert_eq!(changed.json()["status"]["storedVersions"], json!(["v1", "v2"]), "{changed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_objects_get_defaults_that_come_later() {
    let mut first = definition();
    let properties = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    first.pointer_mut(properties).and_then(Value::as_object_mut).expect("properties").remove("color");
    first["spec"]["versions"][0]["selectableFields"] = json!([]);
    let cluster = serving(first).await;
    let path = format!("{THINGS}/a");
    assert_eq!(cluster.post(THINGS, thing("a", json!({"size": 1}))).await.json()["spec"], json!({"size": 1}));
    let patch = json!([{"op": "add", "path": format!("{properties}/color"), "value": {"type": "string", "default": "green"}}]);
    let definition = format!("{DEFINITIONS}/things.example.com");
    let patched = cluster.patch(&definition, "application/json-patch+json", patch).await;
    assert_eq!(patched.code, 200, "{patched:?}");
    until(&cluster, &path, |answer| answer.json()["spec"] == json!({"size": 1, "color": "green"})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_in_use_are_not_granted_twice() {
    let cluster = serving(definition()).await;
    let mut other = definition();
    other["metadata"]["name"] = json!("others.example.com");
    other["spec"]["names"] =
        json!({"plural": "others", "singular": "other", "kind": "Thing", "listKind": "OtherList"});
    assert_eq!(cluster.post(DEFINITIONS, other).await.code, 201);
    let path = format!("{DEFINITIONS}/others.example.com");
    let refused =
        until(&cluster, &path, |answer| condition(&answer.json(), "NamesAccepted") == "False").await;
    assert_eq!(condition(&refused.json(), "Established"), "False");
    assert_eq!(cluster.get("/apis/example.com/v1/others").await.code, 404);
    // The name is free once its owner is gone.
    cluster.delete(&format!("{DEFINITIONS}/things.example.com")).await;
    until(&cluster, &path, |answer| condition(&answer.json(), "Established") == "True").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_go_before_their_definition() {
    let cluster = serving(definition()).await;
    let mut held = thing("held", json!({"size": 1}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.post(THINGS, held).await;
    cluster.post(THINGS, thing("free", json!({"size": 1}))).await;
    let path = format!("{DEFINITIONS}/things.example.com");
    let ending = cluster.delete(&path).await.json();
    assert_eq!(ending["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    until(&cluster, &format!("{THINGS}/free"), |answer| answer.code == 404).await;
    let refused = cluster.post(THINGS, thing("late", json!({"size": 1}))).await;
    assert_eq!(
        (refused.code, refused.message()),
        (405, "create not allowed while custom resource definition is terminating".to_owned())
    );
    cluster.patch(&format!("{THINGS}/held"), MERGE, json!({"metadata": {"finalizers": null}})).await;
    until(&cluster, &path, |answer| answer.code == 404).await;
    // The server follows its definitions.
    until(&cluster, THINGS, |answer| answer.code == 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_that_mean_nothing_are_refused() {
    let cluster = Cluster::start().await;
    let mut object = definition();
    object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["size"] =
        json!({});
    let refused = cluster.post(DEFINITIONS, object).await;
    assert_eq!(refused.code, 422);
    assert!(
        refused.message().contains(
            "spec.validation.openAPIV3Schema.properties[spec].properties[size].type: Required value: must not be empty for specified object fields"
        ),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_held_against_objects() {
    let mut object = definition();
    let properties = &mut object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    properties["spec"]["x-kubernetes-validations"] = json!([
        {"rule": "self.size <= 5", "messageExpression": "self.color + ' is at most 5'", "fieldPath": ".size"},
        {"rule": "self.color == oldSelf.color", "message": "color is fixed", "reason": "FieldValueForbidden"},
    ]);
    let cluster = serving(object).await;
    let refused = cluster.post(THINGS, thing("a", json!({"size": 6}))).await;
    assert_eq!(
        (refused.code, refused.message()),
        (
            422,
            "Thing.example.com \"a\" is invalid: spec.size: Invalid value: \"object\": red is at most 5"
                .to_owned()
        )
    );
    assert_eq!(cluster.post(THINGS, thing("a", json!({"size": 5}))).await.code, 201);
    let path = format!("{THINGS}/a");
    let refused = cluster.patch(&path, MERGE, json!({"spec": {"color": "blue"}})).await;
    assert_eq!(
        (refused.code, refused.message()),
        (422, "Thing.example.com \"a\" is invalid: spec: Forbidden: color is fixed".to_owned())
    );
    assert_eq!(cluster.patch(&path, MERGE, json!({"spec": {"size": 4}})).await.code, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_do_not_compile_are_refused() {
    let cluster = Cluster::start().await;
    let mut object = definition();
    let properties = &mut object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    properties["spec"]["x-kubernetes-validations"] = json!([{"rule": "self.x == 1"}]);
    let refused = cluster.post(DEFINITIONS, object).await;
    assert_eq!(refused.code, 422);
    for part in [
        "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Invalid value: {\"Rule\":\"self.x == 1\"",
        "compilation failed: ERROR: <input>:1:5: undefined field 'x'",
    ] {
        assert!(refused.message().contains(part), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_end_when_their_definition_changes_or_goes() {
    let cluster = serving(definition()).await;
    let path = format!("{DEFINITIONS}/things.example.com");
    let version = cluster.get(THINGS).await.json()["metadata"]["resourceVersion"].clone();
    let version = version.as_str().expect("a version");
    let watch = format!("{THINGS}?watch=1&timeoutSeconds=300&resourceVersion={version}");
    let told = |answer: &Answer| -> Vec<String> {
        let events = serde_json::Deserializer::from_slice(&answer.body).into_iter::<Value>();
        events.map(|event| event.expect("an event")["type"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let change = async {
        let labelled = json!({"metadata": {"labels": {"a": "b"}}});
        assert_eq!(cluster.patch(&path, MERGE, labelled).await.code, 200);
        assert_eq!(cluster.post(THINGS, thing("a", json!({"size": 1}))).await.code, 201);
        let named = json!({"spec": {"names": {"shortNames": ["tg"]}}});
        assert_eq!(cluster.patch(&path, MERGE, named).await.code, 200);
    };
    let (ended, ()) =
        tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(cluster.get(&watch), change) })
            .await
            .expect("the watch ends");
    assert_eq!(told(&ended), ["ADDED"]);
    let end = async { assert_eq!(cluster.delete(&path).await.code, 200) };
    let (ended, ()) =
        tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(cluster.get(&watch), end) })
            .await
            .expect("the watch ends");
    assert_eq!(told(&ended), ["ADDED", "DELETED"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn makers_own_the_whole_of_new_objects() {
    let cluster = serving(definition()).await;
    let mut object = thing("a", json!({"size": 1, "list": [{"k": "a"}]}));
    object["metadata"]["finalizers"] = json!(["plain"]);
    object["metadata"]["labels"] = json!({"l": "1"});
    let made = cluster.post(&format!("{THINGS}?fieldManager=maker"), object).await;
    assert_eq!((made.code, made.headers.get("warning")), (201, None), "{made:?}");
    assert_eq!(
        made.json()["metadata"]["managedFields"][0]["fieldsV1"],
        json!({
            "f:metadata": {"f:finalizers": {".": {}, "v:\"plain\"": {}}, "f:labels": {".": {}, "f:l": {}}},
            "f:spec": {".": {}, "f:color": {}, "f:size": {},
                "f:list": {".": {}, "k:{\"k\":\"a\"}": {".": {}, "f:k": {}}}},
        })
    );
}
