//! How this server reaches others that objects name: `NAME.NAMESPACE.svc` is an endpoint of that Service.

use std::net::SocketAddr;

use futures::future::BoxFuture;
use plimsoll_remote::{Resolve, SystemNames};
use plimsoll_store::Store;
use serde_json::Value;

use crate::connect::endpoints;
use crate::registry;

/// Names of Services, without the cluster's resolver or rules; other names as the system knows them.
pub(crate) struct ServiceNames(pub(crate) Store);

impl Resolve for ServiceNames {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, Result<SocketAddr, String>> {
        match host.strip_suffix(".svc").and_then(|name| name.split_once('.')) {
            Some((name, namespace)) => {
                let found = service_endpoint(&self.0, namespace, name, port);
                Box::pin(async move { found })
            }
            None => SystemNames.resolve(host, port),
        }
    }
}

/// A ready endpoint behind the port of a Service; an error tells what is missing.
pub(crate) fn service_endpoint(
    store: &Store,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<SocketAddr, String> {
    let service = service(store, namespace, name).ok_or_else(|| format!("service {name:?} not found"))?;
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let port = ports
        .into_iter()
        .find(|one| one["port"] == port)
        .ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let port_name = port["name"].as_str().unwrap_or_default();
    let ends = endpoints(store, namespace, name, port_name).map_err(|status| status.message)?;
    match ends.len() {
        0 => Err(format!("no endpoints available for service {name:?}")),
        count => Ok(ends[rand::random_range(0..count)]),
    }
}

/// A Service, if it exists.
pub(crate) fn service(store: &Store, namespace: &str, name: &str) -> Option<Value> {
    let kind = plimsoll_catalogue::find("", "v1", "services")?;
    registry::served(kind, &*store.get(&kind.key(namespace, name)?)?).ok()
}
