//! The sets of the table, and how to get at it.

use std::fs::File;
use std::io;
use std::time::Duration;

use plimsoll_kernel::nft::{Batch, Family, SetKind, Tables, Value};
use plimsoll_netplan::services::rules::{Balancer, Elements};

use crate::config::{Config, Names};
use crate::elements::Element;
use crate::{encode, policies, program};

/// `nft`'s numbers of types, concatenated six bits at a time.
const IPV4_ADDRESS: u32 = 7;
const IPV6_ADDRESS: u32 = 8;
const PROTOCOL: u32 = 12;
const PORT: u32 = 13;
pub(crate) const NUMBER: u32 = 19;

/// How often parts look whether their rules are still there.
pub(crate) const LOOK: Duration = Duration::from_secs(30);

/// A set of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    /// Frontend → how to choose.
    Frontends,
    /// The same for outsiders, where they are treated differently.
    OutsideFrontends,
    /// Frontend and number → target.
    Endpoints,
    /// Frontend and number → the target's identity, where clients return.
    Identities,
    /// Client and frontend → the identity of the target it had last.
    Affinity,
    /// Frontends whose targets see this node as the client.
    Masquerade,
    /// Frontends that only those may use who are admitted.
    Guarded,
    /// Frontend and ranges of clients that may use it.
    Admitted,
    /// Frontends that refuse.
    Rejected,
    /// Frontends that swallow.
    Dropped,
    /// Frontends that swallow what outsiders send.
    OutsideDropped,
    /// How to choose → the chain that does.
    Balancers,
    /// Frontend → target, of pods' hostPorts.
    HostPorts,
    /// Pairs of a pod's address with itself.
    OwnPods,
    /// Who wrote to the table. When somebody removed it and another part made it again, this tells.
    Writers,
}

/// Parts of this crate whose elements outlive a change of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    Services = 1,
    Policies = 2,
}

impl Set {
    pub(crate) const ALL: [Self; 15] = [
        Self::Frontends,
        Self::OutsideFrontends,
        Self::Endpoints,
        Self::Identities,
        Self::Affinity,
        Self::Masquerade,
        Self::Guarded,
        Self::Admitted,
        Self::Rejected,
        Self::Dropped,
        Self::OutsideDropped,
        Self::Balancers,
        Self::HostPorts,
        Self::OwnPods,
        Self::Writers,
    ];

    /// The name in the kernel.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Frontends => "frontends",
            Self::OutsideFrontends => "frontends-outside",
            Self::Endpoints => "endpoints",
            Self::Identities => "identities",
            Self::Affinity => "affinity",
            Self::Masquerade => "masquerade",
            Self::Guarded => "guarded",
            Self::Admitted => "admitted",
            Self::Rejected => "rejected",
            Self::Dropped => "dropped",
            Self::OutsideDropped => "dropped-outside",
            Self::Balancers => "balancers",
            Self::HostPorts => "host-ports",
            Self::OwnPods => "own-pods",
            Self::Writers => "writers",
        }
    }

    fn kind(self, family: Family) -> SetKind {
        let address = address_type(family);
        let frontend = [address, PROTOCOL, PORT];
        let target = data(&[address, PORT]);
        let number = data(&[NUMBER]);
        let set = |types: &[u32], value| SetKind {
            key_type: concatenated(types),
            key_length: length(types),
            value,
            dynamic: false,
        };
        match self {
            Self::Frontends | Self::OutsideFrontends => set(&frontend, number),
            Self::Endpoints => set(&[address, PROTOCOL, PORT, NUMBER], target),
            Self::Identities => set(&[address, PROTOCOL, PORT, NUMBER], number),
            Self::Affinity => SetKind { dynamic: true, ..set(&[address, address, PROTOCOL, PORT], number) },
            Self::Masquerade | Self::Guarded | Self::Rejected | Self::Dropped | Self::OutsideDropped => {
                set(&frontend, Value::None)
            }
            Self::Admitted => set(&[address, PROTOCOL, PORT, address], Value::None),
            Self::Balancers => set(&[NUMBER], Value::Verdict),
            Self::HostPorts => set(&frontend, target),
            Self::OwnPods => set(&[address, address], Value::None),
            Self::Writers => set(&[NUMBER], Value::None),
        }
    }
}

/// The bytes of the fields of [`Set::Admitted`].
fn admitted_fields(family: Family) -> [u32; 4] {
    let address = length(&[address_type(family)]);
    [address, 4, 4, address]
}

fn data(types: &[u32]) -> Value {
    Value::Data { kind: concatenated(types), length: length(types) }
}

