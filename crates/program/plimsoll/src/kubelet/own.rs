//! An agent that brings its engine, network and resolver: a node of another machine's instance.

use std::fs;
use std::path::Path;

use anyhow::Context;
use plimsoll_podlife::configuration::Configuration;
use serde_json::{Value, json};

use crate::instance::{Instance, nth};
use crate::ranges::Ranges;

/// What such an agent's settings are when nobody says anything else. Its folder need not exist yet.
pub(super) fn base(root: &Path, services: &Ranges) -> Value {
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    json!({
        "clusterDomain": "cluster.local",
        "clusterDNS": [nth(services.first(), 10).to_string()],
        "containerRuntimeEndpoint": format!("unix://{}", root.join("run/engine.sock").display()),
        "podLogsDir": root.join("logs"),
        "serializeImagePulls": false,
    })
}

/// The instance in the agent's folder, by which `plimsoll down` and `plimsoll image` know it.
pub(super) fn instance(
    root: &Path,
    (pods, services): (Ranges, Ranges),
    settings: &Configuration,
) -> anyhow::Result<Instance> {
    let group = if settings.cgroup_root.is_empty() { "/" } else { &settings.cgroup_root };
    let own = Instance::of_agent(root, pods, services, group)?;
    own.save()?;
    let pid = own.file("plimsoll.pid");
    fs::write(&pid, format!("{}\n", std::process::id()))
        .with_context(|| format!("write {}", pid.display()))?;
    Ok(own)
}
