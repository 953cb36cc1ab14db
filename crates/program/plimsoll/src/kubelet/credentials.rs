//! Who the agent is to the API server: certificates that the cluster signs, and the client that uses them.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use kube::config::Kubeconfig;
use plimsoll_client::Backoff;
use plimsoll_kubelet::Certificate;
use plimsoll_pki::Subscriber;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// The certificate that the API server knows the node by.
pub(super) fn client(folder: &Path, node: &str) -> Certificate {
    Certificate {
        folder: folder.to_owned(),
        name: "kubelet-client",
        signer: "kubernetes.io/kube-apiserver-client-kubelet",
        usage: "client auth",
        subscriber: subscriber(node),
    }
}

/// The certificate of the agent's server.
pub(super) fn serving(folder: &Path, node: &str, addresses: &[IpAddr]) -> Certificate {
    Certificate {
        folder: folder.to_owned(),
        name: "kubelet-server",
        signer: "kubernetes.io/kubelet-serving",
        usage: "server auth",
        subscriber: Subscriber {
            dns_names: vec![node.to_owned()],
            addresses: addresses.to_vec(),
            ..subscriber(node)
        },
    }
}

fn subscriber(node: &str) -> Subscriber {
    Subscriber {
        common_name: format!("system:node:{node}"),
        organization: "system:nodes".to_owned(),
        ..Subscriber::default()
    }
}

/// Gets the first client certificate with the credentials of another kubeconfig, and writes the kubeconfig
/// that uses it. Does nothing where there is a good one already; tries until it is signed.
pub(super) async fn bootstrap(own: &Certificate, by: &Path, kubeconfig: &Path) -> anyhow::Result<()> {
    if kubeconfig.exists() && own.is_valid() {
        return Ok(());
    }
    let client = plimsoll_client::connect_kubeconfig(by).await?;
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    while let Err(error) = own.obtain(&client).await {
        tracing::warn!(%error, "no client certificate yet");
        tokio::time::sleep(backoff.delay()).await;
    }
    let text = kubeconfig_text(own, by)?;
    plimsoll_pki::write_private(kubeconfig, text.as_bytes()).context("kubeconfig")
}

/// The server of another kubeconfig with this node's certificate.
fn kubeconfig_text(own: &Certificate, by: &Path) -> anyhow::Result<String> {
    let other = Kubeconfig::read_from(by).with_context(|| format!("read {}", by.display()))?;
    let context = other.contexts.iter().find(|it| Some(&it.name) == other.current_context.as_ref());
    let context = context
        .and_then(|it| it.context.as_ref())
        .context("the bootstrap kubeconfig has no current context")?;
    let cluster = other.clusters.iter().find(|it| it.name == context.cluster);
    let cluster =
        cluster.and_then(|it| it.cluster.as_ref()).context("the bootstrap kubeconfig has no cluster")?;
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default-cluster", "cluster": cluster}],
        "users": [{"name": "default-auth", "user": {
            "client-certificate": own.current(), "client-key": own.current()}}],
        "contexts": [{"name": "default-context", "context": {"cluster": "default-cluster", "user": "default-auth"}}],
        "current-context": "default-context",
    });
    Ok(serde_json::to_string_pretty(&document).context("write a kubeconfig")? + "\n")
}

/// A client for a kubeconfig; its certificate is renewed, and taken up, if it is `rotated`.
pub(super) async fn connect(
    file: &Path,
    rotated: Option<Certificate>,
    shutdown: &CancellationToken,
) -> anyhow::Result<kube::Client> {
    let first = plimsoll_client::connect_kubeconfig(file).await?;
    let Some(certificate) = rotated.filter(|it| it.current().exists()) else { return Ok(first) };
    let newest = Arc::new(RwLock::new(first));
    let (asks, file) = (newest.clone(), file.to_owned());
    let renewed = {
        let newest = newest.clone();
        move || {
            let (newest, file) = (newest.clone(), file.clone());
            tokio::spawn(async move {
                match plimsoll_client::connect_kubeconfig(&file).await {
                    Ok(client) => *newest.write().unwrap_or_else(PoisonError::into_inner) = client,
                    Err(error) => tracing::error!(%error, "the new client certificate is not used yet"),
                }
            });
        }
    };
    tokio::spawn(certificate.keep(move || read(&asks), renewed, shutdown.clone()));
    Ok(plimsoll_client::from_service(tower::service_fn(move |request| {
        let client = read(&newest);
        async move { client.send(request).await }
    })))
}

fn read(newest: &RwLock<kube::Client>) -> kube::Client {
    newest.read().unwrap_or_else(PoisonError::into_inner).clone()
}
