//! Every endpoint is tried without credentials, and by somebody who may do everything but that.

use std::time::{Duration, Instant};

use http::{Method, Request};
use plimsoll_apiserver::User;
use plimsoll_catalogue::{Kind, Verb};
use serde_json::{Value, json};

use crate::support::{Cluster, free_port, kubeconfig};

const VERBS: [Verb; 8] = [
    Verb::Get,
    Verb::List,
    Verb::Watch,
    Verb::Create,
    Verb::Update,
    Verb::Patch,
    Verb::Delete,
    Verb::DeleteCollection,
];

/// Paths that name no resource.
const PATHS: &[&str] = &[
    "/api",
    "/api/v1",
    "/apis",
    "/apis/apps",
    "/apis/apps/v1",
    "/healthz",
    "/livez",
    "/livez/ping",
    "/livez/",
    "/healthz/ping",
    "/readyz",
    "/version",
    "/metrics",
    "/metrics/slis",
    "/logs",
    "/logs/x",
    "/debug/pprof",
    "/debug/pprof/profile",
    "/debug/flags/v",
    "/debug/api_priority_and_fairness/dump_queues",
    "/configz",
    "/flagz",
    "/statusz",
    "/",
    "/openapi",
    "/version/",
    "/openapi/v2",
    "/openapi/v3",
    "/.well-known/openid-configuration",
    "/openid/v1/jwks",
    "/nowhere",
];

/// Something that can be asked for.
#[derive(Clone, Debug)]
struct Endpoint {
    method: Method,
    path: String,
    verb: &'static str,
    group: &'static str,
    /// `resource` or `resource/subresource`.
    resource: String,
}

fn endpoints() -> Vec<Endpoint> {
    let mut all = Vec::new();
    for kind in plimsoll_catalogue::kinds() {
        for verb in VERBS.into_iter().filter(|verb| kind.allows(*verb, None)) {
            all.push(endpoint(kind, verb, ""));
        }
        for sub in kind.subresources {
            for verb in VERBS.into_iter().filter(|verb| sub.verbs.contains(*verb)) {
                all.push(endpoint(kind, verb, sub.name));
            }
        }
    }
    all
}

fn endpoint(kind: &'static Kind, verb: Verb, subresource: &str) -> Endpoint {
    let root = if kind.group.is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group) };
    let scope = if kind.namespaced { "/namespaces/default" } else { "" };
    let collection = format!("{root}/{}{scope}/{}", kind.version, kind.plural);
    let one = if subresource.is_empty() {
        format!("{collection}/x")
    } else {
        format!("{collection}/x/{subresource}")
    };
    let (method, path) = match (verb, subresource.is_empty()) {
        (Verb::Get, _) => (Method::GET, one),
        (Verb::List, _) => (Method::GET, collection),
        (Verb::Watch, _) => (Method::GET, format!("{collection}?watch=1&timeoutSeconds=1")),
        (Verb::Create, true) => (Method::POST, collection),
        (Verb::Create, false) => (Method::POST, one),
        (Verb::Update, _) => (Method::PUT, one),
        (Verb::Patch, _) => (Method::PATCH, one),
        (Verb::Delete, _) => (Method::DELETE, one),
        (Verb::DeleteCollection, _) => (Method::DELETE, collection),
    };
    let resource = match subresource {
        "" => kind.plural.to_owned(),
        sub => format!("{}/{sub}", kind.plural),
    };
    Endpoint { method, path, verb: verb.name(), group: kind.group, resource }
}

fn unique(mut texts: Vec<&str>) -> Vec<&str> {
    texts.sort_unstable();
    texts.dedup();
    texts
}

