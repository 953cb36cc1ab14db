//! The Gateway API, with the real kubectl.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use plimsoll_e2e::run;

use crate::network::{REQUEST, SERVICE};
use crate::workloads::web;
use crate::{PATIENCE, Shared};

fn ask(port: u16, path: &str) -> Option<String> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = TcpStream::connect_timeout(&address, REQUEST).ok()?;
    stream.set_read_timeout(Some(REQUEST)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: g.example\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Ports that nobody listens on, of those that the kernel gives no connection of another test.
fn free_ports() -> impl Iterator<Item = u16> {
    (21_000..30_000).filter(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok())
}

/// Requests find their way by the rules of a Gateway's routes, and those by what other namespaces grant.
pub(crate) fn routes_of_a_gateway_are_served(shared: &Shared) {
    let cluster = shared.cluster();
    let (space, far) = (cluster.namespace("gateways"), cluster.namespace("gateways-far"));
    let mut ports = free_ports();
    let (plain, encrypted) = (ports.next().unwrap(), ports.next().unwrap());
    space.apply(&(web(1, "") + SERVICE));
    far.apply(&SERVICE.replace("app: web", "app: none"));
    let file = |name: &str| cluster.scratch().join(name).display().to_string();
    let (key, certificate) = (file("g.key"), file("g.crt"));
    let made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", "/CN=g.example"];
    let names = ["-addext", "subjectAltName=DNS:g.example", "-keyout", &key, "-out", &certificate];
    run(Command::new("openssl").args(made).args(names), b"", PATIENCE).ok();
    space.kubectl(&["create", "secret", "tls", "g", "--cert", &certificate, "--key", &key]).ok();
    let far_name = far.name();
    space.apply(&format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: gw}}
spec:
  gatewayClassName: plimsoll
  listeners:
  - {{name: http, port: {plain}, protocol: HTTP, hostname: '*.example'}}
  - {{name: https, port: {encrypted}, protocol: HTTPS, tls: {{certificateRefs: [{{name: g}}]}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web}}
spec:
  parentRefs: [{{name: gw}}]
  hostnames: [g.example]
  rules:
  - backendRefs: [{{name: web, port: 80}}]
    filters:
    - {{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-way, value: gateway}}]}}}}
  - matches: [{{path: {{type: PathPrefix, value: /moved}}}}]
    filters: [{{type: RequestRedirect, requestRedirect: {{scheme: https, port: {encrypted}, statusCode: 301}}}}]
  - matches: [{{path: {{type: PathPrefix, value: /shared}}}}]
    filters: [{{type: URLRewrite, urlRewrite: {{path: {{type: ReplaceFullPath, replaceFullPath: /}}}}}}]
    backendRefs: [{{name: web, port: 80, weight: 1}}, {{name: missing, port: 80, weight: 1}}]
  - matches: [{{path: {{type: PathPrefix, value: /far}}}}]
    backendRefs: [{{name: web, namespace: {far_name}, port: 80}}]
"
    ));
    let classes = space.kubectl(&["get", "gc"]).ok();
    assert!(classes.contains("plimsoll.io/gateway-controller"), "{classes}");
    space.kubectl(&["wait", "--for=condition=Accepted", "gatewayclass/plimsoll", "--timeout=60s"]).ok();
    let waited = space.kubectl(&["wait", "--for=condition=Programmed", "gtw/gw", "--timeout=60s"]);
    let gateway = space.object("gateway.networking.k8s.io/v1/gateways/gw").unwrap();
    assert_eq!(waited.code, 0, "{:#}", gateway["status"]);
    let route = "gateway.networking.k8s.io/v1/httproutes/web";
    let resolved = |reason: &str| {
        space.wait_object(&format!("tells {reason}"), route, |route| {
            let conditions = route["status"]["parents"][0]["conditions"].as_array();
            let of = |one: &serde_json::Value| one["type"] == "ResolvedRefs" && one["reason"] == reason;
            conditions.is_some_and(|all| all.iter().any(of))
        });
    };
    resolved("BackendNotFound");
    space.rollout("web");
    let answer = space.wait("the route answers", || ask(plain, "/").filter(|text| text.contains(" 200 ")));
    assert!(answer.contains("x-way: gateway"), "{answer}");
    let moved = ask(plain, "/moved/x").unwrap();
    assert!(
        moved.contains(" 301 ")
            && moved.contains(&format!("location: https://g.example:{encrypted}/moved/x"))
    );
    let shared: Vec<String> = (0..60).filter_map(|_| ask(plain, "/shared")).collect();
    let count = |status: &str| shared.iter().filter(|text| text.contains(status)).count();
    assert!(count(" 200 ") > 5 && count(" 500 ") > 5, "half of them fail: {shared:?}");

    // What another namespace has is reached once it grants it; there are no pods.
    assert!(ask(plain, "/far").unwrap().contains(" 500 "));
    space.kubectl(&["create", "service", "clusterip", "missing", "--tcp=80"]).ok();
    resolved("RefNotPermitted");
    far.apply(&format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {{name: g}}, spec: {{\
         from: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: {}}}], \
         to: [{{group: '', kind: Service}}]}}}}",
        space.name()
    ));
    resolved("ResolvedRefs");
    assert!(ask(plain, "/far").unwrap().contains(" 503 "));

    let port = format!("127.0.0.1:{encrypted}");
    let tls = ["s_client", "-quiet", "-connect", &port, "-servername", "g.example"];
    let trust = ["-CAfile", &certificate, "-verify_return_error", "-verify_hostname", "g.example"];
    let request = b"GET / HTTP/1.0\r\nHost: g.example\r\n\r\n";
    let answer = run(Command::new("openssl").args(tls).args(trust), request, PATIENCE).ok();
    assert!(answer.contains(" 200 "), "{answer}");
    let told = space.object("gateway.networking.k8s.io/v1/gateways/gw").unwrap();
    assert_eq!(told["status"]["listeners"][0]["attachedRoutes"], 1);
    assert!(told["status"]["addresses"][0]["value"].is_string());

    space.kubectl(&["delete", "gateway", "gw"]).ok();
    space.wait("its ports are closed", || ask(plain, "/").is_none().then_some(()));
    space.wait_object("is told nothing any more", route, |route| {
        route["status"]["parents"] == serde_json::json!([])
    });
}
