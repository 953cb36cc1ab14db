//! Lists: pages, selectors and forms.

use http::Method;
use plimsoll_apiserver::User;
use serde_json::json;

use crate::support::{Cluster, admin};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn maps(cluster: &Cluster, names: &[&str]) {
    for name in names {
        let labels = json!({"first": name[..1]});
        let made = cluster.post(MAPS, json!({"metadata": {"name": name, "labels": labels}})).await;
        assert_eq!(made.code, 201, "{made:?}");
    }
}

fn names(list: &serde_json::Value) -> Vec<&str> {
    let items = list["items"].as_array().into_iter().flatten();
    items.filter_map(|item| item["metadata"]["name"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_count_what_is_left_unless_something_is_selected() {
    let cluster = Cluster::start().await;
    maps(&cluster, &["aa", "ab", "ba", "bb", "bc"]).await;
    let first = cluster.get(&format!("{MAPS}?limit=2")).await.json();
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["aa", "ab"], &json!(3)));
    let token = first["metadata"]["continue"].as_str().expect("a token").to_owned();
    let rest = cluster.get(&format!("{MAPS}?limit=9&continue={token}")).await.json();
    assert_eq!(names(&rest), ["ba", "bb", "bc"]);
    assert_eq!(rest["metadata"].get("continue"), None);
    assert_eq!(rest["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);

    let chosen = cluster.get(&format!("{MAPS}?limit=2&labelSelector=first%3Db")).await.json();
    assert_eq!(names(&chosen), ["ba", "bb"]);
    assert!(chosen["metadata"].get("continue").is_some());
    assert_eq!(chosen["metadata"].get("remainingItemCount"), None);
    // A cache has no pages.
    let cached = cluster.get(&format!("{MAPS}?limit=2&resourceVersion=0")).await.json();
    assert_eq!(names(&cached).len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_is_selected_in_every_way() {
    let cluster = Cluster::start().await;
    maps(&cluster, &["web", "web-1"]).await;
    for (path, found) in [
        (format!("{MAPS}?fieldSelector=metadata.name%3Dweb"), vec!["web"]),
        (format!("{MAPS}?fieldSelector=metadata.name%3Dwe"), vec![]),
        (format!("{MAPS}?fieldSelector=metadata.name%3Dweb&labelSelector=first%3Dx"), vec![]),
        (format!("{MAPS}?fieldSelector=metadata.name%21%3Dweb"), vec!["web-1"]),
        (
            "/api/v1/configmaps?fieldSelector=metadata.name%3Dweb,metadata.namespace%3Ddefault".to_owned(),
            vec!["web"],
        ),
        ("/api/v1/configmaps?fieldSelector=metadata.namespace%3Dother".to_owned(), vec![]),
    ] {
        let answer = cluster.get(&path).await;
        assert_eq!((answer.code, names(&answer.json())), (200, found), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_and_wrong_options_are_refused() {
    let cluster = Cluster::start().await;
    for (path, code, message) in [
        (
            "/api/v1/configmaps?fieldSelector=data.x%3D1",
            400,
            "\"data.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
        ("/api/v1/pods?fieldSelector=spec.x%3D1", 400, "field label not supported: spec.x"),
        ("/apis/batch/v1/jobs?fieldSelector=spec.x%3D1", 400, "field label \"spec.x\" not supported for Job"),
        (
            "/api/v1/pods?resourceVersionMatch=Exact",
            422,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "/api/v1/pods?continue=x%21",
            400,
            "invalid continue token: continue key is not valid: illegal base64 data at input byte 1",
        ),
        ("/api/v1/pods?limit=many", 400, "strconv.ParseInt: parsing \"many\": invalid syntax"),
    ] {
        let answer = cluster.get(path).await;
        assert_eq!((answer.code, answer.message().as_str()), (code, message), "{path}");
    }
    let future = cluster.get("/api/v1/pods?resourceVersion=99999999").await;
    assert_eq!(future.code, 504, "{future:?}");
    let details = &future.json()["details"];
    assert_eq!(details["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert_eq!(details["retryAfterSeconds"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_shows_the_same_objects() {
    let cluster = Cluster::start().await;
    maps(&cluster, &["a", "b"]).await;
    let plain = cluster.get(MAPS).await.json();
    // Others write meanwhile.
    let version = plain["metadata"]["resourceVersion"].as_str().expect("a version");
    let path = format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    let ask =
        async |accept: &str| cluster.ask_as(admin(), Method::GET, &path, &[("accept", accept)], None).await;
    let partial = "as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let metadata = ask(&format!("application/json;{partial}")).await.json();
    assert_eq!(metadata["kind"], "PartialObjectMetadataList");
    assert_eq!(metadata["items"][1]["metadata"], plain["items"][1]["metadata"]);
    let table = ask("application/json;as=Table;g=meta.k8s.io;v=v1").await.json();
    assert_eq!(table["metadata"], plain["metadata"]);
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][1]["cells"][0], "b");
    assert_eq!(table["rows"][1]["object"], metadata["items"][1]);
    for (accept, items) in [
        ("application/vnd.kubernetes.protobuf".to_owned(), &plain["items"]),
        (format!("application/vnd.kubernetes.protobuf;{partial}"), &metadata["items"]),
    ] {
        let answer = ask(&accept).await;
        assert_eq!(answer.headers["content-type"], "application/vnd.kubernetes.protobuf");
        let list = plimsoll_protobuf::decode(&answer.body).expect("decodes");
        assert_eq!(list["metadata"]["resourceVersion"], plain["metadata"]["resourceVersion"]);
        for at in 0..2 {
            assert_eq!(list["items"][at]["metadata"]["uid"], items[at]["metadata"]["uid"]);
        }
    }
}

/// An object by its path ignores that it is asked to be watched, as upstream does.
#[tokio::test(flavor = "multi_thread")]
async fn a_named_object_is_read_not_watched() {
    let cluster = Cluster::start().await;
    maps(&cluster, &["a"]).await;
    let answer = cluster.get(&format!("{MAPS}/a?watch=true")).await;
    assert_eq!((answer.code, &answer.json()["kind"]), (200, &json!("ConfigMap")));
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lists_are_compressed_for_those_who_take_it() {
    use std::io::Read;
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c"] {
        let data = json!({"text": name.repeat(100_000)});
        cluster.post(MAPS, json!({"metadata": {"name": name}, "data": data})).await;
    }
    let plain = cluster.get(MAPS).await;
    let zipped = cluster.ask_as(admin(), Method::GET, MAPS, &[("accept-encoding", "gzip")], None).await;
    assert_eq!(zipped.headers["content-encoding"], "gzip");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&zipped.body[..]).read_to_string(&mut text).expect("gzip");
    assert!(text.as_bytes() == plain.body, "{} and {} bytes", text.len(), plain.body.len());
    assert!(plain.headers.get("content-encoding").is_none());
}

/// Whoever may read one object may also list and watch the collection narrowed to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_selected_name_is_authorized_as_that_object() {
    let cluster = Cluster::start().await;
    maps(&cluster, &["a", "b"]).await;
    let group = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = json!({"metadata": {"name": "one"}, "rules": [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "watch"], "resourceNames": ["a"]},
    ]});
    let binding = json!({
        "metadata": {"name": "one"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "one"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    });
    assert_eq!(cluster.post(&format!("{group}/roles"), role).await.code, 201);
    assert_eq!(cluster.post(&format!("{group}/rolebindings"), binding).await.code, 201);
    let ask = async |query: &str| {
        let jane = User::authenticated("jane", &[]);
        cluster.ask_as(jane, Method::GET, &format!("{MAPS}?{query}"), &[], None).await.code
    };
    // The policy follows the store a moment later.
    while ask("fieldSelector=metadata.name%3Da").await == 403 {
        tokio::task::yield_now().await;
    }
    for (query, code) in [
        ("fieldSelector=metadata.name%3Da", 200),
        ("fieldSelector=metadata.name%3Da&watch=1&timeoutSeconds=1", 200),
        ("fieldSelector=metadata.name%3Db", 403),
        ("fieldSelector=metadata.name%21%3Da", 403),
        ("", 403),
    ] {
        assert_eq!(ask(query).await, code, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_sees_of_the_control_plane_is_a_list() {
    let cluster = Cluster::start().await;
    let listed = cluster.get("/api/v1/componentstatuses").await;
    let text =
        |header: &str| listed.headers.get(header).and_then(|text| text.to_str().ok()).unwrap_or_default();
    assert_eq!(text("warning"), r#"299 - "v1 ComponentStatus is deprecated in v1.19+""#);
    let item = &listed.json()["items"][0];
    assert_eq!(
        (&item["metadata"]["name"], &item["conditions"][0]["status"]),
        (&json!("etcd-0"), &json!("True"))
    );
    assert_eq!(cluster.get("/api/v1/componentstatuses/etcd-0").await.json()["kind"], "ComponentStatus");
    assert_eq!(cluster.get("/api/v1/componentstatuses/other").await.code, 404);
    let endpoints = cluster.get("/api/v1/endpoints").await;
    assert!(endpoints.headers.contains_key("warning"), "{:?}", endpoints.headers);
}
