//! Which sandbox holds which addresses and ports, on disk and in memory.
//!
//! Each sandbox has one file, written before its addresses are used and removed
//! after they are not used any more. A crash in between leaves a file too many,
//! never an address that two sandboxes have.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use plimsoll_kernel::pod_network::{Attach, NetworkError, PortMapping};
use plimsoll_netplan::addresses::Pool;
use serde::{Deserialize, Serialize};

/// A connected sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    /// Whose it is: namespace, name and UID.
    pod: String,
    pub(crate) addresses: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ports: Vec<PortMapping>,
}

impl Sandbox {
    /// Namespace and name of the pod.
    pub(crate) fn key(&self) -> (String, String) {
        let name = self.pod.split(' ').next().unwrap_or_default();
        let (namespace, name) = name.split_once('/').unwrap_or_default();
        (namespace.to_owned(), name.to_owned())
    }
}

/// All sandboxes of this node.
#[derive(Debug)]
pub(crate) struct Sandboxes {
    folder: PathBuf,
    sandboxes: HashMap<String, Sandbox>,
    pools: Vec<Pool>,
}

impl Sandboxes {
    /// Reads what was remembered; the ranges too, if they were known.
    pub(crate) fn open(network_folder: &Path) -> Result<Self, NetworkError> {
        let folder = network_folder.to_owned();
        let files = folder.join("sandboxes");
        let failed = |error| NetworkError::io(format!("folder {}", files.display()), error);
        std::fs::create_dir_all(&files).map_err(failed)?;
        let mut sandboxes = HashMap::new();
        for entry in std::fs::read_dir(&files).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            match std::fs::read(&path).map(|bytes| serde_json::from_slice::<Sandbox>(&bytes)) {
                Ok(Ok(sandbox)) if !sandbox.addresses.is_empty() => {
                    sandboxes.insert(sandbox.id.clone(), sandbox);
                }
                // Cut off by a crash of the machine, which no sandbox survived.
                unreadable => {
                    tracing::warn!(file = %path.display(), ?unreadable, "removing an unreadable address record");
                    std::fs::remove_file(&path).map_err(failed)?;
                }
            }
        }
        let mut opened = Self { folder, sandboxes, pools: Vec::new() };
        if let Some(ranges) = opened.remembered_ranges() {
            opened.set_ranges(&ranges)?;
        }
        Ok(opened)
    }

    /// The ranges that addresses are taken from.
    pub(crate) fn ranges(&self) -> Vec<IpNet> {
        self.pools.iter().map(Pool::range).collect()
    }

    /// The node's address in each range.
    pub(crate) fn gateways(&self) -> Vec<IpAddr> {
        self.pools.iter().map(Pool::gateway).collect()
    }

    /// All sandboxes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Sandbox> + Clone {
        self.sandboxes.values()
    }

    /// Takes addresses from these ranges from now on. Refused when a sandbox holds one outside of them.
    pub(crate) fn set_ranges(&mut self, ranges: &[IpNet]) -> Result<(), NetworkError> {
        let mut pools = Vec::new();
        for range in ranges {
            let refused = |reason: String| NetworkError::Range { range: *range, reason };
            if pools.iter().any(|pool: &Pool| pool.range().addr().is_ipv4() == range.addr().is_ipv4()) {
                return Err(refused("there is another range of its family".to_owned()));
            }
            let newest = self.newest(range);
            let mut pool = Pool::new(*range, newest).map_err(|error| refused(error.to_string()))?;
            for sandbox in self.sandboxes.values() {
                for address in &sandbox.addresses {
                    if address.is_ipv4() == range.addr().is_ipv4() && !pool.hold(*address) {
                        return Err(refused(format!("sandbox {} holds {address} outside of it", sandbox.id)));
                    }
                }
            }
            pools.push(pool);
        }
        if ranges != self.ranges() {
            let text = ranges.iter().map(IpNet::to_string).collect::<Vec<_>>().join("\n");
            self.write("ranges", text.as_bytes())?;
        }
        self.pools = pools;
        Ok(())
    }

    /// The sandbox, with its addresses of before or with new ones; and whether it is new.
    pub(crate) fn reserve(&mut self, request: &Attach) -> Result<(Sandbox, bool), NetworkError> {
        if let Some(known) = self.sandboxes.get(&request.sandbox_id) {
            return Ok((known.clone(), false));
        }
        if self.pools.is_empty() {
            return Err(NetworkError::NoRange);
        }
        self.check_ports(&request.port_mappings)?;
        let addresses = self.take_addresses()?;
        let sandbox = Sandbox {
            id: request.sandbox_id.clone(),
            pod: format!("{}/{} {}", request.namespace, request.name, request.uid),
            addresses,
            ports: request.port_mappings.clone(),
        };
        if let Err(error) = self.remember(&sandbox) {
            self.give_back(&sandbox.addresses);
            return Err(error);
        }
        self.sandboxes.insert(sandbox.id.clone(), sandbox.clone());
        Ok((sandbox, true))
    }

    /// The sandbox of this id.
    pub(crate) fn get(&self, id: &str) -> Option<&Sandbox> {
        self.sandboxes.get(id)
    }

    /// Forgets a sandbox; its addresses are free.
    pub(crate) fn release(&mut self, id: &str) -> Result<(), NetworkError> {
        let Some(sandbox) = self.sandboxes.get(id) else { return Ok(()) };
        let path = self.file(id);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(NetworkError::io(format!("file {}", path.display()), error));
            }
            _ => {}
        }
        let addresses = sandbox.addresses.clone();
        self.sandboxes.remove(id);
        self.give_back(&addresses);
        Ok(())
    }

    fn check_ports(&self, wanted: &[PortMapping]) -> Result<(), NetworkError> {
        for port in wanted {
            let collides = |other: &&PortMapping| {
                other.protocol == port.protocol
                    && other.host_port == port.host_port
                    && (other.host_ip.is_none() || port.host_ip.is_none() || other.host_ip == port.host_ip)
            };
            let holder =
                self.sandboxes.values().find(|sandbox| sandbox.ports.iter().find(collides).is_some());
            if let Some(holder) = holder {
                return Err(NetworkError::PortTaken { port: port.host_port, holder: holder.id.clone() });
            }
        }
        Ok(())
    }

    fn take_addresses(&mut self) -> Result<Vec<IpAddr>, NetworkError> {
        let mut taken = Vec::new();
        for index in 0..self.pools.len() {
            match self.pools[index].take() {
                Some(address) => taken.push(address),
                None => {
                    self.give_back(&taken);
                    return Err(NetworkError::Exhausted(self.pools[index].range()));
                }
            }
        }
        Ok(taken)
    }

    fn give_back(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            self.pools.iter_mut().for_each(|pool| pool.release(*address));
        }
    }

    fn remember(&self, sandbox: &Sandbox) -> Result<(), NetworkError> {
        let bytes = serde_json::to_vec(sandbox).expect("addresses and names are JSON");
        let path = self.file(&sandbox.id);
        write_whole(&path, &bytes)?;
        let newest: Vec<_> = sandbox.addresses.iter().map(IpAddr::to_string).collect();
        self.write("newest", newest.join("\n").as_bytes())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), NetworkError> {
        write_whole(&self.folder.join(name), bytes)
    }

    fn newest(&self, range: &IpNet) -> Option<IpAddr> {
        let text = std::fs::read_to_string(self.folder.join("newest")).ok()?;
        text.lines().filter_map(|line| line.parse().ok()).find(|address| range.contains(address))
    }

    fn remembered_ranges(&self) -> Option<Vec<IpNet>> {
        let text = std::fs::read_to_string(self.folder.join("ranges")).ok()?;
        let ranges: Result<Vec<_>, _> = text.lines().map(str::parse).collect();
        ranges.ok().filter(|ranges| !ranges.is_empty())
    }

    fn file(&self, id: &str) -> PathBuf {
        self.folder.join("sandboxes").join(file_name(id))
    }
}

