//! From what was asked for to the document that the runtime understands.
//!
//! Pure: what must be looked up on the machine comes in by [`Input`], so that the documents are
//! golden-tested. The result is an OCI runtime document without capabilities and system call
//! filters, which the shim applies itself, last (see [`Confinement`]).

pub(crate) mod apparmor;
mod capabilities;
mod devices;
mod mounts;
mod resources;
pub(crate) mod seccomp;
pub(crate) mod user;

use std::collections::BTreeSet;
use std::path::PathBuf;

use oci_spec::image::Config as ImageConfig;
use plimsoll_cri::v1::{ContainerConfig, LinuxContainerSecurityContext, Mount, PodSandboxConfig};
use plimsoll_kernel::cgroup::Version;
use serde_json::{Value, json};

use crate::cdi::{CdiError, Edits};
use crate::protocol::Confinement;
pub(crate) use capabilities::ALL as ALL_CAPABILITIES;
pub(crate) use devices::{HostDevice, host_devices, rules};
pub(crate) use mounts::{CgroupView, Files};
pub(crate) use resources::{limits, merge, update};
use user::User;

/// Where programs are looked for when neither image nor container says.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a container cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Neither image nor container names a program.
    #[error("no command specified")]
    NoCommand,
    /// A capability that does not exist.
    #[error("unknown capability to {verb}: {name:?}")]
    Capability {
        /// `add` or `drop`.
        verb: &'static str,
        /// The name.
        name: String,
    },
    /// The user is not in the image.
    #[error("{0}")]
    User(String),
    /// A system call profile cannot be used.
    #[error("seccomp profile {name}: {reason}")]
    Seccomp {
        /// The profile.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A device cannot be passed on.
    #[error("device {path}: {reason}")]
    Device {
        /// The device.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A mount cannot be made.
    #[error("mount {path}: {reason}")]
    Mount {
        /// Where in the container.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A device that is asked for by name.
    #[error("{0}")]
    Cdi(#[from] CdiError),
    /// Something that this engine does not have.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}

/// Which process namespace a container gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PidNamespace {
    Own,
    Host,
    Of(PathBuf),
}

/// The namespaces that a container joins; `None` is the machine's.
#[derive(Clone, Debug)]
pub(crate) struct Namespaces {
    pub(crate) user: Option<PathBuf>,
    pub(crate) network: Option<PathBuf>,
    pub(crate) ipc: Option<PathBuf>,
    pub(crate) uts: Option<PathBuf>,
    pub(crate) pid: PidNamespace,
}

/// What is known of the machine.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) cgroups: Version,
    /// The capabilities that can be given at all (`CAP_CHOWN`).
    pub(crate) capabilities: BTreeSet<String>,
    /// The most files that a process may be allowed to open.
    pub(crate) open_files: u64,
    pub(crate) apparmor: apparmor::Ability,
}

/// Everything that a document is made of.
pub(crate) struct Input<'a> {
    pub(crate) sandbox: &'a PodSandboxConfig,
    pub(crate) config: &'a ContainerConfig,
    /// The mounts of `config` with sources that exist.
    pub(crate) mounts: &'a [Mount],
    pub(crate) image: &'a ImageConfig,
    pub(crate) user: &'a User,
    pub(crate) namespaces: &'a Namespaces,
    pub(crate) files: &'a Files,
    pub(crate) cgroup: &'a str,
    pub(crate) cgroup_view: &'a CgroupView,
    pub(crate) devices: &'a [HostDevice],
    /// What devices that are known by name change.
    pub(crate) edits: &'a Edits,
    pub(crate) rootfs: PathBuf,
    pub(crate) host: &'a Host,
}

impl Input<'_> {
    fn security(&self) -> LinuxContainerSecurityContext {
        self.config.linux.as_ref().and_then(|linux| linux.security_context.clone()).unwrap_or_default()
    }
}

/// The OCI document of a container.
pub(crate) fn document(input: &Input<'_>) -> Result<Value, SpecError> {
    let security = input.security();
    let mounts = mounts::all(input)?;
    let propagation = mounts::root_propagation(input.mounts);
    let (masked, read_only) = match security.privileged {
        true => (&[][..], &[][..]),
        false => (&security.masked_paths[..], &security.readonly_paths[..]),
    };
    let mut document = json!({
        "ociVersion": "1.0.2",
        "process": process(input, &security)?,
        "root": { "path": input.rootfs, "readonly": security.readonly_rootfs },
        "mounts": mounts,
        "linux": {
            "namespaces": namespaces(input),
            "devices": devices::nodes(input.devices),
            "cgroupsPath": input.cgroup,
            "rootfsPropagation": propagation,
            "maskedPaths": masked,
            "readonlyPaths": read_only,
        },
    });
    if let Some(hooks) = input.edits.hooks() {
        document["hooks"] = hooks;
    }
    if let Some(shares) = &input.edits.intel_rdt {
        document["linux"]["intelRdt"] = json!(shares);
    }
    Ok(document)
}

