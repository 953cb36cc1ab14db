//! Nodes on machines of their own.

use std::net::SocketAddr;
use std::time::Duration;

use plimsoll_e2e::{Cluster, Hosts, Namespace, Worker, get};

use crate::network::{REQUEST, SERVICE, loses_nothing};
use crate::pods::{STAY, pod};
use crate::workloads::web;
use crate::{BUSYBOX, PATIENCE, Shared};

/// A pod on a node that answers with its name.
fn server(name: &str, node: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: web}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: plimsoll.io/demo
    imagePullPolicy: IfNotPresent
    ports: [{{name: http, containerPort: 8080}}]
    readinessProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 1}}
"
    )
}

/// Lets the client in alone.
const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: client-only}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}]}]
";

/// A pod on a node that fetches all of these once; it fails when one cannot be had.
fn fetcher(name: &str, node: &str, urls: &[String]) -> String {
    let fetches: Vec<_> = urls.iter().map(|url| format!("wget -q -O - {url} || exit 1")).collect();
    pod(name, &fetches.join("; "), "", &format!("  nodeName: {node}\n  restartPolicy: Never"))
}

fn address(space: &Namespace<'_>, pod: &str) -> String {
    space.wait_ready(pod)["status"]["podIP"].as_str().unwrap().to_owned()
}

