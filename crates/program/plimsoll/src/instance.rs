//! One instance: its directory, and what it may use of the machine.
//!
//! Names of bridges, tables and control groups are derived from the directory, so that instances
//! side by side never meet. What was chosen at the first start is kept in `instance.json`.

use std::fs::{self, File, TryLockError};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::cli::Up;
use crate::ranges::{self, Ranges};

/// The directory that an unnamed instance has.
pub(crate) const USUAL: &str = "/var/lib/plimsoll";

/// What an instance chose once.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Instance {
    #[serde(skip)]
    pub(crate) directory: PathBuf,
    /// Six hexadecimal digits that names on the machine carry.
    pub(crate) id: String,
    pub(crate) pod_cidr: Ranges,
    pub(crate) service_cidr: Ranges,
    pub(crate) cgroup_root: String,
}

impl Instance {
    /// The instance of an existing directory; `None` if none was ever started there.
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Option<Self>> {
        let Ok(directory) = directory.canonicalize() else { return Ok(None) };
        let file = directory.join("instance.json");
        let text = match fs::read_to_string(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", file.display())),
        };
        let found: Self =
            serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))?;
        Ok(Some(Self { directory, ..found }))
    }

    /// The instance that `up` shall start: the one that is there, or a new choice. What it chose is claimed
    /// as long as the claim lives.
    pub(crate) fn choose(options: &Up) -> anyhow::Result<(Self, Claim)> {
        let directory = &options.instance.data_dir;
        if let Some(found) = Self::open(directory)? {
            found.agrees(options)?;
            let claim = Claim::of(found.pod_cidr.first()).unwrap_or_default();
            return Ok((found, claim));
        }
        let directory = std::path::absolute(directory).context("name the data directory")?;
        let id = plimsoll_network::instance_name(&directory);
        let usual = directory == Path::new(USUAL);
        let (pods, services, claim) = free_ranges(&id, usual);
        let chosen = Self {
            pod_cidr: options.pod_cidr.clone().unwrap_or_else(|| pods.into()),
            service_cidr: options.service_cidr.clone().unwrap_or_else(|| services.into()),
            cgroup_root: options
                .cgroup_root
                .clone()
                .unwrap_or_else(|| if usual { "/".to_owned() } else { format!("/plimsoll-{id}") }),
            directory,
            id,
        };
        chosen.check()?;
        Ok((chosen, claim))
    }

    /// The part of another machine's instance that a node agent of this machine keeps in a folder of its own.
    pub(crate) fn of_agent(
        directory: &Path,
        pod_cidr: Ranges,
        service_cidr: Ranges,
        cgroup_root: &str,
    ) -> anyhow::Result<Self> {
        let own = Self {
            id: plimsoll_network::instance_name(directory),
            directory: directory.to_owned(),
            pod_cidr,
            service_cidr,
            cgroup_root: cgroup_root.to_owned(),
        };
        own.check()?;
        Ok(own)
    }

    /// What was chosen once cannot change under running pods.
    fn agrees(&self, options: &Up) -> anyhow::Result<()> {
        let differs = |flag: &str, now: String, wanted: Option<String>| match wanted {
            Some(wanted) if wanted != now => {
                bail!(
                    "{flag} {wanted}: this instance was started with {now}; use another --data-dir, or `plimsoll down` first"
                )
            }
            _ => Ok(()),
        };
        differs("--pod-cidr", self.pod_cidr.to_string(), options.pod_cidr.as_ref().map(ToString::to_string))?;
        differs(
            "--service-cidr",
            self.service_cidr.to_string(),
            options.service_cidr.as_ref().map(ToString::to_string),
        )?;
        differs("--cgroup-root", self.cgroup_root.clone(), options.cgroup_root.clone())
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.cgroup_root.starts_with('/') && !self.cgroup_root.contains(".."),
            "--cgroup-root {}: not an absolute path",
            self.cgroup_root
        );
        ranges::check(&self.pod_cidr, &self.service_cidr)
    }

    /// Remembers the choice.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self).context("write instance.json")?;
        plimsoll_pki::write_private(&self.file("instance.json"), text.as_bytes())
            .context("remember the instance")
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Address of the cluster's resolver that pods are told: the tenth of the Services'.
    pub(crate) fn cluster_dns(&self) -> IpAddr {
        nth(self.service_cidr.first(), RESOLVER)
    }

    /// That of each family.
    pub(crate) fn resolvers(&self) -> Vec<IpAddr> {
        self.service_cidr.each_nth(RESOLVER)
    }

    /// First Service address of each family: the first of them is the API server's.
    pub(crate) fn first_services(&self) -> Vec<IpAddr> {
        self.service_cidr.each_nth(1)
    }

    /// The address of this machine in the pod network: the first of the first node's range.
    pub(crate) fn gateway(&self) -> IpAddr {
        nth(self.pod_cidr.first(), 1)
    }

    /// That of each family.
    pub(crate) fn gateways(&self) -> Vec<IpAddr> {
        self.pod_cidr.each_nth(1)
    }

    /// Process id of the running program, if it runs.
    pub(crate) fn running(&self) -> Option<i32> {
        let text = fs::read_to_string(self.file("plimsoll.pid")).ok()?;
        let pid: i32 = text.trim().parse().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let file =
            |of: &str| fs::metadata(format!("/proc/{of}/exe")).ok().map(|file| (file.dev(), file.ino()));
        let same = file("self").is_some_and(|own| file(&pid.to_string()) == Some(own));
        is_instance(&line, same).then_some(pid)
    }
}

