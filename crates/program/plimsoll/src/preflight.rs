//! What must be there before anything is changed.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context, bail, ensure};

use ipnet::IpNet;
use plimsoll_kernel::link::Links;
use plimsoll_kernel::nft::{Family, Tables};
use plimsoll_podlife::configuration::Configuration;

use crate::cli::Up;
use crate::instance::Instance;
use crate::ranges;

/// Controllers that a node needs on control groups of version 1.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuacct", "cpuset", "devices", "memory", "pids"];

/// Refuses with the remedy when the machine lacks something.
pub(crate) fn check(options: &Up, instance: &Instance, agent: &Configuration) -> anyhow::Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "must run as root: namespaces, mounts and packet rules need it; try `sudo plimsoll up`"
    );
    if let Some(pid) = instance.running() {
        bail!(
            "this instance runs already (process {pid}); stop it with `plimsoll down --keep-data --data-dir {}`",
            instance.directory.display()
        );
    }
    port_is_free(options.listen)?;
    if !options.no_node {
        machine(agent)?;
        check_own_engine()?;
        ranges_are_free(options, instance)?;
    }
    Ok(())
}

/// Refuses a new instance whose ranges hold addresses of the machine. An instance that was there before has some itself,
/// and so have CNI plugins.
fn ranges_are_free(options: &Up, instance: &Instance) -> anyhow::Result<()> {
    if options.network.cni_conf_dir.is_some() || instance.file("instance.json").exists() {
        return Ok(());
    }
    let found = Links::open().and_then(|mut links| Ok((links.list()?, links.all_addresses()?)));
    let (links, addresses) = found.context("read the machine's addresses")?;
    let of_others = |(index, net): &(u32, IpNet)| {
        let link = links.iter().find(|link| link.index == *index)?;
        (!link.name.contains(&instance.id)).then(|| (link.name.clone(), net.addr()))
    };
    let addresses: Vec<_> = addresses.iter().filter_map(of_others).collect();
    ranges::check_machine(&instance.pod_cidr, &instance.service_cidr, &addresses)
}

/// Refuses what a node agent alone cannot work with.
pub(crate) fn check_agent(agent: &Configuration) -> anyhow::Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "must run as root: mounts and control groups need it; try `sudo plimsoll kubelet`"
    );
    machine(agent)
}

/// Refuses what an engine and a network of its own cannot work with.
pub(crate) fn check_own_engine() -> anyhow::Result<()> {
    packet_rules()?;
    overlay()
}

fn machine(agent: &Configuration) -> anyhow::Result<()> {
    if agent.fail_swap_on {
        no_swap()?;
    }
    let is_first = !Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    ensure!(
        !(agent.fail_cgroup_v1 && is_first),
        "kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is in maintenance mode"
    );
    ensure!(
        !(agent.single_process_oom_kill == Some(false) && is_first),
        "invalid configuration: singleProcessOOMKill must not be explicitly set to false when using cgroup v1"
    );
    control_groups()
}

fn port_is_free(address: SocketAddr) -> anyhow::Result<()> {
    TcpListener::bind(address)
        .map(drop)
        .with_context(|| format!("cannot listen on {address}: another program may have the port; choose another with --listen ADDR:PORT"))
}

fn no_swap() -> anyhow::Result<()> {
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    match swaps.lines().nth(1).and_then(|line| line.split_whitespace().next()) {
        None => Ok(()),
        Some(device) => {
            bail!(
                "swap is on ({device}): memory limits would not hold; switch it off with `swapoff -a`, or set failSwapOn to false"
            )
        }
    }
}

fn control_groups() -> anyhow::Result<()> {
    let unified = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let old = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    if unified.split_whitespace().count() > 0 {
        for controller in ["cpu", "cpuset", "memory", "pids"] {
            ensure!(
                unified.split_whitespace().any(|one| one == controller),
                "the control group controller {controller} is not available: enable it on the kernel's command line"
            );
        }
        return Ok(());
    }
    for controller in CONTROLLERS {
        let enabled = old.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(controller) && words.next_back() == Some("1")
        });
        ensure!(
            enabled,
            "the control group controller {controller} is not available: enable it on the kernel's command line"
        );
        ensure!(
            Path::new("/sys/fs/cgroup").join(controller).exists(),
            "the control group controller {controller} is not mounted: `mount -t cgroup -o {controller} {controller} /sys/fs/cgroup/{controller}`"
        );
    }
    Ok(())
}

fn packet_rules() -> anyhow::Result<()> {
    let tables = Tables::open().and_then(|mut tables| tables.list(Family::Ipv4));
    tables
        .map(drop)
        .context("packet rules (nftables) cannot be used: load the kernel module with `modprobe nf_tables`")
}

fn overlay() -> anyhow::Result<()> {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    ensure!(
        known.lines().any(|line| line.ends_with("overlay")),
        "the kernel does not know overlayfs: load it with `modprobe overlay`"
    );
    Ok(())
}
