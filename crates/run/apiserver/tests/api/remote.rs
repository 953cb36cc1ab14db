//! Credentials over the wire: client certificates, proxies, identity tokens, webhooks.

use std::sync::{Arc, Mutex};

use http::{Method, Request};
use plimsoll_access::authorization_config::{AuthorizationConfig, Authorizer, OnFailure, Webhook};
use plimsoll_access::front_proxy::FrontProxy;
use plimsoll_access::issuer::{Issuer, Mapping, Source};
use plimsoll_apiserver::{Proxies, TokenWebhook};
use plimsoll_pki::{Authority, Purpose, Tokens};
use serde_json::{Value, json};

use crate::support::{Cluster, free_port, kubeconfig};

const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// A server that answers every request by `answer(path, body)`, over TLS with its own authority.
struct Elsewhere {
    address: std::net::SocketAddr,
    authority: String,
    asked: Arc<Mutex<Vec<String>>>,
    _folder: tempfile::TempDir,
}

impl Elsewhere {
    async fn start(answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::ensure(folder.path(), "ca", "elsewhere-ca").expect("an authority");
        let request = plimsoll_pki::Request {
            purpose: Purpose::Server,
            dns_names: vec!["localhost".to_owned()],
            addresses: vec![std::net::Ipv4Addr::LOCALHOST.into()],
            ..plimsoll_pki::Request::client("elsewhere", &[])
        };
        let files = authority.ensure_issued(folder.path(), "server", &request).expect("a certificate");
        let tls = plimsoll_apiserver::server_tls(&files.certificate, &files.key, authority.certificate());
        let acceptor = tokio_rustls::TlsAcceptor::from(tls.expect("TLS"));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer, log) = (acceptor.clone(), Arc::clone(&answer), Arc::clone(&log));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service =
                        hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                            let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                            async move {
                                use http_body_util::BodyExt;
                                let path = request.uri().path().to_owned();
                                let body = request.into_body().collect().await.expect("a body").to_bytes();
                                log.lock().expect("the log").push(path.clone());
                                let said = answer(&path, &serde_json::from_slice(&body).unwrap_or_default());
                                let body = http_body_util::Full::new(bytes::Bytes::from(said.to_string()));
                                Ok::<_, std::convert::Infallible>(http::Response::new(body))
                            }
                        });
                    let builder =
                        hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                    let _ = builder.serve_connection(hyper_util::rt::TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, authority: authority.pem().to_owned(), asked, _folder: folder }
    }

    fn asked(&self) -> usize {
        self.asked.lock().expect("the log").len()
    }

    /// A file in the format of kubeconfig that names this server.
    fn file(&self, folder: &std::path::Path, path: &str) -> std::path::PathBuf {
        use base64::Engine;
        let authority = base64::engine::general_purpose::STANDARD.encode(&self.authority);
        let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("https://{}{path}", self.address), "certificate-authority-data": authority}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {}}]});
        let file = folder.join("webhook.kubeconfig");
        std::fs::write(&file, text.to_string()).expect("written");
        file
    }
}

/// Who the server says asks; the code if it does not say.
async fn who(
    cluster: &Cluster,
    port: std::net::SocketAddr,
    user: Value,
    headers: &[(&str, &str)],
) -> Result<Value, u16> {
    let client =
        plimsoll_client::connect_kubeconfig_text(&kubeconfig(cluster, port, user)).await.expect("a client");
    let mut request =
        Request::builder().method(Method::POST).uri(WHO).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer =
        client.send(request.body(kube::client::Body::from(b"{}".to_vec())).expect("a request")).await;
    let answer = answer.expect("an answer");
    if answer.status() != 201 {
        return Err(answer.status().as_u16());
    }
    let bytes = answer.into_body().collect_bytes().await.expect("a body");
    let review: Value = serde_json::from_slice(&bytes).expect("JSON");
    Ok(review["status"]["userInfo"].clone())
}