/// Two nodes on one link, a third one behind a router.
pub(crate) fn pods_and_services_span_nodes(_: &Shared) {
    let hosts = Hosts::start(&[1, 1, 2]);
    let cluster = Cluster::start_on(hosts.host(0), &[]);
    cluster.busybox(BUSYBOX);
    let near = Worker::join(&cluster, hosts.host(1), "near");
    let far = Worker::join(&cluster, hosts.host(2), "far");
    near.bring(&[BUSYBOX]);
    far.bring(&[BUSYBOX]);
    let space = cluster.namespace("span");
    let service = SERVICE.replace("spec: {", "spec: {type: NodePort, ");
    space.apply(
        &(server("at-near", near.node())
            + &server("at-far", far.node())
            + &service
            + "---\n"
            + &pod("client", STAY, "", &format!("  nodeName: {}", cluster.node()))),
    );
    let urls = ["at-near", "at-far"].map(|pod| format!("http://{}:8080/", address(&space, pod)));
    space.wait_ready("client");

    // By the pods' addresses, from each node to each other.
    for (url, name) in urls.iter().zip(["at-near", "at-far"]) {
        let text = space.sh("client", &format!("wget -q -O - {url}"));
        assert!(text.starts_with(&format!("pod: {name}\n")), "{url}: {text}");
    }
    let mut all = urls.to_vec();
    all.push("http://web.span.svc.cluster.local/".to_owned());
    space
        .apply(&(fetcher("from-near", near.node(), &all) + "---\n" + &fetcher("from-far", far.node(), &all)));
    for pod in ["from-near", "from-far"] {
        let ended = space.wait_ended(pod);
        assert_eq!(ended["status"]["phase"], "Succeeded", "{pod}: {ended:#}");
    }
    let ways = |worker: &Worker<'_>| worker.host().run("ip", &["route", "show", "proto", "76"]);
    let (of_near, of_far) = (ways(&near), ways(&far));
    assert_eq!((of_near.matches("via").count(), of_near.matches("dev plimx-").count()), (2, 1), "{of_near}");
    assert_eq!(of_far.matches("dev plimx-").count(), 2, "{of_far}");
    let mtu = space.sh("client", "cat /sys/class/net/eth0/mtu");
    assert_eq!(mtu.trim(), "1450");

    // The Service's port is open on every node, and leads to pods of all nodes.
    let port = space.object("services/web").unwrap()["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    for number in 0..3 {
        let node = SocketAddr::new(hosts.host(number).address(), u16::try_from(port).unwrap());
        let mut seen = std::collections::BTreeSet::new();
        space.wait("pods of both nodes answered", || {
            seen.extend(get(node, "/", REQUEST).ok().map(|answer| answer.body));
            (seen.len() == 2).then_some(())
        });
    }

    // Every node knows of a pod's end before the pod does.
    let rolled = web(2, "").replace("    spec:\n", &format!("    spec:\n      nodeName: {}\n", far.node()));
    let service = service.replace("{name: web}", "{name: rolled}").replace("app: web", "app: rolled");
    space.apply(&(rolled.replace("app: web", "app: rolled") + &service));
    space.rollout("web");
    let port = space.object("services/rolled").unwrap()["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    let nodes =
        [0, 1, 2].map(|number| SocketAddr::new(hosts.host(number).address(), u16::try_from(port).unwrap()));
    for node in nodes {
        space.wait("the rolled pods answer", || get(node, "/", REQUEST).ok());
    }
    loses_nothing(&nodes, || {
        for round in 0..2 {
            space.kubectl(&["set", "env", "deployment/web", &format!("ROUND={round}")]).ok();
            space.rollout("web");
        }
        let all = || space.list("pods?labelSelector=app%3Drolled").len();
        space.wait("the old pods are gone", || (all() == 2).then_some(()));
    });
    space.kubectl(&["delete", "deployment/web", "service/rolled", "--wait=false"]).ok();

    // Load balancers are told which nodes have pods, and only those lead to one, without hiding the client.
    let service = "---
apiVersion: v1
kind: Service
metadata: {name: local}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
";
    space.apply(service);
    let object = space.object("services/local").unwrap();
    let [port, health] = [&object["spec"]["ports"][0]["nodePort"], &object["spec"]["healthCheckNodePort"]]
        .map(|port| u16::try_from(port.as_u64().unwrap()).unwrap());
    for (number, status, answers) in [(0, 503, None), (1, 200, Some("at-near")), (2, 200, Some("at-far"))] {
        let node = hosts.host(number).address();
        space.wait("load balancers are told", || {
            get(SocketAddr::new(node, health), "/healthz", REQUEST)
                .ok()
                .filter(|answer| answer.status == status)
        });
        let answer = get(SocketAddr::new(node, port), "/", Duration::from_secs(1)).ok();
        let name =
            answer.and_then(|answer| Some(answer.body.lines().next()?.strip_prefix("pod: ")?.to_owned()));
        assert_eq!(name.as_deref(), answers, "node {number}");
    }

    // Nodes are the load balancer: their addresses are its.
    let has = |service: &serde_json::Value| {
        let ingress = service["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
        let mut found: Vec<_> = ingress.iter().filter_map(|one| one["ip"].as_str()).collect();
        found.sort_unstable();
        let mut wanted = [1, 2].map(|number| hosts.host(number).address().to_string());
        wanted.sort_unstable();
        found == wanted
    };
    space.wait_object("has the addresses of the nodes with pods", "services/local", has);
    space.wait_event("local", "EnsuredLoadBalancer");
    let balanced = SocketAddr::new(hosts.host(1).address(), 80);
    let answer = space.wait("the load balancer answers", || get(balanced, "/", REQUEST).ok());
    assert!(answer.body.starts_with("pod: at-near\n"), "{answer:?}");

    // What policies keep out is kept out on whichever node it comes from, and what they let in comes in.
    space.apply(POLICY);
    let kept_out = |name: &str, node: &str, url: &str| {
        let script = format!("while timeout 2 wget -q -O /dev/null {url}; do usleep 100000; done");
        pod(name, &script, "", &format!("  nodeName: {node}\n  restartPolicy: Never"))
    };
    space.apply(
        &(kept_out("out-near", near.node(), &urls[1]) + "---\n" + &kept_out("out-far", far.node(), &urls[0])),
    );
    for pod in ["out-near", "out-far"] {
        space.wait_ended(pod);
    }
    for url in &urls {
        space.sh("client", &format!("timeout 5 wget -q -O - {url}"));
    }

    // The ways stay when an agent dies, and go with its node.
    far.kill();
    let text = space.sh("client", &format!("wget -q -O - {}", urls[1]));
    assert!(text.starts_with("pod: at-far\n"), "{text}");
    cluster.kubectl(&["delete", "node", far.node()]).ok();
    space.wait("nobody knows a way any more", || (!ways(&near).contains("plimx-")).then_some(()));
    space.until(&["exec", "client", "--", "wget", "-q", "-O", "-", "http://web/"], PATIENCE, |text| {
        text.starts_with("pod: at-near\n")
    });
}
