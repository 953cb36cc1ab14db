//! `plimsoll controllers`: the controllers as a process of their own, for any API server.

mod definition;
mod flags;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use base64::Engine;
use kube::config::Kubeconfig;
use plimsoll_client::Informers;
use plimsoll_controllers::{Config, Masks};
use plimsoll_pki::Authority;

use crate::component::{Component, identity};
pub(crate) use definition::objects as proportional_autoscalers;
pub(crate) use flags::{Controllers, ServingArgs, selection};

/// The name of the process where the API shows one.
const COMPONENT: &str = "kube-controller-manager";
/// Its usual port.
const PORT: u16 = 10257;

pub(crate) fn run(options: &Controllers) -> anyhow::Result<()> {
    let election = options.election.election(identity()?).map_err(anyhow::Error::msg)?;
    let config = config(options)?;
    let (told, metrics) = (config.metrics.clone(), config.metrics.clone());
    let component = Component {
        name: COMPONENT,
        port: PORT,
        kubeconfig: &options.kubeconfig,
        serving: &options.serving,
        election: options.election.leader_elect.then_some(election),
        metrics: Box::new(move |accept| told.text(accept)),
        leads: &|name, leads| metrics.leads(name, leads),
    };
    component.run(async |client, term, stop| {
        let config = Config { term, ..config };
        definition::install(&client, &config).await;
        let informers = Informers::new(client.clone());
        plimsoll_controllers::run(config, client, informers, stop).await.context("controllers")
    })
}

fn config(options: &Controllers) -> anyhow::Result<Config> {
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("read {}", path.display()));
    let pair = options.cluster_signing_cert_file.as_ref().zip(options.cluster_signing_key_file.as_ref());
    let authority = pair.map(|(certificate, key)| Authority::read(certificate, key)).transpose();
    if let Some(key) = &options.service_account_private_key_file {
        read(key)?;
    }
    Ok(Config {
        cluster_cidr: options.cluster_cidr.clone(),
        service_cidrs: options.service_cluster_ip_range.clone(),
        node_masks: masks(options),
        ca_certificate_pem: match &options.root_ca_file {
            Some(file) => read(file)?,
            None => server_authority(&options.kubeconfig)?,
        },
        authority: authority.context("--cluster-signing-cert-file")?.map(Arc::new),
        signing_duration: Some(options.cluster_signing_duration),
        token_key: options.service_account_private_key_file.clone(),
        controllers: options.controllers.clone(),
        workers: options.concurrency.workers(),
        node_monitor_grace: Some(options.node_monitor_grace_period),
        ended_pods: Some(options.terminated_pod_gc_threshold),
        autoscaling: options.autoscaling.settings(),
        ..Config::default()
    })
}

fn masks(options: &Controllers) -> Masks {
    let (usual, both) = (Masks::default(), options.node_cidr_mask_size);
    Masks {
        v4: options.node_cidr_mask_size_ipv4.or(both).unwrap_or(usual.v4),
        v6: options.node_cidr_mask_size_ipv6.or(both).unwrap_or(usual.v6),
    }
}

/// The authority that the current context trusts; empty where it trusts the machine's.
fn server_authority(kubeconfig: &Path) -> anyhow::Result<String> {
    let file = Kubeconfig::read_from(kubeconfig).context("--kubeconfig")?;
    let current = file.current_context.as_ref();
    let context = file.contexts.iter().find(|context| Some(&context.name) == current);
    let name = context.and_then(|context| context.context.as_ref()).map(|context| &context.cluster);
    let cluster = file.clusters.iter().find(|cluster| Some(&cluster.name) == name);
    let Some(cluster) = cluster.and_then(|cluster| cluster.cluster.as_ref()) else {
        return Ok(String::new());
    };
    if let Some(data) = &cluster.certificate_authority_data {
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(data).context("certificate-authority-data")?;
        return String::from_utf8(bytes).context("certificate-authority-data");
    }
    match &cluster.certificate_authority {
        Some(file) => fs::read_to_string(file).with_context(|| format!("read {file}")),
        None => Ok(String::new()),
    }
}