fn certificate(authority: &Authority, folder: &std::path::Path, name: &str, groups: &[&str]) -> Value {
    use base64::Engine;
    let request = plimsoll_pki::Request::client(name, groups);
    let files = authority.ensure_issued(folder, name, &request).expect("a certificate");
    let read = |path: &std::path::Path| {
        base64::engine::general_purpose::STANDARD.encode(std::fs::read(path).expect("readable"))
    };
    json!({"client-certificate-data": read(&files.certificate), "client-key-data": read(&files.key)})
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_proxies_are_believed_by_their_authority() {
    let port = free_port();
    let folder = tempfile::tempdir().expect("a folder");
    let proxies = Authority::ensure(folder.path(), "front-proxy-ca", "front-proxy-ca").expect("an authority");
    let stranger = Authority::ensure(folder.path(), "stranger", "stranger").expect("an authority");
    let cluster = Cluster::start_with(|config| {
        config.listen = vec![port];
        config.authentication.front_proxy =
            Some(Proxies { authority: proxies.certificate().to_owned(), rules: FrontProxy::default() });
    })
    .await;
    let headers = [("x-remote-user", "ann"), ("x-remote-group", "dev"), ("x-remote-extra-k", "v")];
    let certified = |authority: &Authority, name: &str| certificate(authority, folder.path(), name, &["ops"]);
    let bob = who(&cluster, port, certified(&cluster.authority, "bob"), &headers).await.expect("known");
    assert_eq!(bob, json!({"username": "bob", "groups": ["ops", "system:authenticated"]}));
    let proxied =
        who(&cluster, port, certified(&proxies, "front-proxy-client"), &headers).await.expect("known");
    assert_eq!(
        proxied,
        json!({"username": "ann", "groups": ["dev", "system:authenticated"], "extra": {"k": ["v"]}})
    );
    assert_eq!(who(&cluster, port, certified(&proxies, "other"), &headers).await, Err(401));
    assert_eq!(who(&cluster, port, certified(&stranger, "eve"), &[]).await, Err(401));
    assert_eq!(who(&cluster, port, json!({}), &headers).await, Err(403), "anonymous may not ask that");
    let map =
        cluster.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").await;
    assert_eq!(map.json()["data"]["requestheader-client-ca-file"], proxies.pem());
}

#[tokio::test(flavor = "multi_thread")]
async fn static_and_bootstrap_tokens_are_known() {
    let port = free_port();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tokens.csv");
    std::fs::write(&file, "s3cret,ann,7,\"dev,ops\"\n").expect("written");
    let cluster = Cluster::start_with(|config| {
        config.listen = vec![port];
        config.authentication.token_file = Some(file);
    })
    .await;
    let ann = who(&cluster, port, json!({"token": "s3cret"}), &[]).await.expect("known");
    assert_eq!(ann, json!({"username": "ann", "uid": "7", "groups": ["dev", "ops", "system:authenticated"]}));
    assert_eq!(who(&cluster, port, json!({"token": "guess"}), &[]).await, Err(401));
    let token = "abcdef.0123456789abcdef";
    assert_eq!(who(&cluster, port, json!({"token": token}), &[]).await, Err(401));
    let secret = json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token",
        "stringData": {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true"}});
    assert_eq!(cluster.post("/api/v1/namespaces/kube-system/secrets", secret).await.code, 201);
    let joined = who(&cluster, port, json!({"token": token}), &[]).await.expect("known");
    assert_eq!(
        joined,
        json!({"username": "system:bootstrap:abcdef", "groups": ["system:bootstrappers", "system:authenticated"]})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn identity_tokens_are_checked_with_their_issuers_keys() {
    let keys = tempfile::tempdir().expect("a folder");
    let signer = |name: &str| Tokens::ensure(&keys.path().join(name), &[]).expect("a key");
    let (first, second) = (signer("first"), signer("second"));
    let served = Arc::new(Mutex::new(first.key_set()));
    let (document, set) = (Arc::new(Mutex::new(json!({}))), Arc::clone(&served));
    let told = Arc::clone(&document);
    let provider = Elsewhere::start(move |path, _| match path {
        "/keys" => set.lock().expect("keys").clone(),
        _ => told.lock().expect("document").clone(),
    })
    .await;
    let url = format!("https://localhost:{}", provider.address.port());
    *document.lock().expect("document") = json!({"issuer": url, "jwks_uri": format!("{url}/keys")});
    let port = free_port();
    let mapping = |claim: &str, prefix: &str| {
        Source::Claim(Mapping { claim: claim.to_owned(), prefix: prefix.to_owned() })
    };
    let issuer = Issuer {
        url: url.clone(),
        authority: Some(provider.authority.clone()),
        audiences: vec!["cluster".to_owned()],
        algorithms: vec!["ES256".to_owned()],
        username: mapping("sub", "oidc:"),
        groups: Some(mapping("groups", "oidc:")),
        ..Issuer::default()
    };
    let cluster = Cluster::start_with(|config| {
        config.listen = vec![port];
        config.authentication.issuers = vec![issuer];
    })
    .await;
    let until =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("time").as_secs() + 600;
    let claims =
        |audience: &str| json!({"iss": url, "aud": audience, "exp": until, "sub": "ann", "groups": ["dev"]});
    let ask = async |token: String| who(&cluster, port, json!({ "token": token }), &[]).await;
    let ann = json!({"username": "oidc:ann", "groups": ["oidc:dev", "system:authenticated"]});
    assert_eq!(ask(first.sign(&claims("cluster")).expect("signed")).await, Ok(ann.clone()));
    assert_eq!(ask(first.sign(&claims("other")).expect("signed")).await, Err(401));
    let asked = provider.asked();
    assert_eq!(asked, 2, "discovery and keys are fetched once");
    // A key that is not known yet has the keys fetched anew.
    *served.lock().expect("keys") = second.key_set();
    cluster
        .until(async || ask(second.sign(&claims("cluster")).expect("signed")).await == Ok(ann.clone()))
        .await;
    assert!(provider.asked() > asked);
    assert_eq!(ask(signer("third").sign(&claims("cluster")).expect("signed")).await, Err(401));
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_know_tokens() {
    let webhook = Elsewhere::start(|_, review| {
        let known = review["spec"]["token"] == "good";
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "status": {"authenticated": known, "user": {"username": "ann", "groups": ["dev"]}}})
    })
    .await;
    let port = free_port();
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::start_with(|config| {
        config.listen = vec![port];
        config.authentication.webhook = Some(TokenWebhook {
            config_file: webhook.file(folder.path(), "/authenticate"),
            version: "v1".to_owned(),
            cache_ttl: std::time::Duration::from_secs(120),
        });
    })
    .await;
    for _ in 0..2 {
        let ann = who(&cluster, port, json!({"token": "good"}), &[]).await.expect("known");
        assert_eq!(ann, json!({"username": "ann", "groups": ["dev", "system:authenticated"]}));
        assert_eq!(who(&cluster, port, json!({"token": "bad"}), &[]).await, Err(401));
    }
    assert_eq!(webhook.asked.lock().expect("the log")[..], ["/authenticate", "/authenticate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_decide_what_roles_do_not() {
    let webhook = Elsewhere::start(|_, review| {
        let spec = &review["spec"];
        let status = match (spec["user"].as_str(), spec["resourceAttributes"]["resource"].as_str()) {
            (Some("ann"), Some("configmaps")) => json!({"allowed": true, "reason": "ann may"}),
            (Some("ann"), Some("secrets")) => json!({"allowed": false, "denied": true, "reason": "never"}),
            _ => json!({"allowed": false, "reason": "do not know"}),
        };
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "status": status})
    })
    .await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = webhook.file(folder.path(), "/authorize");
    let hook = Webhook {
        name: "w".to_owned(),
        config_file: file.display().to_string(),
        version: "v1".to_owned(),
        authorized_ttl: Some(300.0),
        unauthorized_ttl: Some(30.0),
        timeout: 5.0,
        on_failure: OnFailure::NoOpinion,
        conditions: Vec::new(),
    };
    let cluster = Cluster::start_with(|config| {
        config.authorization =
            AuthorizationConfig(vec![Authorizer::Webhook(hook), Authorizer::Node, Authorizer::Rbac]);
    })
    .await;
    let ann = plimsoll_apiserver::User::authenticated("ann", &[]);
    let get = async |path: &str| cluster.ask_as(ann.clone(), Method::GET, path, &[], None).await;
    assert_eq!(get("/api/v1/namespaces/default/configmaps").await.code, 200);
    assert_eq!(get("/api/v1/namespaces/default/configmaps").await.code, 200);
    assert_eq!(webhook.asked(), 1, "the answer is remembered");
    assert_eq!(
        get("/api/v1/namespaces/default/secrets").await.message(),
        "secrets is forbidden: User \"ann\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\": never"
    );
    assert_eq!(
        get("/api/v1/namespaces/default/pods").await.message(),
        "pods is forbidden: User \"ann\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\": do not know"
    );
    assert_eq!(get("/version").await.code, 200, "roles decide where the webhook has no opinion");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_issuers_and_authorizers_count_when_they_change() {
    let webhook = Elsewhere::start(|_, _| {
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "status": {"allowed": true}})
    })
    .await;
    let keys = tempfile::tempdir().expect("a folder");
    let signer = Tokens::ensure(&keys.path().join("key"), &[]).expect("a key");
    let (set, document) = (signer.key_set(), Arc::new(Mutex::new(json!({}))));
    let told = Arc::clone(&document);
    let provider = Elsewhere::start(move |path, _| match path {
        "/keys" => set.clone(),
        _ => told.lock().expect("document").clone(),
    })
    .await;
    let url = format!("https://localhost:{}", provider.address.port());
    *document.lock().expect("document") = json!({"issuer": url, "jwks_uri": format!("{url}/keys")});
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    // A file is put in its place whole, as editors and ConfigMap volumes do it.
    let put = |name: &str, document: &Value| {
        std::fs::write(file("new"), document.to_string()).expect("written");
        std::fs::rename(file("new"), file(name)).expect("renamed");
    };
    let issuers = |jwt: Value| json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": jwt});
    let decided = |authorizers: Value| json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration", "authorizers": authorizers});
    let usual = [json!({"type": "Node", "name": "node"}), json!({"type": "RBAC", "name": "rbac"})];
    put("authentication", &issuers(json!([])));
    put("authorization", &decided(json!(usual)));
    let port = free_port();
    let cluster = Cluster::start_with(|config| {
        config.listen = vec![port];
        config.authentication.file = Some(file("authentication"));
        config.authorization_file = Some(file("authorization"));
    })
    .await;
    let until =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("time").as_secs() + 600;
    let token =
        signer.sign(&json!({"iss": url, "aud": "cluster", "exp": until, "sub": "ann", "team": ["a"]}));
    let token = token.expect("signed");
    let ask = async || who(&cluster, port, json!({"token": token}), &[]).await;
    assert_eq!(ask().await, Err(401));
    put("authentication", &json!({"kind": "Nonsense"}));
    let entry = json!({"issuer": {"url": url, "audiences": ["cluster"], "certificateAuthority": provider.authority},
        "claimMappings": {"username": {"expression": "'oidc:' + claims.sub"},
            "extra": [{"key": "example.com/team", "valueExpression": "claims.team"}]},
        "userValidationRules": [{"expression": "user.username != 'oidc:eve'"}]});
    put("authentication", &issuers(json!([entry])));
    let ann = json!({"username": "oidc:ann", "groups": ["system:authenticated"], "extra": {"example.com/team": ["a"]}});
    cluster.until(async || ask().await == Ok(ann.clone())).await;

    let bob = plimsoll_apiserver::User::authenticated("bob", &[]);
    let get = async |path: &str| cluster.ask_as(bob.clone(), Method::GET, path, &[], None).await.code;
    assert_eq!(get("/api/v1/namespaces/default/configmaps").await, 403);
    let hook = json!({"type": "Webhook", "name": "w", "webhook": {"timeout": "3s", "authorizedTTL": "5m",
        "unauthorizedTTL": "5m", "subjectAccessReviewVersion": "v1", "failurePolicy": "Deny",
        "matchConditionSubjectAccessReviewVersion": "v1", "matchConditions": [
            {"expression": "has(request.resourceAttributes)"},
            {"expression": "request.resourceAttributes.namespace == 'default'"}],
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": webhook.file(folder.path(), "/authorize")}}});
    // Roles must stay: this file changes nothing.
    put("authorization", &decided(json!([hook])));
    let reloads =
        async |line: &str| String::from_utf8_lossy(&cluster.get("/metrics").await.body).contains(line);
    cluster
        .until(async || {
            reloads("apiserver_authorization_config_controller_automatic_reloads_total{status=\"failure\"} 1")
                .await
        })
        .await;
    assert_eq!(get("/api/v1/namespaces/default/configmaps").await, 403);
    put("authorization", &decided(json!([usual[0], usual[1], hook])));
    cluster.until(async || get("/api/v1/namespaces/default/configmaps").await == 200).await;
    assert_eq!(get("/api/v1/namespaces/kube-system/configmaps").await, 403, "no condition lets it ask");
    assert!(
        reloads("apiserver_authorization_config_controller_automatic_reloads_total{status=\"success\"} 1")
            .await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_use_of_tokens_in_secrets_is_noted() {
    let port = free_port();
    let cluster = Cluster::start_with(|config| config.listen = vec![port]).await;
    let tracking =
        "/api/v1/namespaces/kube-system/configmaps/kube-apiserver-legacy-service-account-token-tracking";
    let since = cluster.get(tracking).await.json()["data"]["since"].as_str().map(str::to_owned);
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let near = |date: Option<&str>| {
        let date: Option<jiff::civil::Date> = date.and_then(|date| date.parse().ok());
        date.is_some_and(|date| date == today || today.tomorrow().is_ok_and(|next| date == next))
    };
    assert!(near(since.as_deref()), "{since:?}");
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account =
        cluster.post(accounts, json!({"metadata": {"name": "sa"}, "secrets": [{"name": "held"}]})).await;
    assert_eq!(account.code, 201, "{account:?}");
    let signer = Tokens::ensure(&cluster.folder.path().join("sa.key"), &[]).expect("the cluster's key");
    let token = signer
        .sign(&json!({"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:default:sa",
            "kubernetes.io/serviceaccount/namespace": "default",
            "kubernetes.io/serviceaccount/secret.name": "held",
            "kubernetes.io/serviceaccount/service-account.name": "sa",
            "kubernetes.io/serviceaccount/service-account.uid": account.json()["metadata"]["uid"]}))
        .expect("signed");
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({"metadata": {"name": "held", "annotations": {"kubernetes.io/service-account.name": "sa"}},
        "type": "kubernetes.io/service-account-token", "stringData": {"token": token}});
    let made = cluster.post(secrets, secret).await;
    assert_eq!(made.code, 201, "{made:?}");
    let user = json!({ "token": token });
    let sa = who(&cluster, port, user.clone(), &[]).await.expect("known");
    assert_eq!(sa["username"], "system:serviceaccount:default:sa");
    let held = format!("{secrets}/held");
    let labels = cluster.get(&held).await.json()["metadata"]["labels"].clone();
    assert!(near(labels["kubernetes.io/legacy-token-last-used"].as_str()), "{labels}");
    let mark = json!({"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": "2020-01-01"}}});
    assert_eq!(cluster.patch(&held, "application/merge-patch+json", mark).await.code, 200);
    assert_eq!(
        who(&cluster, port, user, &[]).await,
        Err(401),
        "a token that nobody asked for can be refused"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_tokens_are_replaced_while_the_server_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let (older, next) = (folder.path().join("older.key"), folder.path().join("next.key"));
    Tokens::ensure(&older, &[]).expect("a key");
    let verifies = older.clone();
    let cluster =
        Cluster::start_with(|config| config.authentication.accounts.verification_keys = vec![verifies]).await;
    let signing = cluster.folder.path().join("sa.key");
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    assert_eq!(cluster.post(accounts, json!({"metadata": {"name": "sa"}})).await.code, 201);
    let token = async || {
        let made = cluster.post(&format!("{accounts}/sa/token"), json!({"spec": {"audiences": []}})).await;
        made.json()["status"]["token"].as_str().expect("a token").to_owned()
    };
    let known = async |token: &str| {
        let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
        let status = cluster.post(reviews, json!({"spec": {"token": token}})).await.json()["status"].clone();
        status["authenticated"] == true
    };
    let key_set = async || {
        let set = cluster.get("/openid/v1/jwks").await.json();
        let keys = set["keys"].as_array().expect("keys").iter();
        keys.map(|key| key["kid"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    let signed_with = |token: &str| plimsoll_pki::Jwt::parse(token).expect("a token").key_id;
    let names = |keys: &Tokens| keys.key_set()["keys"][0]["kid"].as_str().expect("a name").to_owned();
    let before = key_set().await;
    assert_eq!(before.len(), 2, "both keys are shown");
    let first = token().await;
    assert_eq!(signed_with(&first), before[0], "the first one signs");
    // The signing key becomes the older one, and another one takes its place.
    std::fs::copy(&signing, &next).expect("copied");
    std::fs::rename(&next, &older).expect("renamed");
    cluster.until(async || key_set().await == before[..1]).await;
    let second_key = names(&Tokens::ensure(&next, &[]).expect("a key"));
    std::fs::rename(&next, &signing).expect("renamed");
    cluster.until(async || key_set().await == [second_key.clone(), before[0].clone()]).await;
    let second = token().await;
    assert_eq!(signed_with(&second), second_key);
    assert!(known(&first).await && known(&second).await, "both hold");
    // A file that means nothing changes nothing; the next one does.
    std::fs::write(&older, "nothing").expect("written");
    let third_key = names(&Tokens::ensure(&next, &[]).expect("a key"));
    assert!(known(&first).await && known(&second).await);
    std::fs::rename(&next, &older).expect("renamed");
    cluster.until(async || key_set().await == [second_key.clone(), third_key.clone()]).await;
    assert!(!known(&first).await && known(&second).await, "the first one's key is gone");
}