/// Whether a process with this command line runs an instance; `same` if its program is this one. It may be a copy of
/// any name, or an older version.
fn is_instance(line: &[u8], same: bool) -> bool {
    let mut words = line.split(|byte| *byte == 0);
    let named = words.next().is_some_and(|program| program.ends_with(b"plimsoll"));
    (named || same) && matches!(words.next(), Some(b"up" | b"kubelet"))
}

/// An address of a range, counted from its first.
pub(crate) fn nth(range: IpNet, offset: u32) -> IpAddr {
    match range {
        IpNet::V4(range) => {
            IpAddr::from(std::net::Ipv4Addr::from(u32::from(range.network()).saturating_add(offset)))
        }
        IpNet::V6(range) => IpAddr::from(std::net::Ipv6Addr::from(
            u128::from(range.network()).saturating_add(u128::from(offset)),
        )),
    }
}

/// Holds ranges of addresses, so that instances that start at the same time choose different ones.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    _lock: Option<File>,
}

/// The place of the resolver's address in a range of Services.
const RESOLVER: u32 = 10;

/// A locked file for each range that a running instance has.
const CLAIMS: &str = "/run/plimsoll/ranges";

impl Claim {
    /// Claims a range; none when another running instance has it. Where nothing can be claimed, all is free.
    fn of(range: IpNet) -> Option<Self> {
        Self::within(Path::new(CLAIMS), range)
    }

    fn within(claims: &Path, range: IpNet) -> Option<Self> {
        let file = claims.join(range.network().to_string());
        let open = || {
            fs::create_dir_all(claims)?;
            File::options().create(true).truncate(false).write(true).open(&file)
        };
        let Ok(lock) = open() else { return Some(Self::default()) };
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => None,
            Ok(()) | Err(TryLockError::Error(_)) => Some(Self { _lock: Some(lock) }),
        }
    }
}

/// Pod and Service ranges that nobody on this machine has; those of the id when all are taken.
fn free_ranges(id: &str, usual: bool) -> (IpNet, IpNet, Claim) {
    let free = candidates(id, usual).find_map(|(pods, services)| {
        let claim = Claim::of(pods).filter(|_| !is_local(nth(services, 10)))?;
        Some((pods, services, claim))
    });
    free.unwrap_or_else(|| {
        let (pods, services) = candidates(id, usual).next().expect("there are candidates");
        (pods, services, Claim::default())
    })
}

/// Whether this machine has an address. Pods of an instance that does not run keep theirs.
fn is_local(address: IpAddr) -> bool {
    std::net::UdpSocket::bind((address, 0)).is_ok()
}

/// Pairs of ranges: 10.42 and 10.43 for the usual instance, else those from a number derived from the id on.
fn candidates(id: &str, usual: bool) -> impl Iterator<Item = (IpNet, IpNet)> {
    let number = u32::from_str_radix(id, 16).unwrap_or(0);
    let count = if usual { 1 } else { 64 };
    let range = |second: u32| {
        let octet = u8::try_from(second).expect("below 192");
        IpNet::V4(Ipv4Net::new(std::net::Ipv4Addr::new(10, octet, 0, 0), 16).expect("16 is a prefix length"))
    };
    (0..count).map(move |step| {
        let second = if usual { 42 } else { 64 + ((number.wrapping_add(step)) % 64) * 2 };
        (range(second), range(second + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_run_an_instance() {
        let table: [(&[u8], bool, bool); 6] = [
            (b"plimsoll\0up\0--data-dir\0/x\0", false, true),
            (b"/usr/bin/plimsoll\0kubelet\0", false, true),
            (b"./plimsoll-1.37\0up\0", true, true),
            (b"./plimsoll-1.37\0up\0", false, false),
            (b"plimsoll\0down\0", true, false),
            (b"", false, false),
        ];
        for (line, same, expected) in table {
            assert_eq!(is_instance(line, same), expected, "{:?} {same}", String::from_utf8_lossy(line));
        }
    }

    fn first(id: &str, usual: bool) -> (IpNet, IpNet) {
        candidates(id, usual).next().expect("a pair")
    }

    #[test]
    fn ranges_of_instances_differ() {
        let (pods, services) = first("000000", true);
        assert_eq!(
            (pods.to_string(), services.to_string()),
            ("10.42.0.0/16".to_owned(), "10.43.0.0/16".to_owned())
        );
        let others = ["000000", "000001", "ffffff"].map(|id| first(id, false));
        assert!(others.iter().all(|other| *other != (pods, services) && other.0 != other.1));
        assert_ne!(others[0], others[1]);
    }

    #[test]
    fn each_pair_has_its_turn_once() {
        let all: std::collections::BTreeSet<_> =
            candidates("ffffff", false).map(|(pods, _)| pods.network()).collect();
        assert_eq!(all.len(), 64);
    }

    #[test]
    fn a_range_is_claimed_once() {
        let folder = tempfile::tempdir().expect("folder");
        let claims = folder.path().join("ranges");
        let range: IpNet = "10.64.0.0/16".parse().expect("range");
        let claim = Claim::within(&claims, range).expect("free");
        assert!(Claim::within(&claims, range).is_none());
        assert!(Claim::within(&claims, "10.66.0.0/16".parse().expect("range")).is_some());
        drop(claim);
        assert!(Claim::within(&claims, range).is_some());
        // No folder can be made below a file.
        let nowhere = claims.join("10.64.0.0").join("ranges");
        let (one, other) = (Claim::within(&nowhere, range), Claim::within(&nowhere, range));
        assert!(one.is_some() && other.is_some(), "where nothing can be claimed, all is free");
    }

    #[test]
    fn well_known_addresses_are_counted_from_the_beginning() {
        let range: IpNet = "10.43.0.0/16".parse().expect("range");
        assert_eq!(nth(range, 10).to_string(), "10.43.0.10");
    }
}
