//! What the engine is told about a container.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, VolumeMount};
use plimsoll_cri::v1;
use plimsoll_podlife::cgroup;
use plimsoll_podlife::env::{References, environment, expand, unknown_names};
use plimsoll_podlife::field::FieldContext;
use plimsoll_podlife::names::hosts;
use plimsoll_podlife::qos::oom_score_adj;
use plimsoll_podlife::security::{Profile, Security, security, verify_non_root};
use plimsoll_podlife::spec::Spec;
use plimsoll_podlife::user_range::Mappings;
use plimsoll_podlife::volume::{Propagation, propagation, recursive_read_only};
use plimsoll_podlife::{hash, service_links};

use crate::agent::Agent;
use crate::env_files;
use crate::sandbox;
use crate::volume::{self, Held, Place, SubPath};

/// What a start is about.
pub(crate) struct Start<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) spec: &'a Spec,
    pub(crate) attempt: u32,
    /// The image as the engine knows it.
    pub(crate) image: String,
    pub(crate) pod_ips: &'a [String],
    pub(crate) references: &'a References,
    /// The run whose processes an ephemeral container sees.
    pub(crate) target: Option<String>,
}

type Env = Vec<(String, String)>;

/// The configuration of a container, and the files and mounts that it needs made.
pub(crate) async fn config(agent: &Agent, start: &Start<'_>) -> Result<v1::ContainerConfig, String> {
    let container = &start.spec.container;
    let unnamed = if agent.config.seccomp_default { Profile::RuntimeDefault } else { Profile::Unconfined };
    let security = security(start.pod, container, &unnamed);
    verify_user(agent, start, &security).await?;
    let references = env_files::read(agent, start.pod, container, start.references)?;
    let uid = start.pod.metadata.uid.as_deref().unwrap_or_default();
    let grant = agent.devices.grant(uid, &container.name).await?;
    let claimed = agent.claims.devices(start.pod, container)?;
    let env = variables(agent, start, &references)?;
    let users = agent.users.of(start.pod, agent.engine_has.user_namespaces)?;
    let lookup = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let words = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|word| expand(word, lookup)).collect()
    };
    let logs = sandbox::log_folder(&agent.config, start.pod).join(&container.name);
    fs::create_dir_all(&logs).map_err(|error| format!("{}: {error}", logs.display()))?;
    let stop_signal = container.lifecycle.as_ref().and_then(|it| it.stop_signal.as_deref());
    Ok(v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: container.name.clone(), attempt: start.attempt }),
        image: Some(image_spec(start.image.clone(), container.image.clone().unwrap_or_default())),
        command: words(&container.command),
        args: words(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts: grant.mounts.into_iter().chain(mounts(agent, start, &env, users.as_ref())?).collect(),
        // What a container says itself comes last, and wins.
        envs: grant.env.into_iter().chain(env).map(|(key, value)| v1::KeyValue { key, value }).collect(),
        devices: grant.devices.into_iter().chain(devices(agent, start)?).collect(),
        cdi_devices: grant.cdi_devices.into_iter().chain(claimed).collect(),
        labels: labels(start),
        annotations: grant.annotations.into_iter().chain(annotations(start)).collect(),
        log_path: format!("{}/{}.log", container.name, start.attempt),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(linux(agent, start, &security, users.as_ref())),
        stop_signal: stop_signal.map_or(0, signal),
    })
}

pub(crate) fn image_spec(image: String, named: String) -> v1::ImageSpec {
    v1::ImageSpec { image, user_specified_image: named, ..v1::ImageSpec::default() }
}

async fn verify_user(agent: &Agent, start: &Start<'_>, security: &Security) -> Result<(), String> {
    if !security.non_root {
        return Ok(());
    }
    let spec = image_spec(start.image.clone(), String::new());
    let image = agent.engine.image(spec).await.map_err(|status| crate::engine::text(&status))?;
    let image = image.unwrap_or_default();
    let user = image.uid.map_or(image.username, |uid| uid.value.to_string());
    let meta = &start.pod.metadata;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let pod = format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid));
    verify_non_root(security, &user, &pod, start.spec.name())
}