/// The number of the type of addresses.
pub(crate) fn address_type(family: Family) -> u32 {
    if family == Family::Ipv4 { IPV4_ADDRESS } else { IPV6_ADDRESS }
}

/// The number of the type of several fields.
pub(crate) fn concatenated(types: &[u32]) -> u32 {
    types.iter().fold(0, |all, kind| all << 6 | kind)
}

/// The bytes of several fields.
pub(crate) fn length(types: &[u32]) -> u32 {
    types.iter().map(|kind| if *kind == IPV6_ADDRESS { 16 } else { 4 }).sum()
}

/// The instance's table of one family.
#[derive(Debug)]
pub(crate) struct Table {
    tables: Tables,
    family: Family,
    name: String,
}

impl Table {
    /// Makes the table, or brings the chains of the one that is there up to date without losing an
    /// element or a packet.
    pub(crate) fn open(config: &Config, names: &Names, family: Family) -> io::Result<Self> {
        let _turn = turn(config)?;
        let mut table = Self { tables: Tables::open()?, family, name: names.table() };
        let mut batch = table.batch();
        batch.create_table();
        for set in Set::ALL {
            match set {
                Set::Admitted => {
                    batch.create_ranges(set.name(), set.kind(family), &admitted_fields(family));
                }
                _ => batch.create_set(set.name(), set.kind(family)),
            }
        }
        policies::rules::create_sets(&mut batch, family);
        program::write(&mut batch, &program::Ranges::new(config, names, family));
        table.commit(batch)?;
        Ok(table)
    }

    /// The family.
    pub(crate) fn family(&self) -> Family {
        self.family
    }

    /// An empty list of changes to this table.
    pub(crate) fn batch(&self) -> Batch {
        Batch::new(self.family, &self.name)
    }

    /// Makes the changes; none is fine too.
    pub(crate) fn commit(&mut self, batch: Batch) -> io::Result<()> {
        if batch.is_empty() { Ok(()) } else { self.tables.commit(&batch.finish()) }
    }

    /// Signs the table as one that this part wrote to.
    pub(crate) fn sign(batch: &mut Batch, writer: Writer) {
        batch.add_elements(Set::Writers.name(), [((writer as u32).to_ne_bytes().as_slice(), None)]);
    }

    /// Has the batch refused when the table is not one that this part signed.
    pub(crate) fn confirm(batch: &mut Batch, writer: Writer) {
        batch.delete_elements(Set::Writers.name(), [(writer as u32).to_ne_bytes().as_slice()]);
        Self::sign(batch, writer);
    }

    /// Fails when somebody removed what this part wrote.
    pub(crate) fn look(&mut self, writer: Writer) -> io::Result<()> {
        let mut batch = self.batch();
        Self::confirm(&mut batch, writer);
        self.commit(batch)
    }

    /// All elements that Services have in the kernel.
    pub(crate) fn elements(&mut self) -> io::Result<Elements> {
        let mut elements = Elements::new();
        for set in Set::ALL {
            if matches!(set, Set::Affinity | Set::Balancers | Set::HostPorts | Set::OwnPods | Set::Writers) {
                continue;
            }
            for (key, value) in self.tables.elements(self.family, &self.name, set.name())? {
                elements.extend(encode::decode(self.family, set, &key, &value));
            }
        }
        Ok(elements)
    }

    /// The chains that choose, and that something can lead to.
    pub(crate) fn balancers(&mut self) -> io::Result<Vec<Balancer>> {
        let found = self.tables.elements(self.family, &self.name, Set::Balancers.name())?;
        Ok(found.keys().filter_map(|key| Some(encode::balancer_of(*key.first_chunk()?))).collect())
    }

    /// The names of the chains.
    pub(crate) fn chains(&mut self) -> io::Result<Vec<String>> {
        self.tables.chains(self.family, &self.name)
    }

    /// The elements of a set of pods: keys and, in maps, their values.
    pub(crate) fn held(&mut self, set: Set) -> io::Result<Vec<Element>> {
        let valued = matches!(set.kind(self.family).value, Value::Data { .. });
        let held = self.tables.elements(self.family, &self.name, set.name())?;
        Ok(held.into_iter().map(|(key, value)| (key, valued.then_some(value))).collect())
    }

    /// Adds what makes a chain that chooses.
    pub(crate) fn add_balancer(&self, batch: &mut Batch, balancer: &Balancer) {
        program::write_balancer(batch, self.family, balancer);
    }
}

/// Waits until no other part of this instance works on the skeleton of the table.
fn turn(config: &Config) -> io::Result<nix::fcntl::Flock<File>> {
    std::fs::create_dir_all(config.folder())?;
    let file = File::create(config.folder().join("lock"))?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, error)| error.into())
}
