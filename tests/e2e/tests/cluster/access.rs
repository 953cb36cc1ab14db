//! Who may do what.

use plimsoll_e2e::run;
use serde_json::Value;
use std::process::Command;

use crate::pods::{STAY, pod};
use crate::{PATIENCE, Shared};

pub(crate) fn roles_allow_and_nothing_else_does(shared: &Shared) {
    let space = shared.cluster().namespace("roles");
    let can = |verb: &str, thing: &str| {
        space.kubectl(&["auth", "can-i", verb, thing, "--as=jane"]).stdout.trim().to_owned()
    };
    assert_eq!(can("list", "pods"), "no");
    let text = space.kubectl(&["get", "pods", "--as=jane"]).refused();
    assert_eq!(
        text.trim(),
        "Error from server (Forbidden): pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"roles\""
    );
    space.kubectl(&["create", "role", "reader", "--verb=get,list", "--resource=pods"]).ok();
    space.kubectl(&["create", "rolebinding", "jane", "--role=reader", "--user=jane"]).ok();
    assert_eq!([can("list", "pods"), can("delete", "pods"), can("list", "secrets")], ["yes", "no", "no"]);
    space.kubectl(&["get", "pods", "--as=jane"]).ok();
    let elsewhere =
        shared.cluster().kubectl(&["auth", "can-i", "list", "pods", "--as=jane", "-n", "default"]);
    assert_eq!(elsewhere.stdout.trim(), "no");
    space.kubectl(&["delete", "rolebinding", "jane"]).ok();
    assert_eq!(can("list", "pods"), "no");

    // The roles that users expect are there.
    space.kubectl(&["create", "rolebinding", "viewer", "--clusterrole=view", "--group=readers"]).ok();
    let viewer = |verb: &str, thing: &str| {
        space
            .kubectl(&["auth", "can-i", verb, thing, "--as=joe", "--as-group=readers"])
            .stdout
            .trim()
            .to_owned()
    };
    assert_eq!(
        [viewer("list", "deployments.apps"), viewer("get", "secrets"), viewer("create", "pods")],
        ["yes", "no", "no"]
    );
    // Nobody gives away what they do not have.
    let text = space
        .kubectl(&[
            "create",
            "rolebinding",
            "more",
            "--clusterrole=admin",
            "--user=jane",
            "--as=joe",
            "--as-group=readers",
        ])
        .refused();
    assert!(text.contains("cannot create resource \"rolebindings\""), "{text}");
}

pub(crate) fn service_accounts_speak_for_pods(shared: &Shared) {
    let space = shared.cluster().namespace("accounts");
    space.kubectl(&["create", "serviceaccount", "robot"]).ok();
    space.apply(&pod("box", STAY, "", "  serviceAccountName: robot"));
    space.wait_ready("box");
    let token = space.sh("box", "cat /var/run/secrets/kubernetes.io/serviceaccount/token");
    assert_eq!(space.sh("box", "cat /var/run/secrets/kubernetes.io/serviceaccount/namespace"), "accounts");
    assert!(
        space
            .sh("box", "cat /var/run/secrets/kubernetes.io/serviceaccount/ca.crt")
            .contains("BEGIN CERTIFICATE")
    );
    let made = space.kubectl(&["create", "token", "robot"]).ok();
    for token in [token.trim(), made.trim()] {
        let ask = |arguments: &[&str]| {
            // Without the administrator's certificate, which would win.
            let mut command = Command::new("kubectl");
            command.args([
                "--kubeconfig=/dev/null",
                "--insecure-skip-tls-verify",
                "--token",
                token,
                "-n",
                "accounts",
            ]);
            command.arg(format!("--server=https://{}", space.cluster().listen())).args(arguments);
            run(&mut command, b"", PATIENCE)
        };
        let who: Value = serde_json::from_str(&ask(&["auth", "whoami", "-o", "json"]).ok()).unwrap();
        assert_eq!(who["status"]["userInfo"]["username"], "system:serviceaccount:accounts:robot", "{who}");
        assert!(ask(&["get", "pods"]).refused().contains("system:serviceaccount:accounts:robot"));
        space
            .kubectl(&[
                "create",
                "rolebinding",
                "robot",
                "--clusterrole=view",
                "--serviceaccount=accounts:robot",
            ])
            .ok();
        assert!(ask(&["get", "pods"]).ok().contains("box"));
        space.kubectl(&["delete", "rolebinding", "robot"]).ok();
    }
    let text = space.manifests(&["apply"], &pod("lost", STAY, "", "  serviceAccountName: nobody")).refused();
    assert!(text.contains("serviceaccount \"nobody\" not found"), "{text}");
}

