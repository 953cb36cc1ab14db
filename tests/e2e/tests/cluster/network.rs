//! How pods, Services and the node reach each other.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use plimsoll_e2e::{Namespace, Pace, asked_while, get};
use serde_json::Value;

use crate::pods::{STAY, pod};
use crate::workloads::web;
use crate::{PATIENCE, Shared};

/// One request may take this long; a lost packet is sent again within it.
pub(crate) const REQUEST: Duration = Duration::from_secs(10);

pub(crate) const SERVICE: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
";

fn address(space: &Namespace<'_>, service: &str) -> SocketAddr {
    let service = space.wait_object("has an address", &format!("services/{service}"), |service| {
        service["spec"]["clusterIP"].is_string()
    });
    let text =
        format!("{}:{}", service["spec"]["clusterIP"].as_str().unwrap(), service["spec"]["ports"][0]["port"]);
    text.parse().unwrap()
}

/// The addresses that a Service leads to now.
fn endpoints(space: &Namespace<'_>, service: &str) -> Vec<String> {
    let slices = space.list(&format!(
        "discovery.k8s.io/v1/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{service}"
    ));
    let all = slices.iter().filter_map(|slice| slice["endpoints"].as_array()).flatten();
    let ready = all.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    ready.filter_map(|endpoint| Some(endpoint["addresses"][0].as_str()?.to_owned())).collect()
}

/// The demo server exits on SIGTERM at once: whoever is sent to it later is refused.
pub(crate) fn a_rollout_loses_no_request(shared: &Shared) {
    let space = shared.cluster().namespace("lossless");
    space.apply(&(web(2, "") + SERVICE));
    space.rollout("web");
    let service = address(&space, "web");
    space.wait("the service answers", || get(service, "/", REQUEST).ok());
    loses_nothing(&[service], || {
        // Restarts are told apart by the second, and a rollout takes less.
        for round in 0..2 {
            space.kubectl(&["set", "env", "deployment/web", &format!("ROUND={round}")]).ok();
            space.rollout("web");
        }
        space.wait("the old pods are gone", || (space.list("pods").len() == 2).then_some(()));
    });
}

/// Whatever `work` does, four clients that ask all the time get their answers.
pub(crate) fn loses_nothing(addresses: &[SocketAddr], work: impl FnOnce()) {
    let tally = asked_while(addresses, Pace { clients: 4, rate: None }, |_| work());
    let (answered, lost) = (tally.answered(), tally.lost());
    assert!(lost.is_empty(), "{} of {answered} are lost: {:?}", lost.len(), lost.first());
    assert!(answered > 200, "there was no load: {answered}");
}

pub(crate) fn probes_gate_endpoints(shared: &Shared) {
    let space = shared.cluster().namespace("gated");
    let probe = "    ports: [{name: http, containerPort: 8080}]
    readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1}";
    space.apply(
        &(pod(
            "web",
            "mkdir /tmp/www; echo hello > /tmp/www/index.html; httpd -f -p 8080 -h /tmp/www",
            probe,
            "",
        ) + SERVICE),
    );
    let running = space.wait_object("running", "pods/web", |pod| {
        pod["status"]["containerStatuses"][0]["state"]["running"].is_object()
    });
    space.wait_event("web", "Unhealthy");
    assert_eq!(endpoints(&space, "web"), Vec::<String>::new());
    let service = address(&space, "web");
    get(service, "/", REQUEST).expect_err("nothing is ready");

    space.sh("web", "touch /tmp/ready");
    space.wait_ready("web");
    let ip = running["status"]["podIP"].as_str().unwrap().to_owned();
    space.wait("the endpoint is there", || (endpoints(&space, "web") == [ip.clone()]).then_some(()));
    let answer = space.wait("the service answers", || get(service, "/", REQUEST).ok());
    assert_eq!(answer.body, "hello\n");
    // The older API shows the same.
    let old =
        space.wait_object("has an address", "endpoints/web", |old| old["subsets"][0]["addresses"].is_array());
    assert_eq!(old["subsets"][0]["addresses"][0]["ip"], ip);

    space.sh("web", "rm /tmp/ready");
    space.wait("the endpoint is gone", || endpoints(&space, "web").is_empty().then_some(()));
    space.wait("the service refuses", || get(service, "/", REQUEST).is_err().then_some(()));
}

