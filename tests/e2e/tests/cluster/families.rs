//! IPv4 and IPv6 in one cluster, and policies that outlive the program.

use plimsoll_e2e::{Block, Cluster, Namespace};
use serde_json::{Value, json};

use crate::pods::pod;
use crate::workloads::web;
use crate::{BUSYBOX, PATIENCE, Shared};

const SERVICES: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: both}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: v1
kind: Service
metadata: {name: six}
spec: {ipFamilies: [IPv6], selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
";

/// Admits the friend alone.
const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friends}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: friend}}}], ports: [{port: http}]}]
";

/// Asks for what is in a file all the time, as soon as there is one, and writes down what came of it.
const ASKS: &str = "trap exit TERM; while usleep 20000; do for url in $(cat /tmp/urls 2>/dev/null); do \
    if timeout 1 wget -q -O /dev/null http://$url/; then echo yes; else echo no; fi >> /tmp/seen; done; done";

fn texts(list: &Value, field: &str) -> Vec<String> {
    let text =
        |one: &Value| if field.is_empty() { one.as_str() } else { one[field].as_str() }.map(str::to_owned);
    list.as_array().into_iter().flatten().filter_map(text).collect()
}

fn families(addresses: &[String]) -> Vec<&'static str> {
    addresses.iter().map(|address| if address.contains(':') { "IPv6" } else { "IPv4" }).collect()
}

/// An address as URLs have it.
fn host(address: &str) -> String {
    if address.contains(':') { format!("[{address}]") } else { address.to_owned() }
}

/// Which of the addresses answer a pod, asked all at once: who is kept out waits.
fn reached(space: &Namespace<'_>, from: &str, urls: &[String]) -> Vec<bool> {
    let ask = |(number, url): (usize, &String)| {
        format!(
            "(timeout 1 wget -q -O - http://{url}/ 2>/dev/null | grep -q '^pod: web-' && echo {number}.) & "
        )
    };
    let script: String = urls.iter().enumerate().map(ask).collect();
    let told = space.kubectl(&["exec", from, "--", "sh", "-c", &(script + "wait")]).stdout;
    (0..urls.len()).map(|number| told.lines().any(|line| line == format!("{number}."))).collect()
}

pub(crate) fn pods_and_services_have_both_and_policies_outlive_a_restart(_: &Shared) {
    let block = Block::free();
    let (four, six) = (block.four(), block.six());
    let cluster = Cluster::prepare(&[
        &format!("--cluster-cidr={four}.0.0/17,{six}::/48"),
        &format!("--service-cluster-ip-range={four}.128.0/17,{six}:1::/112"),
    ]);
    cluster.up();
    cluster.busybox(BUSYBOX);
    let space = cluster.namespace("families");
    let clients = format!("{}---\n{}", pod("friend", ASKS, "", ""), pod("stranger", ASKS, "", ""));
    space.apply(&(web(1, "") + SERVICES + &clients));
    space.rollout("web");
    ["friend", "stranger"].iter().for_each(|name| drop(space.wait_ready(name)));

    let node = cluster.api(&format!("/api/v1/nodes/{}", cluster.node())).unwrap();
    assert_eq!(texts(&node["spec"]["podCIDRs"], ""), [format!("{four}.0.0/24"), format!("{six}::/64")]);
    let addresses = node["status"]["addresses"].as_array().unwrap();
    let inside: Vec<_> = addresses.iter().filter(|one| one["type"] == "InternalIP").cloned().collect();
    let inside = texts(&json!(inside), "address");
    let server = space.list("pods?labelSelector=app%3Dweb").remove(0);
    let server = texts(&server["status"]["podIPs"], "ip");
    let service = space.object("services/both").unwrap();
    let cluster_ips = texts(&service["spec"]["clusterIPs"], "");
    for addresses in [&inside, &server, &cluster_ips] {
        assert_eq!(families(addresses), ["IPv4", "IPv6"], "{addresses:?}");
    }
    let port = service["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    let mut urls: Vec<_> = server.iter().map(|ip| format!("{}:8080", host(ip))).collect();
    urls.extend(cluster_ips.iter().map(|ip| host(ip)));
    urls.extend(inside.iter().map(|ip| format!("{}:{port}", host(ip))));
    urls.extend(["both", "six.families.svc.cluster.local"].map(str::to_owned));
    let all_answer = |from: &str| {
        space.wait(&format!("all of {urls:?} answer {from}"), || {
            reached(&space, from, &urls).iter().all(|reached| *reached).then_some(())
        });
    };
    all_answer("stranger");
    let dns = cluster.api("/api/v1/namespaces/kube-system/services/kube-dns").unwrap();
    assert_eq!(dns["spec"]["ipFamilyPolicy"], "PreferDualStack");
    let resolvers = texts(&dns["spec"]["clusterIPs"], "");
    assert_eq!(families(&resolvers), ["IPv4", "IPv6"], "{resolvers:?}");
    for resolver in &resolvers {
        let ask = ["exec", "friend", "--", "nslookup", "both.families.svc.cluster.local", resolver];
        space.until(&ask, PATIENCE, |told| cluster_ips.iter().all(|ip| told.contains(ip.as_str())));
    }

    // What a policy says holds in both families, and does not pause while the program is away.
    space.apply(POLICY);
    let none_answers = || {
        space.wait("the stranger is kept out", || {
            reached(&space, "stranger", &urls).iter().all(|reached| !reached).then_some(())
        });
    };
    none_answers();
    all_answer("friend");
    survives(&space, &urls[..2]);
    none_answers();
    all_answer("friend");
}

/// Kills the program and starts it again while both clients go on asking.
fn survives(space: &Namespace<'_>, urls: &[String]) {
    let cluster = space.cluster();
    let seen = |pod: &str| space.sh(pod, "cat /tmp/seen 2>/dev/null || true");
    for pod in ["friend", "stranger"] {
        space.sh(pod, &format!("echo '{}' > /tmp/urls", urls.join(" ")));
    }
    let asked = |least: usize| {
        space.wait("both ask", || {
            ["friend", "stranger"].iter().all(|pod| seen(pod).lines().count() >= least).then_some(())
        });
    };
    asked(2);
    cluster.kill();
    cluster.up();
    asked(seen("stranger").lines().count() + 3);
    for (pod, answer) in [("friend", "yes"), ("stranger", "no")] {
        assert!(seen(pod).lines().all(|line| line == answer), "{pod}: {}", seen(pod));
    }
}
