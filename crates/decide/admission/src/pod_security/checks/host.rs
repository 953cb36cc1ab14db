//! What a pod shares with its host.

use std::collections::BTreeSet;

use super::super::pod::{Pod, Violation, containers, items, plural, quoted, setters, text};

/// Network, process and IPC namespaces of the host.
pub(crate) fn namespaces(pod: Pod<'_>) -> Option<Violation> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| pod.spec[*field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    (!shared.is_empty()).then(|| Violation::new("host namespaces", shared.join(", ")))
}

/// Ports of the host.
pub(crate) fn ports(pod: Pod<'_>) -> Option<Violation> {
    let mut used = BTreeSet::new();
    let bad = pod.containers_that(|container| {
        let ports = items(&container["ports"]).filter_map(|port| port["hostPort"].as_i64());
        let found: Vec<String> = ports.filter(|port| *port != 0).map(|port| port.to_string()).collect();
        let any = !found.is_empty();
        used.extend(found);
        any
    });
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {}",
        containers(&bad),
        plural("uses", "use", bad.len()),
        plural("hostPort", "hostPorts", used.len()),
        used.into_iter().collect::<Vec<_>>().join(", "),
    );
    Some(Violation::new("hostPort", detail))
}

/// Probes and hooks that ask another host than the pod.
pub(crate) fn probes(pod: Pod<'_>) -> Option<Violation> {
    let mut hosts = BTreeSet::new();
    let bad: BTreeSet<&str> = pod
        .containers_that(|container| {
            let lifecycle = &container["lifecycle"];
            let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &container[probe]);
            let handlers = probes.into_iter().chain([&lifecycle["postStart"], &lifecycle["preStop"]]);
            let found: Vec<&str> = handlers
                .flat_map(|handler| [text(&handler["httpGet"]["host"]), text(&handler["tcpSocket"]["host"])])
                .filter(|host| !host.is_empty())
                .collect();
            let any = !found.is_empty();
            hosts.extend(found);
            any
        })
        .into_iter()
        .collect();
    if bad.is_empty() {
        return None;
    }
    let bad: Vec<&str> = bad.into_iter().collect();
    let detail = format!(
        "{} {} {} {}",
        containers(&bad),
        plural("uses", "use", bad.len()),
        plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
        quoted(&hosts),
    );
    Some(Violation::new("probe or lifecycle host", detail))
}

/// Processes of a Windows host.
pub(crate) fn windows_process(pod: Pod<'_>) -> Option<Violation> {
    let bad = pod
        .containers_that(|container| container["securityContext"]["windowsOptions"]["hostProcess"] == true);
    let whole = pod.spec["securityContext"]["windowsOptions"]["hostProcess"] == true;
    let who = setters(whole, &bad)?;
    let detail = format!("{who} must not set securityContext.windowsOptions.hostProcess=true");
    Some(Violation::new("hostProcess", detail))
}
