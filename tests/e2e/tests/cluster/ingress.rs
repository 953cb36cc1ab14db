//! Requests from outside, to real pods.

use std::net::{SocketAddr, TcpListener};

use plimsoll_e2e::{Cluster, get};

use crate::Shared;
use crate::network::{REQUEST, SERVICE, loses_nothing};
use crate::workloads::web;

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

    loses_nothing(&[address], || {
        for round in 0..2 {
            let more = ["create", "ingress", &format!("more-{round}"), "--rule=more.example/*=web:http"];
            space.kubectl(&more).ok();
            space.kubectl(&["set", "env", "deployment/web", &format!("ROUND={round}")]).ok();
            space.rollout("web");
        }
        space.wait("the old pods are gone", || (space.list("pods").len() == 2).then_some(()));
    });

    space.wait_event("more-1", "PathConflict");
    // A name leads to whatever the cluster's resolver says.
    let name = format!("--external-name=web.{}.svc.cluster.local", space.name());
    space.kubectl(&["create", "service", "externalname", "alias", &name]).ok();
    let root = "--annotation=nginx.ingress.kubernetes.io/rewrite-target=/";
    space.kubectl(&["create", "ingress", "alias", "--rule=/alias=alias:80", root]).ok();
    let aliased = || get(address, "/alias", REQUEST).ok().filter(|answer| answer.status == 200).map(drop);
    space.wait("a Service that stands for a name answers", aliased);
    space.kubectl(&["annotate", "ingress", "web", "nginx.ingress.kubernetes.io/limit-rps=1"]).ok();
    space.wait("a client that asks too often is refused", || {
        get(address, "/", REQUEST).ok().filter(|answer| answer.status == 503)
    });
    space.kubectl(&["delete", "ingress", "--all"]).ok();
    space.wait("nobody serves the path", || {
        get(address, "/", REQUEST).ok().filter(|answer| answer.status == 404)
    });
}