/// The rules that allow everything but one verb on one resource.
fn all_but(denied: &Endpoint, all: &[Endpoint]) -> Value {
    let verbs: Vec<&str> = VERBS.into_iter().map(Verb::name).filter(|verb| *verb != denied.verb).collect();
    let groups = unique(all.iter().map(|one| one.group).filter(|group| *group != denied.group).collect());
    let of_group = all.iter().filter(|one| one.group == denied.group && one.resource != denied.resource);
    let resources = unique(of_group.map(|one| one.resource.as_str()).collect());
    let mut rules = vec![
        json!({"verbs": verbs, "apiGroups": ["*"], "resources": ["*"]}),
        json!({"verbs": [denied.verb], "apiGroups": groups, "resources": ["*"]}),
    ];
    if !resources.is_empty() {
        rules.push(json!({"verbs": [denied.verb], "apiGroups": [denied.group], "resources": resources}));
    }
    Value::Array(rules)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_do_everything_but_that_is_refused() {
    let cluster = Cluster::start().await;
    let user = User { name: "walker".to_owned(), ..User::default() };
    let binding = json!({"metadata": {"name": "walker"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "walker"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "walker"}]});
    let bound = cluster.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;
    assert_eq!(bound.code, 201, "{bound:?}");
    let all = endpoints();
    assert!(all.len() > 500, "{}", all.len());
    for (at, denied) in all.iter().enumerate() {
        // Only with the newest role is this path not forbidden.
        let mark = format!("/mark/{at}");
        let mut rules = all_but(denied, &all);
        rules.as_array_mut().expect("rules").push(json!({"verbs": ["get"], "nonResourceURLs": [mark]}));
        let role = json!({"metadata": {"name": "walker"}, "rules": rules});
        let path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/walker";
        let put = cluster.put(path, role).await;
        assert!(matches!(put.code, 200 | 201), "{put:?}");
        let patience = Instant::now() + Duration::from_secs(10);
        while cluster.ask_as(user.clone(), Method::GET, &mark, &[], None).await.code == 403 {
            assert!(Instant::now() < patience, "the role of {denied:?} does not come into force");
            tokio::task::yield_now().await;
        }
        let body = (denied.method != Method::GET).then(|| json!({}));
        let answer = cluster.ask_as(user.clone(), denied.method.clone(), &denied.path, &[], body).await;
        assert_eq!((answer.code, answer.json()["reason"].as_str()), (403, Some("Forbidden")), "{denied:?}");
        let expected = format!("User \"walker\" cannot {} resource \"{}\"", denied.verb, denied.resource);
        assert!(answer.message().contains(&expected), "{denied:?}: {}", answer.message());
    }
    for path in PATHS {
        for method in [
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ] {
            let answer = cluster.ask_as(user.clone(), method.clone(), path, &[], None).await;
            assert_eq!(answer.code, 403, "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_without_credentials() {
    let port = free_port();
    let cluster = Cluster::start_with(|config| {
        config.listen = vec![port];
        config.authentication.anonymous = plimsoll_access::authentication_config::Anonymous::Refused;
    })
    .await;
    let nobody = plimsoll_client::connect_kubeconfig_text(&kubeconfig(&cluster, port, json!({})))
        .await
        .expect("a client");
    let somebody =
        plimsoll_client::connect_kubeconfig_text(&kubeconfig(&cluster, port, json!({"token": "guessed"})))
            .await
            .expect("a client");
    let paths = PATHS.iter().map(|path| (Method::GET, (*path).to_owned()));
    let all = endpoints().into_iter().map(|one| (one.method, one.path)).chain(paths);
    for (method, path) in all {
        for client in [&nobody, &somebody] {
            let request =
                Request::builder().method(method.clone()).uri(&path).body(kube::client::Body::empty());
            let answer = client.send(request.expect("a request")).await.expect("an answer");
            assert_eq!(answer.status(), 401, "{method} {path}");
        }
    }
}

/// What the default roles open to everybody, and to everybody who is known.
#[tokio::test(flavor = "multi_thread")]
async fn the_default_roles_open_few_paths() {
    const PUBLIC: [&str; 5] = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
    const KNOWN: [&str; 7] =
        ["/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/openapi/v2", "/openapi/v3"];
    let cluster = Cluster::start().await;
    let known = User::authenticated("ann", &[]);
    for path in PATHS {
        for (user, open) in [
            (User::anonymous(), PUBLIC.contains(path)),
            (known.clone(), PUBLIC.contains(path) || KNOWN.contains(path) || *path == "/openapi"),
        ] {
            let name = user.name.clone();
            let answer = cluster.ask_as(user, Method::GET, path, &[], None).await;
            assert_eq!(answer.code != 403, open, "{name} {path}: {}", answer.code);
        }
    }
    // Who reviews himself needs no role of his own; anonymous users have none at all.
    for (path, body) in [
        ("/apis/authentication.k8s.io/v1/selfsubjectreviews", json!({})),
        (
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}),
        ),
        ("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", json!({"spec": {"namespace": "default"}})),
    ] {
        for (user, code) in [(User::anonymous(), 403), (known.clone(), 201)] {
            let answer = cluster.ask_as(user, Method::POST, path, &[], Some(body.clone())).await;
            assert_eq!(answer.code, code, "{path}: {}", answer.message());
        }
    }
}
