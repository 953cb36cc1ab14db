//! API servers behind the API server.

use std::fs;
use std::path::Path;
use std::process::Command;

use plimsoll_e2e::{Background, Cluster, Namespace, run};
use serde_json::Value;

use crate::{PATIENCE, Shared};

const SERVICE: &str = "/apis/apiregistration.k8s.io/v1/apiservices/v1.harbour.example.com";

/// What the server needs to prove who it is, to know the front proxy, and to ask who may do what.
fn prepare(space: &Namespace<'_>, folder: &Path) {
    let cluster = space.cluster();
    fs::create_dir_all(folder).unwrap();
    let file = |name: &str| folder.join(name).display().to_string();
    let name = format!("api.{}.svc", space.name());
    // One certificate is the server's and its authority's, as people make it.
    let (subject, names) = (format!("/CN={name}"), format!("subjectAltName=DNS:{name}"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", &subject]);
    command.args(["-addext", &names, "-keyout", &file("tls.key"), "-out", &file("tls.crt")]);
    run(&mut command, b"", PATIENCE).ok();
    let published = cluster
        .api("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")
        .expect("what extension servers need to know");
    let authority = published["data"]["requestheader-client-ca-file"].as_str().unwrap();
    fs::write(folder.join("proxy-ca.crt"), authority).unwrap();
    space.kubectl(&["create", "serviceaccount", "api"]).ok();
    let account = format!("--serviceaccount={}:api", space.name());
    let role = "--clusterrole=system:auth-delegator";
    cluster.kubectl(&["create", "clusterrolebinding", "harbour", role, &account]).ok();
    fs::write(folder.join("token"), space.kubectl(&["create", "token", "api"]).ok()).unwrap();
}

fn serve(space: &Namespace<'_>, address: &str, folder: &Path) -> (Background, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/extension.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(address).arg(folder).env("KUBECONFIG", space.cluster().kubeconfig());
    let mut server = Background::start(&mut command);
    let port = server.line(PATIENCE, |line| line.parse::<u16>().is_ok());
    (server, port)
}

/// The Service of the server, its address, and the APIService.
fn registration(space: &Namespace<'_>, address: &str, port: &str, folder: &Path) -> String {
    let name = space.name();
    let encoded =
        run(Command::new("openssl").args(["base64", "-A", "-in"]).arg(folder.join("tls.crt")), b"", PATIENCE);
    let bundle = encoded.ok();
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: api}}, spec: {{ports: [{{port: 443, targetPort: {port}}}]}}}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: api-1, labels: {{kubernetes.io/service-name: api}}}}
addressType: IPv4
ports: [{{name: '', port: {port}}}]
endpoints: [{{addresses: [{address}]}}]
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {{name: v1.harbour.example.com}}
spec: {{group: harbour.example.com, version: v1, groupPriorityMinimum: 2000, versionPriority: 10, caBundle: {bundle},
  service: {{namespace: {name}, name: api}}}}
"
    )
}

fn available(space: &Namespace<'_>, status: &str) -> Value {
    space.wait(&format!("Available: {status}"), || {
        let service = space.cluster().api(SERVICE)?;
        let condition = service["status"]["conditions"][0].clone();
        (condition["status"] == status).then_some(condition)
    })
}