fn variables(agent: &Agent, start: &Start<'_>, references: &References) -> Result<Env, String> {
    let context = FieldContext {
        pod: start.pod,
        pod_ips: start.pod_ips,
        host_ips: &agent.node.addresses,
        allocatable: &agent.allocatable,
    };
    let services: BTreeMap<_, _> = {
        let own = start.pod.metadata.namespace.as_deref().unwrap_or_default();
        let mut services = agent.services.list_in(own);
        services.extend(agent.services.get("default", "kubernetes").filter(|_| own != "default"));
        service_links(start.pod, services.iter().map(|service| &**service))
    };
    environment(&start.spec.container, &context, references, &services)
}

fn signal(name: &str) -> i32 {
    let plain = name.replace('+', "PLUS").replace('-', "MINUS");
    v1::Signal::from_str_name(&plain).unwrap_or(v1::Signal::RuntimeDefault) as i32
}

fn labels(start: &Start<'_>) -> HashMap<String, String> {
    let meta = &start.pod.metadata;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    HashMap::from([
        (plimsoll_cri::POD_NAME.to_owned(), text(&meta.name)),
        (plimsoll_cri::POD_NAMESPACE.to_owned(), text(&meta.namespace)),
        (plimsoll_cri::POD_UID.to_owned(), text(&meta.uid)),
        (plimsoll_cri::CONTAINER_NAME.to_owned(), start.spec.name().to_owned()),
    ])
}

fn annotations(start: &Start<'_>) -> HashMap<String, String> {
    let container = &start.spec.container;
    let json = |value: Option<serde_json::Value>| value.map(|value| value.to_string());
    let hook = container.lifecycle.as_ref().and_then(|it| serde_json::to_value(it.pre_stop.as_ref()?).ok());
    let ports = container.ports.as_ref().and_then(|ports| serde_json::to_value(ports).ok());
    let grace = start.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    let optional = [
        (plimsoll_cri::PRE_STOP_HANDLER, json(hook)),
        (plimsoll_cri::CONTAINER_PORTS, json(ports)),
        (plimsoll_cri::TERMINATION_GRACE, grace.map(|grace| grace.to_string())),
    ];
    let policy = container.termination_message_policy.clone().unwrap_or_else(|| "File".into());
    let always = [
        (plimsoll_cri::CONTAINER_HASH, hash(container)),
        (plimsoll_cri::RESTART_COUNT, start.attempt.to_string()),
        (plimsoll_cri::TERMINATION_MESSAGE_PATH, message_path(start.spec)),
        (plimsoll_cri::TERMINATION_MESSAGE_POLICY, policy),
    ];
    let optional = optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    always.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(optional).collect()
}

fn message_path(spec: &Spec) -> String {
    let path = spec.container.termination_message_path.clone();
    path.filter(|path| !path.is_empty()).unwrap_or_else(|| "/dev/termination-log".into())
}

