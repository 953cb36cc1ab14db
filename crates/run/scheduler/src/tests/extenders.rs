//! Extenders that answer, hang and lie.

use std::sync::{Arc, Mutex};

use http::Method;
use serde_json::{Value, json};

use super::api::Api;
use super::*;

/// Plays an extender: answers by the last part of the path, or never.
async fn extender(answer: impl Fn(&str, &Value) -> Option<Value> + Send + Sync + 'static) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let (mut text, mut part) = (String::new(), [0; 4096]);
                loop {
                    let count = socket.read(&mut part).await.unwrap();
                    text.push_str(std::str::from_utf8(&part[..count]).unwrap());
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head.to_lowercase();
                    let length =
                        length.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
                    if count == 0 || body.len() == length.parse::<usize>().unwrap() {
                        break;
                    }
                }
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                let verb = head.split(' ').nth(1).unwrap().rsplit('/').next().unwrap();
                match answer(verb, &serde_json::from_str(body).unwrap()) {
                    Some(answer) => {
                        let answer = answer.to_string();
                        let text = format!(
                            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                            answer.len()
                        );
                        socket.write_all(text.as_bytes()).await.unwrap();
                    }
                    None => std::future::pending().await,
                }
            });
        }
    });
    format!("http://{address}")
}

fn with_extenders(fields: Value) -> Config {
    use plimsoll_schedule::configuration::{Configuration, KIND, VERSION};
    let document = json!({"apiVersion": VERSION, "kind": KIND, "extenders": fields});
    let configuration = Configuration::of(&document).unwrap();
    let extenders = configuration.extenders.iter().map(|one| Extender::new(one.clone()).unwrap()).collect();
    Config { profiles: configuration.profiles().unwrap(), extenders, ..Config::default() }
}

#[tokio::test]
async fn extenders_filter_score_and_bind() {
    let api = Api::default();
    for name in ["n0", "n1", "n2"] {
        api.put("nodes", node(name, "8"));
    }
    let bound = Arc::new(Mutex::new(Vec::new()));
    let (orders, other) = (bound.clone(), api.clone());
    let url = extender(move |verb, asked| match verb {
        "filter" if asked["Pod"]["metadata"]["name"] == "nowhere" => Some(json!({"NodeNames": [], "FailedNodes": {"n0": "no licence", "n1": "no licence", "n2": "no licence"}})),
        "filter" => Some(json!({"NodeNames": ["n1", "n2"]})),
        "prioritize" => Some(json!([{"Host": "n1", "Score": 1}, {"Host": "n2", "Score": 10}])),
        _ => {
            orders.lock().unwrap().push(asked.clone());
            other.write(&Method::POST, &format!("/api/v1/namespaces/ns/pods/{}/binding", asked["PodName"].as_str().unwrap()), json!({"target": {"name": asked["Node"]}}));
            Some(json!({}))
        }
    })
    .await;
    let fields = json!([{"urlPrefix": url, "filterVerb": "filter", "prioritizeVerb": "prioritize", "weight": 5, "bindVerb": "bind",
        "nodeCacheCapable": true}]);
    let _shutdown = start_with(&api, with_extenders(fields));
    api.put("pods", pod("a", "1"));
    eventually("bound where the extender likes it", || api.node_of("a").as_deref() == Some("n2")).await;
    assert_eq!(
        bound.lock().unwrap()[0],
        json!({"PodName": "a", "PodNamespace": "ns", "PodUID": "a", "Node": "n2"})
    );
    api.put("pods", pod("nowhere", "1"));
    eventually("it says why", || !api.writes("/pods/nowhere/status").is_empty()).await;
    let message = &api.writes("/pods/nowhere/status")[0]["status"]["conditions"][0]["message"];
    assert!(message.as_str().unwrap().starts_with("0/3 nodes are available: 3 no licence."), "{message}");
}