/// The id, with what file systems dislike escaped.
fn file_name(id: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02x}"),
    };
    id.bytes().map(escape).collect()
}

/// A reader sees the old bytes or the new ones, nothing between. They are not forced to disk: what
/// a crash of the machine loses, it loses together with all sandboxes.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), NetworkError> {
    let failed = |error| NetworkError::io(format!("file {}", path.display()), error);
    let scratch = path.with_extension("new");
    // Scratch files of sandboxes would be read as sandboxes: they go one folder up.
    let scratch = match (path.parent().and_then(Path::parent), scratch.file_name()) {
        (Some(above), Some(name)) if path.parent().is_some_and(|parent| parent.ends_with("sandboxes")) => {
            above.join(name)
        }
        _ => scratch,
    };
    std::fs::write(&scratch, bytes).map_err(failed)?;
    std::fs::rename(&scratch, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use plimsoll_kernel::pod_network::Protocol;

    use super::*;

    fn request(id: &str, ports: &[(u16, Option<&str>)]) -> Attach {
        let port = |(port, address): &(u16, Option<&str>)| PortMapping {
            protocol: Protocol::Tcp,
            container_port: 80,
            host_port: *port,
            host_ip: address.map(|address| address.parse().unwrap()),
        };
        Attach {
            sandbox_id: id.to_owned(),
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            uid: "1".to_owned(),
            netns: PathBuf::new(),
            port_mappings: ports.iter().map(port).collect(),
            annotations: HashMap::new(),
        }
    }

    fn address(sandboxes: &mut Sandboxes, id: &str) -> String {
        sandboxes.reserve(&request(id, &[])).unwrap().0.addresses[0].to_string()
    }

    #[test]
    fn addresses_survive_restarts_and_are_never_doubled() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Sandboxes::open(folder.path()).unwrap();
        assert!(matches!(first.reserve(&request("a", &[])), Err(NetworkError::NoRange)));
        first.set_ranges(&["10.42.0.0/29".parse().unwrap()]).unwrap();
        assert_eq!([address(&mut first, "a"), address(&mut first, "b/../c")], ["10.42.0.2", "10.42.0.3"]);
        assert_eq!(address(&mut first, "a"), "10.42.0.2", "again");
        first.release("a").unwrap();
        first.release("a").unwrap();
        drop(first);
        std::fs::write(folder.path().join("sandboxes/torn"), b"{\"id\":").unwrap();

        let mut second = Sandboxes::open(folder.path()).unwrap();
        assert_eq!(second.ranges(), ["10.42.0.0/29".parse().unwrap()]);
        let rest: Vec<_> = (0..4).map(|n| address(&mut second, &n.to_string())).collect();
        assert_eq!(rest, ["10.42.0.4", "10.42.0.5", "10.42.0.6", "10.42.0.2"]);
        assert!(matches!(second.reserve(&request("x", &[])), Err(NetworkError::Exhausted(_))));
        second.release("b/../c").unwrap();
        assert_eq!(address(&mut second, "x"), "10.42.0.3");
        assert!(second.set_ranges(&["10.42.9.0/29".parse().unwrap()]).is_err(), "in use");
        assert_eq!(std::fs::read_dir(folder.path().join("sandboxes")).unwrap().count(), 5);
    }

    #[test]
    fn host_ports_are_held_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut sandboxes = Sandboxes::open(folder.path()).unwrap();
        sandboxes.set_ranges(&["10.42.0.0/24".parse().unwrap()]).unwrap();
        sandboxes.reserve(&request("a", &[(80, None), (81, Some("127.0.0.1"))])).unwrap();
        for (port, host, free) in [
            (80, None, false),
            (80, Some("127.0.0.1"), false),
            (81, Some("127.0.0.1"), false),
            (81, None, false),
            (81, Some("127.0.0.2"), true),
            (82, None, true),
        ] {
            let id = format!("{port}{host:?}");
            let reserved = sandboxes.reserve(&request(&id, &[(port, host)]));
            assert_eq!(reserved.is_ok(), free, "{port} {host:?}");
            sandboxes.release(&id).unwrap();
        }
        sandboxes.release("a").unwrap();
        assert!(sandboxes.reserve(&request("b", &[(80, None)])).is_ok());
    }
}
