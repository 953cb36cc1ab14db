//! Volumes made of files: their folder, in memory where they hold secrets.

use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::Volume;
use plimsoll_kernel::mount;
use plimsoll_podlife::field::FieldContext;
use plimsoll_podlife::projection::Projection;

use super::{Inputs, atomic, fs_group, is_mount};
use crate::agent::Agent;

/// Makes the volume hold what its sources say now.
pub(super) fn write(
    agent: &Agent,
    volume: &Volume,
    projection: &Projection,
    inputs: &Inputs,
    dir: &Path,
) -> Result<(), String> {
    let context = FieldContext {
        pod: &inputs.pod,
        pod_ips: &inputs.pod_ips,
        host_ips: &agent.node.addresses,
        allocatable: &agent.allocatable,
    };
    let files = projection.files(&context, &inputs.references, &inputs.tokens)?;
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    // Secrets and tokens never touch a disk.
    if (volume.secret.is_some() || volume.projected.is_some()) && !is_mount(dir) {
        mount::tmpfs(dir, "mode=1777").map_err(|error| error.to_string())?;
    }
    atomic::write(dir, &files, fs_group(&inputs.pod)).map_err(|error| format!("{}: {error}", dir.display()))
}
