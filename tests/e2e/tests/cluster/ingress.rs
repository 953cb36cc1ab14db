//! Requests from outside, to real pods.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use plimsoll_e2e::{Cluster, get};

use crate::Shared;
use crate::workloads::web;

/// One request may take this long.
const REQUEST: Duration = Duration::from_secs(10);

const SERVICE: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: http}]}
";

/// The demo server exits on SIGTERM at once, and rules change under way.
pub(crate) fn an_ingress_loses_no_request(_: &Shared) {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (http, https) = (free(), free());
    let ports = [format!("--ingress-http-port={http}"), format!("--ingress-https-port={https}")];
    let cluster = Cluster::prepare(&[&ports[0], &ports[1]]);
    cluster.up();
    let space = cluster.namespace("ingress");
    let address = SocketAddr::from(([127, 0, 0, 1], http));
    assert!(get(address, "/", REQUEST).is_err(), "nothing listens before there is an Ingress");
    space.apply(&(web(2, "") + SERVICE));
    space.rollout("web");
    space.kubectl(&["create", "ingress", "web", "--rule=/*=web:http"]).ok();
    let class = space.object("networking.k8s.io/v1/ingresses/web").unwrap();
    assert_eq!(class["spec"]["ingressClassName"], "plimsoll", "the default class");
    let serves = || get(address, "/", REQUEST).ok().filter(|answer| answer.status == 200).map(drop);
    space.wait("the ingress answers", serves);
    space.wait_object("tells its address", "networking.k8s.io/v1/ingresses/web", |ingress| {
        ingress["status"]["loadBalancer"]["ingress"][0]["ip"].is_string()
    });

    let stop = AtomicBool::new(false);
    let ask = || {
        let (mut answered, mut lost) = (0, Vec::new());
        while !stop.load(Ordering::Relaxed) {
            match get(address, "/", REQUEST) {
                Ok(answer) if answer.status == 200 => answered += 1,
                other => lost.push(format!("{other:?}")),
            }
        }
        (answered, lost)
    };
    let results = thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        for round in 0..2 {
            space
                .kubectl(&["create", "ingress", &format!("more-{round}"), "--rule=more.example/*=web:http"])
                .ok();
            space.kubectl(&["rollout", "restart", "deployment/web"]).ok();
            space.rollout("web");
        }
        space.wait("the old pods are gone", || (space.list("pods").len() == 2).then_some(()));
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    let answered: u32 = results.iter().map(|(answered, _)| answered).sum();
    let lost: Vec<_> = results.into_iter().flat_map(|(_, lost)| lost).collect();
    assert!(lost.is_empty(), "{} of {answered} are lost: {:?}", lost.len(), lost.first());
    assert!(answered > 200, "there was no load: {answered}");

    space.wait_event("more-1", "PathConflict");
    space.kubectl(&["annotate", "ingress", "web", "nginx.ingress.kubernetes.io/limit-rps=1"]).ok();
    space.wait("a client that asks too often is refused", || {
        get(address, "/", REQUEST).ok().filter(|answer| answer.status == 503)
    });
    space.kubectl(&["delete", "ingress", "--all"]).ok();
    space.wait("nobody serves the path", || {
        get(address, "/", REQUEST).ok().filter(|answer| answer.status == 404)
    });
}