/// The document of one more process in a container.
pub(crate) fn exec_document(process: &Value, command: &[String], tty: bool) -> Value {
    let mut process = process.clone();
    process["args"] = json!(command);
    process["terminal"] = json!(tty);
    if tty {
        set_default(&mut process, "TERM=xterm");
    }
    process
}

/// What is taken from a container's processes.
pub(crate) fn confinement(input: &Input<'_>, filters: Vec<Vec<u64>>) -> Result<Confinement, SpecError> {
    let security = input.security();
    let sets = capabilities::of(&security, &input.host.capabilities)?;
    Ok(Confinement { capabilities: sets.allowed, ambient: sets.ambient, filters })
}

/// The names of the capabilities of a container, which decide about its default filter.
pub(crate) fn capabilities_of(
    security: &LinuxContainerSecurityContext,
    host: &Host,
) -> Result<Vec<String>, SpecError> {
    Ok(capabilities::of(security, &host.capabilities)?.allowed)
}

fn process(input: &Input<'_>, security: &LinuxContainerSecurityContext) -> Result<Value, SpecError> {
    let config = input.config;
    let cwd = [config.working_dir.as_str(), input.image.working_dir().as_deref().unwrap_or_default()]
        .into_iter()
        .find(|dir| !dir.is_empty())
        .unwrap_or("/");
    let soft = input.host.open_files.min(1_048_576);
    let mut process = json!({
        "terminal": config.tty,
        "user": { "uid": input.user.uid, "gid": input.user.gid, "additionalGids": input.user.groups },
        "args": command(config, input.image)?,
        "env": environment(input),
        "cwd": cwd,
        "noNewPrivileges": security.no_new_privs && !security.privileged,
        "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": input.host.open_files, "soft": soft }],
    });
    if let Some(profile) = apparmor::profile(security, input.host.apparmor)? {
        process["apparmorProfile"] = json!(profile);
    }
    Ok(process)
}

/// Kubernetes: a command replaces entry point and arguments of the image, arguments only the latter.
fn command(config: &ContainerConfig, image: &ImageConfig) -> Result<Vec<String>, SpecError> {
    let entrypoint = image.entrypoint().clone().unwrap_or_default();
    let arguments = image.cmd().clone().unwrap_or_default();
    let command = match (config.command.is_empty(), config.args.is_empty()) {
        (false, _) => [config.command.clone(), config.args.clone()].concat(),
        (true, false) => [entrypoint, config.args.clone()].concat(),
        (true, true) => [entrypoint, arguments].concat(),
    };
    if command.is_empty() { Err(SpecError::NoCommand) } else { Ok(command) }
}

/// Later entries of a name replace earlier ones: machine, image, container.
fn environment(input: &Input<'_>) -> Vec<String> {
    let mut entries: Vec<String> = Vec::new();
    let mut put = |entry: String| {
        let name =
            |entry: &str| entry.split_once('=').map_or_else(|| entry.to_owned(), |(name, _)| name.to_owned());
        let wanted = name(&entry);
        match entries.iter_mut().find(|old| name(old) == wanted) {
            Some(old) => *old = entry,
            None => entries.push(entry),
        }
    };
    put(DEFAULT_PATH.to_owned());
    if !input.sandbox.hostname.is_empty() {
        put(format!("HOSTNAME={}", input.sandbox.hostname));
    }
    if input.config.tty {
        put("TERM=xterm".to_owned());
    }
    put(format!("HOME={}", input.user.home));
    input.image.env().iter().flatten().cloned().for_each(&mut put);
    input.config.envs.iter().map(|pair| format!("{}={}", pair.key, pair.value)).for_each(&mut put);
    input.edits.env.iter().cloned().for_each(&mut put);
    entries
}

fn set_default(process: &mut Value, entry: &str) {
    let name = entry.split_once('=').map_or(entry, |(name, _)| name);
    if let Some(entries) = process["env"].as_array_mut() {
        let has = |old: &Value| {
            old.as_str().and_then(|old| old.split_once('=')).is_some_and(|(old, _)| old == name)
        };
        if !entries.iter().any(has) {
            entries.push(json!(entry));
        }
    }
}

fn namespaces(input: &Input<'_>) -> Value {
    let mut found = vec![json!({ "type": "mount" })];
    let mut join = |kind: &str, path: Option<&PathBuf>| {
        found.extend(path.map(|path| json!({ "type": kind, "path": path })));
    };
    join("user", input.namespaces.user.as_ref());
    join("network", input.namespaces.network.as_ref());
    join("ipc", input.namespaces.ipc.as_ref());
    join("uts", input.namespaces.uts.as_ref());
    match &input.namespaces.pid {
        PidNamespace::Own => found.push(json!({ "type": "pid" })),
        PidNamespace::Of(path) => found.push(json!({ "type": "pid", "path": path })),
        PidNamespace::Host => {}
    }
    if input.host.cgroups == Version::V2 && !input.security().privileged {
        found.push(json!({ "type": "cgroup" }));
    }
    Value::Array(found)
}

#[cfg(test)]
mod tests;