pub(crate) fn services_are_found_from_pods(shared: &Shared) {
    let space = shared.cluster().namespace("dns");
    let headless = "
---
apiVersion: v1
kind: Service
metadata: {name: direct}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere}
spec: {type: ExternalName, externalName: web.dns.svc.cluster.local}
";
    space.apply(&(web(2, "") + SERVICE + headless + "\n---\n" + &pod("client", STAY, "", "")));
    space.rollout("web");
    space.wait_ready("client");
    let service = address(&space, "web").ip().to_string();
    for name in ["web", "web.dns", "web.dns.svc", "web.dns.svc.cluster.local", "elsewhere"] {
        let script = format!("wget -q -O - http://{name}/");
        let text = space.until(&["exec", "client", "--", "sh", "-c", &script], PATIENCE, |_| true);
        assert!(text.starts_with("pod: web-"), "{name}: {text}");
    }
    let text = space.sh("client", "nslookup web.dns.svc.cluster.local");
    assert!(text.contains(&service), "{text}");
    let text = space.sh("client", "nslookup kubernetes.default.svc.cluster.local");
    assert!(text.contains("Address"), "{text}");
    let pods: BTreeSet<String> = endpoints(&space, "direct").into_iter().collect();
    assert_eq!(pods.len(), 2, "{pods:?}");
    let text = space.sh("client", "nslookup direct.dns.svc.cluster.local");
    assert!(pods.iter().all(|ip| text.contains(ip)), "{pods:?}\n{text}");
    let text = space.sh("client", "cat /etc/resolv.conf");
    assert!(text.contains("search dns.svc.cluster.local svc.cluster.local cluster.local"), "{text}");
    assert!(text.contains("options ndots:5"), "{text}");
    let text = space.kubectl(&["exec", "client", "--", "nslookup", "nobody.dns.svc.cluster.local"]);
    assert!(text.code != 0 && (text.stdout + &text.stderr).contains("NXDOMAIN"));
    // Changes are seen: a second Service, then none.
    space.kubectl(&["expose", "deployment", "web", "--name=second", "--port=80", "--target-port=http"]).ok();
    space.until(&["exec", "client", "--", "nslookup", "second.dns.svc.cluster.local"], PATIENCE, |text| {
        text.contains("Address")
    });
}

pub(crate) fn requests_are_spread(shared: &Shared) {
    let space = shared.cluster().namespace("spread");
    space.apply(&(web(3, "") + SERVICE));
    space.rollout("web");
    let service = address(&space, "web");
    let mut seen = BTreeSet::new();
    // Evenly at random, 200 requests miss one of three once in 10^35 runs.
    space.wait("every pod answered", || {
        for _ in 0..50 {
            seen.extend(get(service, "/", REQUEST).ok().map(|answer| answer.body));
        }
        (seen.len() == 3).then_some(())
    });
    for _ in 0..100 {
        let answer = get(service, "/", REQUEST).expect("every request is answered");
        assert!(seen.contains(&answer.body), "{answer:?}");
    }
}