/// Who hangs or lies holds up the pods that it has a say about, and no others; who may be left out is.
#[tokio::test]
async fn extenders_that_hang_or_lie() {
    let api = Api::default();
    api.put("nodes", node("n0", "8"));
    let hangs = extender(|_, _| None).await;
    let lies = extender(|_, _| Some(json!({"NodeNames": ["elsewhere"]}))).await;
    let one = |url: &str, resource: &str, ignorable: bool| {
        json!({"urlPrefix": url, "filterVerb": "filter", "nodeCacheCapable": true,
        "httpTimeout": "200ms", "ignorable": ignorable, "managedResources": [{"name": resource, "ignoredByScheduler": true}]})
    };
    let fields = json!([
        one(&hangs, "x.io/hangs", false),
        one(&lies, "x.io/lies", false),
        one(&lies, "x.io/left-out", true)
    ]);
    let _shutdown = start_with(&api, with_extenders(fields));
    for resource in ["hangs", "lies", "left-out"] {
        let mut asks = pod(resource, "1");
        asks["spec"]["containers"][0]["resources"]["requests"][format!("x.io/{resource}")] = json!("1");
        api.put("pods", asks);
    }
    api.put("pods", pod("plain", "1"));
    eventually("others are bound", || api.node_of("plain").is_some() && api.node_of("left-out").is_some())
        .await;
    let told = |text: &str| {
        api.writes("/events").iter().any(|event| event["message"].as_str().unwrap().contains(text))
    };
    eventually("both are told", || {
        told("/filter\": context deadline exceeded")
            && told("claims a filtered node \"elsewhere\" which is not found in the input node list")
    })
    .await;
    assert!(api.node_of("hangs").is_none() && api.node_of("lies").is_none());
}

/// Nobody ends whom an extender does not name.
#[tokio::test]
async fn extenders_say_who_may_end() {
    let api = Api::default();
    api.put("nodes", node("n0", "2"));
    let url = extender(|_, asked| {
        let allowed = asked["Pod"]["metadata"]["name"] == "high";
        Some(json!({"NodeNameToMetaVictims": if allowed { asked["NodeNameToMetaVictims"].clone() } else { json!({}) }}))
    })
    .await;
    let fields = json!([{"urlPrefix": url, "preemptVerb": "preempt", "nodeCacheCapable": true}]);
    let _shutdown = start_with(&api, with_extenders(fields));
    api.put("pods", pod("low", "2"));
    eventually("low bound", || api.node_of("low").is_some()).await;
    for (name, priority) in [("refused", 2000), ("high", 1000)] {
        let mut asks = pod(name, "2");
        asks["spec"]["priority"] = json!(priority);
        api.put("pods", asks);
        let path = format!("/pods/{name}/status");
        eventually("it waits", || !api.writes(&path).is_empty()).await;
        assert!(name == "high" || api.writes("DELETE").is_empty());
        if name == "refused" {
            api.remove("pods", name);
        }
    }
    eventually("low ends", || !api.writes("DELETE /api/v1/namespaces/ns/pods/low").is_empty()).await;
}

/// All nodes where room can be made are put to an extender, which may choose another than the scheduler would.
#[tokio::test]
async fn extenders_choose_among_all_nodes() {
    let api = Api::default();
    for name in ["n0", "n1"] {
        api.put("nodes", node(name, "2"));
    }
    let url = extender(|_, asked| {
        let asked = &asked["NodeNameToMetaVictims"];
        assert_eq!(asked.as_object().unwrap().len(), 2);
        let dear = asked.as_object().unwrap().iter().find(|(_, it)| it["Pods"][0]["UID"] == "dear").unwrap();
        Some(json!({"NodeNameToMetaVictims": {dear.0.as_str(): dear.1}}))
    })
    .await;
    let fields = json!([{"urlPrefix": url, "preemptVerb": "preempt", "nodeCacheCapable": true}]);
    let _shutdown = start_with(&api, with_extenders(fields));
    for (name, priority) in [("cheap", 1), ("dear", 5), ("high", 1000)] {
        let mut asks = pod(name, "2");
        asks["spec"]["priority"] = json!(priority);
        api.put("pods", asks);
        eventually("it is seen", || name == "high" || api.node_of(name).is_some()).await;
    }
    eventually("dear ends", || !api.writes("DELETE /api/v1/namespaces/ns/pods/dear").is_empty()).await;
    assert!(api.writes("DELETE /api/v1/namespaces/ns/pods/cheap").is_empty());
}
