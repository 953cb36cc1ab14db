//! What the engine is told about a pod's sandbox.

use std::collections::HashMap;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Pod, PodSecurityContext};
use plimsoll_cri::v1;
use plimsoll_podlife::Event;
use plimsoll_podlife::names::{Resolver, hostname, lacks_servers, resolver, within_limits};
use plimsoll_podlife::security::Profile;
use plimsoll_podlife::spec::{host_network, specs};
use plimsoll_podlife::sysctl::dotted;
use plimsoll_podlife::user_range::{Mapping, Mappings};

use crate::agent::Agent;
use crate::config::Config;

/// The configuration of a sandbox; the same is given with each of its containers.
pub(crate) fn config(agent: &Agent, pod: &Pod, attempt: u32) -> Result<v1::PodSandboxConfig, String> {
    let meta = &pod.metadata;
    let spec = pod.spec.clone().unwrap_or_default();
    let uid = meta.uid.clone().unwrap_or_default();
    let (name, namespace) =
        (meta.name.clone().unwrap_or_default(), meta.namespace.clone().unwrap_or_default());
    let users = agent.users.of(pod, agent.engine_has.user_namespaces)?;
    if let Some(class) = spec.runtime_class_name.as_deref().filter(|name| !name.is_empty()) {
        tracing::debug!(pod = name, class, "the runtime class runs by the default handler");
    }
    let (short, _) = hostname(pod, &agent.config.cluster_domain)?;
    let (resolver, _) = resolver_of(agent, pod);
    let mut labels: HashMap<_, _> = meta.labels.clone().unwrap_or_default().into_iter().collect();
    labels.extend([
        (plimsoll_cri::POD_NAME.to_owned(), name.clone()),
        (plimsoll_cri::POD_NAMESPACE.to_owned(), namespace.clone()),
        (plimsoll_cri::POD_UID.to_owned(), uid.clone()),
    ]);
    let log_directory = log_folder(&agent.config, pod);
    Ok(v1::PodSandboxConfig {
        // The node's own name is its own business.
        hostname: if host_network(pod) { String::new() } else { short },
        metadata: Some(v1::PodSandboxMetadata { name, namespace, uid: uid.clone(), attempt }),
        log_directory: log_directory.to_string_lossy().into_owned(),
        dns_config: Some(v1::DnsConfig {
            servers: resolver.servers,
            searches: resolver.searches,
            options: resolver.options,
        }),
        port_mappings: ports(pod),
        labels,
        annotations: meta.annotations.clone().unwrap_or_default().into_iter().collect(),
        linux: Some(linux(agent, pod, &uid, users.as_ref())),
    })
}

/// A pod's resolver, and what users are told of it when it is not all that they asked for.
pub(crate) fn resolver_of(agent: &Agent, pod: &Pod) -> (Resolver, Vec<Event>) {
    let (servers, domain) = (agent.cluster_dns(), &agent.config.cluster_domain);
    let (resolver, told) = within_limits(resolver(pod, &servers, domain, &agent.resolver()));
    let lacks = lacks_servers(pod, &servers).map(|text| Event::warning("MissingClusterDNS", text, None));
    let told = told.into_iter().map(|text| Event::warning("DNSConfigForming", text, None));
    (resolver, lacks.into_iter().chain(told).collect())
}

/// The folder of a pod's logs.
pub(crate) fn log_folder(config: &Config, pod: &Pod) -> PathBuf {
    let meta = &pod.metadata;
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    config.log_dir.join(format!("{}_{}_{}", part(&meta.namespace), part(&meta.name), part(&meta.uid)))
}