pub(crate) fn an_extension_server_serves_its_group(_: &Shared) {
    // Alone: a server that is gone for a while would be in the way of who asks for all kinds.
    let cluster = &Cluster::start();
    let space = cluster.namespace("harbour");
    let folder = cluster.scratch().join("harbour");
    prepare(&space, &folder);
    // Where pods reach the API server, it reaches others.
    let slice =
        cluster.api("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes").unwrap();
    let address = slice["endpoints"][0]["addresses"][0].as_str().unwrap();
    let (server, port) = serve(&space, address, &folder);
    space.apply(&registration(&space, address, &port, &folder));
    assert_eq!(available(&space, "True")["reason"], "Passed");

    let anchor = |name: &str| {
        format!(
            "{{apiVersion: harbour.example.com/v1, kind: Anchor, metadata: {{name: {name}}}, spec: {{weight: 5}}}}"
        )
    };
    let mut watch = space.follow(&["get", "anchors", "--watch", "--output-watch-events", "--no-headers"]);
    assert_eq!(space.manifests(&["create"], &anchor("bow")).ok(), "anchor.harbour.example.com/bow created\n");
    watch.line(PATIENCE, |line| line.starts_with("ADDED") && line.contains("bow"));
    let weight = space.kubectl(&["get", "anc", "bow", "-o", "jsonpath={.spec.weight}"]).ok();
    assert_eq!(weight, "5");
    let resources =
        cluster.kubectl(&["api-resources", "--api-group=harbour.example.com", "--no-headers"]).ok();
    let words: Vec<&str> = resources.split_whitespace().collect();
    assert_eq!(words, ["anchors", "anc", "harbour.example.com/v1", "true", "Anchor"]);
    let text = space.kubectl(&["get", "anchor", "stern"]).refused();
    assert_eq!(text, "Error from server (NotFound): anchors.harbour.example.com \"stern\" not found\n");

    // First the API server asks what its roles say, and then the extension server asks, too.
    let as_jane = |verb: &str| space.kubectl(&[verb, "anchor", "bow", "--as=jane"]);
    let text = as_jane("get").refused();
    assert!(
        text.contains("User \"jane\" cannot get resource \"anchors\" in API group \"harbour.example.com\""),
        "{text}"
    );
    space.kubectl(&["create", "role", "see", "--verb=get", "--resource=anchors.harbour.example.com"]).ok();
    space.kubectl(&["create", "rolebinding", "see", "--role=see", "--user=jane"]).ok();
    as_jane("get").ok();
    as_jane("delete").refused();
    // Nobody gets past the API server by naming a user.
    let url = format!("https://{address}:{port}/apis/harbour.example.com/v1/namespaces/harbour/anchors/bow");
    let mut direct = Command::new("curl");
    direct.args([
        "--silent",
        "--insecure",
        "--header",
        "X-Remote-User: admin",
        "--header",
        "X-Remote-Group: system:masters",
        &url,
    ]);
    let refused: Value = serde_json::from_str(&run(&mut direct, b"", PATIENCE).ok()).unwrap();
    assert_eq!(refused["code"], 401, "{refused}");
    space.kubectl(&["delete", "anchor", "bow"]).ok();
    watch.line(PATIENCE, |line| line.starts_with("DELETED") && line.contains("bow"));

    drop(server);
    // It is asked when something behind it changes, and every half minute.
    space.kubectl(&["label", "endpointslice", "api-1", "look=again"]).ok();
    let down = available(&space, "False");
    assert_eq!(down["reason"], "FailedDiscoveryCheck", "{down}");
    let text =
        space.kubectl(&["get", "--raw", "/apis/harbour.example.com/v1/namespaces/harbour/anchors"]).refused();
    assert!(text.contains("currently unable to handle the request"), "{text}");
    let table = cluster.kubectl(&["get", "apiservice", "v1.harbour.example.com", "--no-headers"]).ok();
    assert!(table.contains("harbour/api") && table.contains("False (FailedDiscoveryCheck)"), "{table}");

    // Another one takes its place.
    let (_server, port) = serve(&space, address, &folder);
    space.apply(&registration(&space, address, &port, &folder));
    available(&space, "True");
    space.manifests(&["create"], &anchor("stern")).ok();
    cluster.kubectl(&["delete", "apiservice", "v1.harbour.example.com"]).ok();
    let path = "/apis/harbour.example.com/v1";
    space.wait("the group goes", || {
        cluster.kubectl(&["get", "--raw", path]).stderr.contains("NotFound").then_some(())
    });
}