pub(crate) fn nobody_anonymous_reads(shared: &Shared) {
    let cluster = shared.cluster();
    let curl = |path: &str| {
        let url = format!("https://{}{path}", cluster.listen());
        run(
            Command::new("curl").args(["--silent", "--insecure", "--write-out", "\n%{http_code}", &url]),
            b"",
            PATIENCE,
        )
        .ok()
    };
    // path, status, what is in the answer
    let table = [
        ("/healthz", "200", "ok"),
        ("/readyz", "200", "ok"),
        ("/version", "200", "\"gitVersion\":\"v1.37."),
        (
            "/api/v1/secrets",
            "403",
            "secrets is forbidden: User \\\"system:anonymous\\\" cannot list resource",
        ),
        ("/apis", "403", "forbidden: User \\\"system:anonymous\\\" cannot get path \\\"/apis\\\""),
    ];
    for (path, status, text) in table {
        let answer = curl(path);
        let (body, code) = answer.rsplit_once('\n').unwrap();
        assert_eq!(code, status, "{path}: {body}");
        assert!(body.contains(text), "{path}: {body}");
    }
}

pub(crate) fn approved_requests_get_certificates(shared: &Shared) {
    let cluster = shared.cluster();
    let file = |name: &str| cluster.scratch().join(name).display().to_string();
    let (key, wanted, made) = (file("ann.key"), file("ann.csr"), file("ann.crt"));
    let openssl = |arguments: &[&str]| run(Command::new("openssl").args(arguments), b"", PATIENCE).ok();
    openssl(&[
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        &key,
        "-subj",
        "/CN=ann/O=dev",
        "-out",
        &wanted,
    ]);
    let request = openssl(&["base64", "-A", "-in", &wanted]);
    let manifest = |name: &str, usage: &str| {
        format!(
            "{{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {{name: {name}}}, \
             spec: {{request: {request}, signerName: kubernetes.io/kube-apiserver-client, \
             expirationSeconds: 3600, usages: [{usage}]}}}}"
        )
    };
    cluster.manifests(&["create"], &manifest("ann", "client auth")).ok();
    cluster.manifests(&["create"], &manifest("ann-serves", "server auth")).ok();
    cluster.kubectl(&["certificate", "approve", "ann", "ann-serves"]).ok();
    let read = |name: &str, template: &str| {
        cluster.wait("the signer's answer", || {
            let template = format!("go-template={template}");
            let text = cluster.kubectl(&["get", "csr", name, "-o", &template]).ok();
            (!text.is_empty()).then_some(text)
        })
    };
    let certificate = read("ann", "{{if .status.certificate}}{{.status.certificate | base64decode}}{{end}}");
    std::fs::write(&made, certificate).unwrap();
    // Within the hour it ends, and not before.
    openssl(&["x509", "-in", &made, "-noout", "-checkend", "3300"]);
    let ends = run(
        Command::new("openssl").args(["x509", "-in", &made, "-noout", "-checkend", "3700"]),
        b"",
        PATIENCE,
    );
    ends.refused();
    let mut command = Command::new("kubectl");
    command.args(["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", "--client-certificate", &made]);
    command.args(["--client-key", &key, "--server", &format!("https://{}", cluster.listen())]);
    let who = run(command.args(["auth", "whoami", "-o", "json"]), b"", PATIENCE).ok();
    let who: Value = serde_json::from_str(&who).unwrap();
    assert_eq!(who["status"]["userInfo"]["username"], "ann", "{who}");
    assert_eq!(who["status"]["userInfo"]["groups"][0], "dev", "{who}");

    let cause = read(
        "ann-serves",
        "{{range .status.conditions}}{{if eq .type \"Failed\"}}{{.message}}{{end}}{{end}}",
    );
    assert_eq!(cause, "invalid usage for client certificate: server auth");
    cluster.kubectl(&["delete", "csr", "ann", "ann-serves"]).ok();
}

pub(crate) fn secrets_get_tokens_of_accounts(shared: &Shared) {
    let space = shared.cluster().namespace("secret-tokens");
    space.kubectl(&["create", "serviceaccount", "robot"]).ok();
    space.apply(
        "{apiVersion: v1, kind: Secret, type: kubernetes.io/service-account-token, \
         metadata: {name: robot, annotations: {kubernetes.io/service-account.name: robot}}}",
    );
    let read = |key: &str| {
        let template = format!("go-template={{{{index .data \"{key}\" | base64decode}}}}");
        space.kubectl(&["get", "secret", "robot", "-o", &template]).ok()
    };
    let path = "secrets/robot";
    space.wait_object("its token", path, |secret| secret["data"]["token"].is_string());
    assert_eq!(read("namespace"), "secret-tokens");
    assert!(read("ca.crt").contains("BEGIN CERTIFICATE"));
    let mut command = Command::new("kubectl");
    command.args(["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", "--token", &read("token")]);
    command.args(["--server", &format!("https://{}", space.cluster().listen())]);
    let who = run(command.args(["auth", "whoami", "-o", "json"]), b"", PATIENCE).ok();
    let who: Value = serde_json::from_str(&who).unwrap();
    assert_eq!(who["status"]["userInfo"]["username"], "system:serviceaccount:secret-tokens:robot", "{who}");
    space.kubectl(&["delete", "serviceaccount", "robot"]).ok();
    space.wait_gone(path);
}
