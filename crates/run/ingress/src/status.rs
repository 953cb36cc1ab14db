//! The addresses in the status of Ingresses: those of this node.

use std::collections::HashSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, IngressLoadBalancerIngress};
use kube::Api;
use kube::api::{Patch, PatchParams};
use plimsoll_client::{Backoff, Delta, Informer, Informers, Object};
use plimsoll_route::is_ours;
use serde_json::json;

/// Keeps the status until the informers end.
pub(crate) async fn follow(informers: Informers, client: kube::Client, node: &str) {
    let (ingresses, classes) = (informers.informer::<Ingress>(), informers.informer::<IngressClass>());
    let nodes = informers.informer::<Node>();
    let (mut changes, mut class_changes) = (ingresses.subscribe(), classes.subscribe());
    let mut node_changes = nodes.subscribe();
    classes.synced().await;
    nodes.synced().await;
    let mut dirty = HashSet::new();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    let mut known = addresses(nodes.get("", node).as_deref());
    loop {
        let failed = write(&client, &ingresses, &classes, &known, std::mem::take(&mut dirty)).await;
        let pause = match failed.is_empty() {
            true => None,
            false => Some(tokio::time::sleep(backoff.delay())),
        };
        if failed.is_empty() {
            backoff.reset();
        }
        dirty = failed;
        tokio::select! {
            () = async { match pause { Some(pause) => pause.await, None => std::future::pending().await } } => {}
            delta = changes.recv() => match delta {
                Some(Delta::Applied { new, .. }) => { dirty.insert(key(&new)); }
                Some(_) => {}
                None => return,
            },
            delta = class_changes.recv() => match delta {
                Some(_) => dirty.extend(ingresses.list().iter().map(|ingress| key(ingress))),
                None => return,
            },
            delta = node_changes.recv() => match delta {
                Some(_) => {
                    let now = addresses(nodes.get("", node).as_deref());
                    if now != known {
                        dirty.extend(ingresses.list().iter().map(|ingress| key(ingress)));
                        known = now;
                    }
                }
                None => return,
            },
        }
    }
}

fn key(ingress: &Ingress) -> (String, String) {
    (ingress.namespace().to_owned(), ingress.name().to_owned())
}

/// Writes what is not there yet; gives what could not be written.
async fn write(
    client: &kube::Client,
    ingresses: &Informer<Ingress>,
    classes: &Informer<IngressClass>,
    addresses: &[IngressLoadBalancerIngress],
    dirty: HashSet<(String, String)>,
) -> HashSet<(String, String)> {
    let mut failed = HashSet::new();
    for (namespace, name) in dirty {
        let Some(ingress) = ingresses.get(&namespace, &name) else { continue };
        let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let present = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
        if addresses.is_empty() || present == addresses || !is_ours(&ingress, |class| classes.get("", class))
        {
            continue;
        }
        let api = Api::<Ingress>::namespaced(client.clone(), &namespace);
        let patch = json!({"status": {"loadBalancer": {"ingress": addresses}}});
        match api.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => {
                tracing::debug!(%error, namespace, name, "status of an Ingress not written yet");
                failed.insert((namespace, name));
            }
            Ok(_) => {}
        }
    }
    failed
}

/// The addresses of a node that clients reach: external ones, else internal ones.
pub(crate) fn addresses(node: Option<&Node>) -> Vec<IngressLoadBalancerIngress> {
    let all = node.and_then(|node| node.status.as_ref()?.addresses.as_deref()).unwrap_or_default();
    let of = |kind: &str| -> Vec<IngressLoadBalancerIngress> {
        let some = all.iter().filter(|address| address.type_ == kind);
        let ip =
            |address: &str| IngressLoadBalancerIngress { ip: Some(address.to_owned()), ..Default::default() };
        some.map(|address| ip(&address.address)).collect()
    };
    let external = of("ExternalIP");
    if external.is_empty() { of("InternalIP") } else { external }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn external_addresses_before_internal_ones() {
        let table = [
            (
                json!([{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": "n"}]),
                "10.0.0.1",
            ),
            (
                json!([{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "ExternalIP", "address": "1.2.3.4"}]),
                "1.2.3.4",
            ),
        ];
        for (listed, expected) in table {
            let node: Node =
                serde_json::from_value(json!({"metadata": {}, "status": {"addresses": listed}})).unwrap();
            let found: Vec<_> = addresses(Some(&node)).into_iter().filter_map(|address| address.ip).collect();
            assert_eq!(found, [expected]);
        }
    }
}