fn linux(
    agent: &Agent,
    start: &Start<'_>,
    security: &Security,
    users: Option<&Mappings>,
) -> v1::LinuxContainerConfig {
    let spec = start.pod.spec.clone().unwrap_or_default();
    let context = spec.security_context.clone().unwrap_or_default();
    let container = &start.spec.container;
    let value = |value: Option<i64>| value.map(|value| v1::Int64Value { value });
    let of_volumes = agent.volumes.groups(start.pod.metadata.uid.as_deref().unwrap_or_default());
    let mut namespaces = sandbox::namespaces(start.pod, users);
    if let Some(target) = &start.target {
        namespaces.pid = v1::NamespaceMode::Target as i32;
        namespaces.target_id.clone_from(target);
    }
    let uid = start.pod.metadata.uid.as_deref().unwrap_or_default();
    let values = cgroup::container(&spec, container, &agent.rules_of(uid, &container.name));
    let pages = values
        .huge_pages
        .into_iter()
        .map(|(page_size, limit)| v1::HugepageLimit { page_size, limit: limit.unsigned_abs() });
    v1::LinuxContainerConfig {
        resources: Some(v1::LinuxContainerResources {
            cpu_period: values.period.unwrap_or(0),
            cpu_quota: values.quota.unwrap_or(0),
            cpu_shares: values.shares.unwrap_or(0),
            memory_limit_in_bytes: values.memory.unwrap_or(0),
            oom_score_adj: oom_score_adj(&spec, container, agent.machine.memory),
            hugepage_limits: pages.collect(),
            cpuset_cpus: agent.placement.cpus(uid, &container.name),
            cpuset_mems: agent.placement.memory_nodes(uid, &container.name),
            unified: values.unified.into_iter().collect(),
            ..v1::LinuxContainerResources::default()
        }),
        security_context: Some(v1::LinuxContainerSecurityContext {
            capabilities: Some(v1::Capability {
                add_capabilities: security.add.clone(),
                drop_capabilities: security.drop.clone(),
                add_ambient_capabilities: Vec::new(),
            }),
            privileged: security.privileged,
            namespace_options: Some(namespaces),
            run_as_user: value(security.user),
            run_as_group: value(security.group),
            readonly_rootfs: security.read_only_root,
            supplemental_groups: [sandbox::groups(&context), of_volumes].concat(),
            supplemental_groups_policy: sandbox::groups_policy(&context),
            no_new_privs: security.no_new_privileges,
            masked_paths: security.masked.clone(),
            readonly_paths: security.read_only.clone(),
            seccomp: Some(sandbox::seccomp(agent, &security.seccomp)),
            apparmor: security.apparmor.as_ref().map(|profile| sandbox::profile(profile, Clone::clone)),
            ..v1::LinuxContainerSecurityContext::default()
        }),
    }
}

fn mounts(
    agent: &Agent,
    start: &Start<'_>,
    env: &Env,
    users: Option<&Mappings>,
) -> Result<Vec<v1::Mount>, String> {
    let container = &start.spec.container;
    let mut mounts = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        mounts.push(volume_mount(agent, start, env, index, mount)?);
    }
    let dir = agent.config.pod_dir(start.pod.metadata.uid.as_deref().unwrap_or_default());
    let taken = |path: &str| container.volume_mounts.iter().flatten().any(|mount| mount.mount_path == path);
    if !taken("/etc/hosts") {
        mounts.push(file_mount("/etc/hosts", &hosts_file(agent, start, &dir)?));
    }
    let message = message_path(start.spec);
    if !taken(&message) {
        mounts.push(file_mount(&message, &message_file(start, &dir)?));
    }
    // The pod's users own what they see as if they were the machine's.
    for (mount, users) in mounts.iter_mut().zip(users.into_iter().cycle()) {
        mount.uid_mappings = sandbox::ids(&users.uid_mappings);
        mount.gid_mappings = sandbox::ids(&users.gid_mappings);
    }
    Ok(mounts)
}

fn file_mount(inside: &str, outside: &Path) -> v1::Mount {
    v1::Mount {
        container_path: inside.to_owned(),
        host_path: outside.to_string_lossy().into_owned(),
        ..v1::Mount::default()
    }
}

/// The pod's hosts file, written anew for each container because its address is known only now.
fn hosts_file(agent: &Agent, start: &Start<'_>, dir: &Path) -> Result<PathBuf, String> {
    let path = dir.join("etc-hosts");
    let node = fs::read_to_string("/etc/hosts").unwrap_or_default();
    let text = hosts(start.pod, start.pod_ips, &agent.config.cluster_domain, &node);
    // A container of the pod may have added lines of its own.
    if fs::read_to_string(&path).is_ok_and(|known| known.starts_with(&text)) {
        return Ok(path);
    }
    fs::write(&path, text)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o644)))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// A fresh file for a container's last words, writable by whatever user it runs as.