fn linux(agent: &Agent, pod: &Pod, uid: &str, users: Option<&Mappings>) -> v1::LinuxPodSandboxConfig {
    let spec = pod.spec.clone().unwrap_or_default();
    let context = spec.security_context.clone().unwrap_or_default();
    let privileged = |it: &k8s_openapi::api::core::v1::Container| {
        it.security_context.as_ref().and_then(|it| it.privileged).unwrap_or(false)
    };
    let value = |value: Option<i64>| value.map(|value| v1::Int64Value { value });
    let sysctls = context.sysctls.iter().flatten().map(|it| (dotted(&it.name), it.value.clone())).collect();
    v1::LinuxPodSandboxConfig {
        cgroup_parent: agent.cgroups.path(&spec, uid),
        sysctls,
        security_context: Some(v1::LinuxSandboxSecurityContext {
            namespace_options: Some(namespaces(pod, users)),
            run_as_user: value(context.run_as_user),
            run_as_group: value(context.run_as_group.filter(|_| context.run_as_user.is_some())),
            supplemental_groups: groups(&context),
            supplemental_groups_policy: groups_policy(&context),
            privileged: specs(pod).iter().any(|spec| privileged(&spec.container)),
            seccomp: Some(seccomp(agent, &Profile::RuntimeDefault)),
            ..v1::LinuxSandboxSecurityContext::default()
        }),
        ..v1::LinuxPodSandboxConfig::default()
    }
}

/// Whose namespaces the pod's containers get.
pub(crate) fn namespaces(pod: &Pod, users: Option<&Mappings>) -> v1::NamespaceOption {
    let spec = pod.spec.clone().unwrap_or_default();
    let of = |host: Option<bool>, else_: v1::NamespaceMode| {
        if host == Some(true) { v1::NamespaceMode::Node as i32 } else { else_ as i32 }
    };
    let shared = spec.share_process_namespace == Some(true);
    let pid = if shared { v1::NamespaceMode::Pod } else { v1::NamespaceMode::Container };
    v1::NamespaceOption {
        network: of(spec.host_network, v1::NamespaceMode::Pod),
        pid: of(spec.host_pid, pid),
        ipc: of(spec.host_ipc, v1::NamespaceMode::Pod),
        userns_options: users.map(|users| v1::UserNamespace {
            mode: v1::NamespaceMode::Pod as i32,
            uids: ids(&users.uid_mappings),
            gids: ids(&users.gid_mappings),
        }),
        ..v1::NamespaceOption::default()
    }
}

/// Ranges of users in the engine's words.
pub(crate) fn ids(mappings: &[Mapping]) -> Vec<v1::IdMapping> {
    let one = |it: &Mapping| v1::IdMapping {
        host_id: it.host_id,
        container_id: it.container_id,
        length: it.length,
    };
    mappings.iter().map(one).collect()
}

/// The supplementary groups of every container of a pod.
pub(crate) fn groups(context: &PodSecurityContext) -> Vec<i64> {
    let named = context.supplemental_groups.iter().flatten().copied();
    context.fs_group.into_iter().chain(named).collect()
}

pub(crate) fn groups_policy(context: &PodSecurityContext) -> i32 {
    match context.supplemental_groups_policy.as_deref() {
        Some("Strict") => v1::SupplementalGroupsPolicy::Strict as i32,
        _ => v1::SupplementalGroupsPolicy::Merge as i32,
    }
}

/// A seccomp profile in the engine's words, which knows it by its file.
pub(crate) fn seccomp(agent: &Agent, named: &Profile) -> v1::SecurityProfile {
    let folder = agent.config.data_dir.join("seccomp");
    profile(named, |name| folder.join(name).to_string_lossy().into_owned())
}

/// A profile in the engine's words; `known_as` tells by what it knows one of the node's own.
pub(crate) fn profile(profile: &Profile, known_as: impl Fn(&String) -> String) -> v1::SecurityProfile {
    use v1::security_profile::ProfileType;
    let (kind, name) = match profile {
        Profile::RuntimeDefault => (ProfileType::RuntimeDefault, String::new()),
        Profile::Unconfined => (ProfileType::Unconfined, String::new()),
        Profile::Localhost(name) => (ProfileType::Localhost, known_as(name)),
    };
    v1::SecurityProfile { profile_type: kind as i32, localhost_ref: name }
}

fn ports(pod: &Pod) -> Vec<v1::PortMapping> {
    if host_network(pod) {
        return Vec::new();
    }
    let all = specs(pod);
    let ports = all.iter().flat_map(|spec| spec.container.ports.iter().flatten());
    let published = ports.filter(|port| port.host_port.is_some_and(|port| port > 0));
    published
        .map(|port| v1::PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => v1::Protocol::Udp as i32,
                Some("SCTP") => v1::Protocol::Sctp as i32,
                _ => v1::Protocol::Tcp as i32,
            },
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or_default(),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}