pub(crate) fn a_node_port_is_open_on_the_node(shared: &Shared) {
    let space = shared.cluster().namespace("node-port");
    space.apply(&(web(1, "") + &SERVICE.replace("spec: {", "spec: {type: NodePort, ")));
    space.rollout("web");
    let service = space.object("services/web").unwrap();
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30000..=32767).contains(&port), "{service}");
    let node = shared.cluster().api(&format!("/api/v1/nodes/{}", shared.cluster().node())).unwrap();
    let addresses = node["status"]["addresses"].as_array().unwrap();
    let ip = addresses
        .iter()
        .find(|address| address["type"] == "InternalIP")
        .and_then(|address| address["address"].as_str())
        .unwrap();
    let address: SocketAddr = format!("{ip}:{port}").parse().unwrap();
    let answer = space.wait("the node's port answers", || get(address, "/", REQUEST).ok());
    assert!(answer.body.starts_with("pod: web-"), "{answer:?}");
    space.kubectl(&["delete", "service", "web"]).ok();
    space.wait("the node's port is closed", || get(address, "/", REQUEST).is_err().then_some(()));
}

pub(crate) fn pods_reach_pods_and_the_node(shared: &Shared) {
    let space = shared.cluster().namespace("reach");
    space.apply(
        &(web(1, "")
            + "---\n"
            + &pod(
                "client",
                STAY,
                "    env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}]",
                "",
            )),
    );
    space.rollout("web");
    let client = space.wait_ready("client");
    let web = space.ready_pods("web").remove(0);
    let web = space.object(&format!("pods/{web}")).unwrap();
    let text = space
        .sh("client", &format!("wget -q -O - http://{}:8080/", web["status"]["podIP"].as_str().unwrap()));
    assert!(text.starts_with("pod: web-"), "{text}");
    // Its own address, as it sees it, is the one that the API shows.
    let text = space.sh("client", "hostname -i");
    assert!(text.contains(client["status"]["podIP"].as_str().unwrap()), "{text}");

    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).unwrap();
        write!(stream, "HTTP/1.0 200 OK\r\n\r\nyou are {peer}\n").unwrap();
    });
    let text = space.sh("client", &format!("wget -q -O - http://$NODE:{port}/"));
    assert!(text.starts_with("you are "), "{text}");
    server.join().unwrap();
}

pub(crate) fn a_service_without_endpoints_refuses(shared: &Shared) {
    let space = shared.cluster().namespace("nobody");
    space.apply(SERVICE.trim_start_matches("\n---"));
    let service = address(&space, "web");
    // Refused at once instead of dropped: the caller need not wait.
    let refused = |error: std::io::Error| {
        matches!(error.kind(), std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::HostUnreachable)
    };
    space.wait("refused", || {
        get(service, "/", Duration::from_secs(2))
            .err()
            .filter(|_| true)
            .map(refused)
            .filter(|refused| *refused)
    });
}

pub(crate) fn several_ports_have_names(shared: &Shared) {
    let space = shared.cluster().namespace("ports");
    let script = "mkdir /tmp/a /tmp/b; echo first > /tmp/a/index.html; echo second > /tmp/b/index.html; httpd -p 8001 -h /tmp/a; httpd -f -p 8002 -h /tmp/b";
    let ports = "    ports: [{name: one, containerPort: 8001}, {name: two, containerPort: 8002}]\n    readinessProbe: {tcpSocket: {port: two}, periodSeconds: 1}";
    let service = "
---
apiVersion: v1
kind: Service
metadata: {name: both}
spec:
  selector: {app: both}
  ports: [{name: a, port: 81, targetPort: one}, {name: b, port: 82, targetPort: two}]
";
    space.apply(&(pod("both", script, ports, "") + service));
    space.wait_ready("both");
    let first = address(&space, "both");
    for (port, text) in [(81, "first\n"), (82, "second\n")] {
        let answer =
            space.wait("the port answers", || get(SocketAddr::new(first.ip(), port), "/", REQUEST).ok());
        assert_eq!(answer.body, text);
    }
    let slices = space.list("discovery.k8s.io/v1/endpointslices");
    let names: BTreeSet<&str> =
        slices[0]["ports"].as_array().unwrap().iter().filter_map(|port| port["name"].as_str()).collect();
    assert_eq!(names, BTreeSet::from(["a", "b"]));
    assert_eq!(slices[0]["endpoints"][0]["targetRef"]["name"], Value::from("both"));
}
