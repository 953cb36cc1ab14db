//! What is lost while pods are replaced: rolling updates of a Deployment of 10, and changes of its size to one and back,
//! under requests by the Service's address, a node port and the ingress, each by a connection of its own.
//!
//! Once with a server that exits on SIGTERM at once, once with one that drains.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use plimsoll_e2e::{Cluster, Namespace, Pace, Tally, asked_while, get};

use crate::report;

const PODS: usize = 10;
const REQUESTS: usize = 100_000;
const CLIENTS: u32 = 24;

/// Requests a second.
const RATE: u32 = 2_000;
const LIMIT: Duration = Duration::from_secs(120);

/// Takes and prints the figures; how often, and under how many requests a second, can be said.
pub(crate) fn of(numbers: &[&str]) -> anyhow::Result<()> {
    let times = numbers.first().map_or(Ok(1), |times| times.parse())?;
    run(times, numbers.get(1).map_or(Ok(RATE), |rate| rate.parse())?)
}

fn run(times: usize, rate: u32) -> anyhow::Result<()> {
    let pace = Pace { clients: CLIENTS, rate: Some(rate) };
    let (mut lost, mut asked) = (0, 0);
    let free = || anyhow::Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
    let (http, https) = (free()?, free()?);
    let ports = [format!("--ingress-http-port={http}"), format!("--ingress-https-port={https}")];
    let cluster = Cluster::prepare(&[&ports[0], &ports[1]]);
    cluster.up();
    for (name, arguments) in [("stops-at-once", ""), ("drains", "args: [--drain=1]")] {
        let space = cluster.namespace(name);
        space.apply(&manifests(arguments));
        space.rollout("web");
        space.kubectl(&["create", "ingress", "web", "--rule=/*=web:http"]).ok();
        let addresses = addresses(&space, http)?;
        for address in addresses {
            let serves = || get(address, "/", LIMIT).ok().filter(|answer| answer.status == 200).map(drop);
            space.wait("an address answers", serves);
        }
        for round in 1..=times {
            let what = format!("a server that {} ({round})", name.replace('-', " "));
            let tally = once(&space, &addresses, pace, &what);
            lost += tally.lost().len();
            asked += tally.answered() + tally.lost().len();
        }
    }
    report(&format!("of all {asked} requests lost"), &lost.to_string(), "0");
    Ok(())
}

fn once(space: &Namespace<'_>, addresses: &[SocketAddr; 3], pace: Pace, what: &str) -> Tally {
    let (begun, mut updates) = (Instant::now(), 0);
    let tally = asked_while(addresses, pace, |tally: &Tally| {
        while tally.answered() + tally.lost().len() < REQUESTS {
            let word = format!("ROUND={}", begun.elapsed().as_millis());
            space.kubectl(&["set", "env", "deployment/web", &word]).ok();
            space.rollout("web");
            for size in [1, PODS] {
                space.kubectl(&["scale", "deployment/web", &format!("--replicas={size}")]).ok();
                space.wait("the size is as told", || (space.list("pods").len() == size).then_some(()));
                space.rollout("web");
            }
            updates += 1;
        }
    });
    let (lost, all) = (tally.lost(), tally.answered() + tally.lost().len());
    let rate = all as f64 / begun.elapsed().as_secs_f64();
    report(&format!("{what}: requests lost"), &lost.len().to_string(), "0");
    println!("  of {all}, {rate:.0} a second, {updates} updates and changes of size to 1 and back");
    let ways = ["ClusterIP", "NodePort", "Ingress"].iter().zip(tally.answered_each());
    println!("  {}", ways.map(|(way, count)| format!("{way} {count}")).collect::<Vec<_>>().join(", "));
    lost.iter().take(10).for_each(|lost| println!("  {lost}"));
    tally
}

/// The Service's address, the node port and the ingress.
fn addresses(space: &Namespace<'_>, ingress: u16) -> anyhow::Result<[SocketAddr; 3]> {
    let service = space.object("services/web").context("the Service")?;
    let port = &service["spec"]["ports"][0];
    let cluster =
        format!("{}:{}", service["spec"]["clusterIP"].as_str().context("an address")?, port["port"]);
    let node =
        space.cluster().api(&format!("/api/v1/nodes/{}", space.cluster().node())).context("the node")?;
    let addresses = node["status"]["addresses"].as_array().context("the node's addresses")?;
    let internal = addresses.iter().find(|address| address["type"] == "InternalIP");
    let internal = internal.and_then(|address| address["address"].as_str()).context("the node's address")?;
    let node = format!("{internal}:{}", port["nodePort"]);
    Ok([cluster.parse()?, node.parse()?, SocketAddr::from(([127, 0, 0, 1], ingress))])
}

fn manifests(arguments: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: {PODS}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: web
        image: plimsoll.io/demo
        imagePullPolicy: IfNotPresent
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /healthz, port: http}}, periodSeconds: 1}}
        {arguments}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{type: NodePort, selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: http}}]}}
"
    )
}