fn message_file(start: &Start<'_>, dir: &Path) -> Result<PathBuf, String> {
    let folder = dir.join("containers").join(start.spec.name());
    let path = folder.join(start.attempt.to_string());
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&path, ""))
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o666)))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

fn volume_mount(
    agent: &Agent,
    start: &Start<'_>,
    env: &Env,
    index: usize,
    mount: &VolumeMount,
) -> Result<v1::Mount, String> {
    let (pod, container) = (start.pod.metadata.uid.as_deref().unwrap_or_default(), start.spec.name());
    let missing = || format!("cannot find volume \"{}\" to mount into container \"{container}\"", mount.name);
    let held = agent.volumes.get(pod, &mount.name).ok_or_else(missing)?;
    let part = part(mount, env)?;
    let propagation = match propagation(mount)? {
        Propagation::None => v1::MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => v1::MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => v1::MountPropagation::PropagationBidirectional,
    };
    let mut made = v1::Mount {
        container_path: absolute(&mount.mount_path),
        readonly: mount.read_only.unwrap_or(false) || held.read_only,
        recursive_read_only: recursive_read_only(mount, agent.engine_has.recursive_read_only)?,
        propagation: propagation as i32,
        ..v1::Mount::default()
    };
    match held.place {
        Place::Image(name) => {
            made.image = Some(image_spec(name.clone(), name));
            made.image_sub_path = part.unwrap_or_default();
            return Ok(made);
        }
        Place::Device(_) => return Err(missing()),
        Place::Path(path) => made.host_path = path.to_string_lossy().into_owned(),
    }
    if let Some(part) = part {
        let below = agent.config.pod_dir(pod).join("volume-subpaths").join(&mount.name).join(container);
        let target = below.join(index.to_string());
        let from = PathBuf::from(&made.host_path);
        volume::sub_path(&SubPath { volume: &mount.name, container, from: &from, part: &part }, &target)?;
        made.host_path = target.to_string_lossy().into_owned();
    }
    Ok(made)
}

/// The part of a volume that is mounted, if not all of it.
fn part(mount: &VolumeMount, env: &Env) -> Result<Option<String>, String> {
    let named = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let Some(expression) = named(&mount.sub_path_expr) else { return Ok(named(&mount.sub_path)) };
    let known = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    if let Some(missing) = unknown_names(&expression, known).first() {
        return Err(format!("missing value for \"{missing}\""));
    }
    Ok(Some(expand(&expression, known)))
}

/// The devices that a container gets from volumes.
fn devices(agent: &Agent, start: &Start<'_>) -> Result<Vec<v1::Device>, String> {
    let (pod, container) = (start.pod.metadata.uid.as_deref().unwrap_or_default(), start.spec.name());
    let wanted = start.spec.container.volume_devices.iter().flatten();
    wanted
        .map(|device| {
            if !device.device_path.starts_with('/') {
                return Err(format!("error DevicePath `{}` must be an absolute path", device.device_path));
            }
            let held = agent.volumes.get(pod, &device.name);
            let Some(Held { place: Place::Device(path), read_only, .. }) = held else {
                let name = &device.name;
                return Err(format!("cannot find volume \"{name}\" to pass into container \"{container}\""));
            };
            Ok(v1::Device {
                container_path: device.device_path.clone(),
                host_path: path.to_string_lossy().into_owned(),
                permissions: if read_only { "r" } else { "mrw" }.to_owned(),
            })
        })
        .collect()
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_signals_have_the_interfaces_numbers() {
        for (name, number) in
            [("SIGTERM", 23), ("SIGUSR1", 29), ("SIGRTMIN+1", 36), ("SIGRTMAX-14", 51), ("x", 0)]
        {
            assert_eq!(signal(name), number, "{name}");
        }
    }
}
