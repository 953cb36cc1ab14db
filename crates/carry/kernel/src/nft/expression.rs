//! The parts of a rule: loads into registers, comparisons, look-ups, actions.
//!
//! A rule is a list of them, read from front to back; the first comparison or
//! look-up that fails ends it. Registers are 16 words of four bytes that live
//! for one rule; longer values take several words in a row.

use std::net::IpAddr;

use super::Family;
use super::batch::Verdict;
use super::message::Writer;

const MARK: u32 = 3;

/// One of the 16 words of a rule's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(pub u8);

impl Register {
    /// The word `words` further on.
    pub fn plus(self, words: u8) -> Self {
        Self(self.0 + words)
    }

    fn number(self) -> u32 {
        debug_assert!(self.0 < 16, "a rule has 16 words");
        8 + u32::from(self.0)
    }
}

/// Where a load from the packet counts its offset from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadBase {
    /// The IP header.
    Network,
    /// The TCP, UDP or SCTP header.
    Transport,
}

/// Facts about a packet that are not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    /// Name of the interface it came by, 16 bytes.
    InputInterface,
    /// Name of the interface it leaves by, 16 bytes.
    OutputInterface,
    /// Number of the transport protocol, one byte.
    TransportProtocol,
    /// The mark that rules gave it, four bytes.
    Mark,
}

/// Facts about a packet's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conntrack {
    /// A bit set: [`Conntrack::INVALID`] and others.
    State,
    /// A bit set: [`Conntrack::DESTINATION_CHANGED`] and others.
    Status,
    /// 0 for packets of who began the connection, 1 for those of who answers; one byte.
    Direction,
    /// The destination address the connection began with.
    OriginalDestination,
    /// The destination port the connection began with.
    OriginalDestinationPort,
}

impl Conntrack {
    /// State: belongs to no connection that could be.
    pub const INVALID: u32 = 1;
    /// State: answered before.
    pub const ESTABLISHED: u32 = 2;
    /// State: caused by another connection.
    pub const RELATED: u32 = 4;
    /// State: begins a connection.
    pub const NEW: u32 = 8;
    /// Status: sent to another destination than it began with.
    pub const DESTINATION_CHANGED: u32 = 0x20;
}

/// The address of a packet that is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// Who sent it.
    Source,
    /// Who shall get it.
    Destination,
}

/// How a comparison holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// Both sides are the same.
    Equal,
    /// They differ.
    Different,
    /// The register's bytes, read as one big-endian number, are at least these.
    AtLeast,
    /// They are at most these.
    AtMost,
}

/// Which of a packet's addresses is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// Where it goes.
    Destination,
    /// Where it came from.
    Source,
}

/// How a refused packet is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// With a TCP reset; the packet must be TCP.
    Reset,
    /// With an ICMP "port unreachable".
    PortUnreachable,
}

/// What happens to an element of a set by a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It is added, or lives on.
    Remember,
    /// It is removed.
    Forget,
}

/// One part of a rule.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression<'a> {
    /// Loads bytes of the packet.
    Payload {
        /// What the offset counts from.
        base: PayloadBase,
        /// First byte.
        offset: u32,
        /// How many bytes.
        length: u32,
        /// Where they go.
        to: Register,
    },
    /// Loads a fact about the packet.
    Meta(Meta, Register),
    /// Marks the packet, four bytes.
    SetMark(Register),
    /// Loads a fact about the packet's connection.
    Conntrack(Conntrack, Register),
    /// Loads the type of route that leads to an address, four bytes; 2 is an address of this host.
    AddressType(Address, Register),
    /// Loads the number of the interface that answers to the packet's sender would leave by, if that is
    /// the one it came by, and 0 otherwise; four bytes.
    ReversePath(Register),
    /// Loads constant bytes.
    Immediate(Register, Vec<u8>),
    /// Holds when the register's bytes compare so.
    Compare(Register, Comparison, Vec<u8>),
    /// Keeps the masked bits of the register.
    Mask(Register, Vec<u8>),
    /// Holds when the set has (or, inverted, has not) the key that begins at `key`.
    Contains {
        /// Name of the set.
        set: &'a str,
        /// First word of the key.
        key: Register,
        /// Whether absence is what holds.
        inverted: bool,
    },
    /// Loads the value of a map's key; holds when there is one.
    Lookup {
        /// Name of the map.
        map: &'a str,
        /// First word of the key.
        key: Register,
        /// First word of the value.
        to: Register,
    },
    /// Obeys the verdict of a verdict map's key; holds when there is one.
    LookupVerdict {
        /// Name of the map.
        map: &'a str,
        /// First word of the key.
        key: Register,
    },
    /// Loads a random number from `first` up to, without, `first + count`.
    Random {
        /// How many numbers there are.
        count: u32,
        /// The least of them.
        first: u32,
        /// Where it goes.
        to: Register,
    },
    /// Adds or removes an element of a dynamic set or map.
    Update {
        /// Name of the set.
        set: &'a str,
        /// What happens.
        direction: Direction,
        /// First word of the key.
        key: Register,
        /// First word of the value.
        value: Register,
        /// How long the element lives, in seconds.
        seconds: u32,
    },
    /// Rewrites the packet's address and port, and those of its connection.
    Nat {
        /// Which of both.
        kind: Nat,
        /// First word of the address.
        address: Register,
        /// The word of the port, if it changes.
        port: Option<Register>,
    },
    /// Rewrites the source to the address of the interface the packet leaves by.
    Masquerade,
    /// Refuses the packet with an answer.
    Reject(Rejection),
    /// Ends the rule with a verdict.
    Verdict(Verdict),
}

impl Expression<'_> {
    pub(super) fn write(&self, family: Family, writer: &mut Writer) {
        writer.text(1, self.name());
        writer.nested(2, |writer| self.write_data(family, writer));
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Payload { .. } => "payload",
            Self::Meta(..) | Self::SetMark(_) => "meta",
            Self::Conntrack(..) => "ct",
            Self::AddressType(..) | Self::ReversePath(_) => "fib",
            Self::Immediate(..) | Self::Verdict(_) => "immediate",
            Self::Compare(..) => "cmp",
            Self::Mask(..) => "bitwise",
            Self::Contains { .. } | Self::Lookup { .. } | Self::LookupVerdict { .. } => "lookup",
            Self::Random { .. } => "numgen",
            Self::Update { .. } => "dynset",
            Self::Nat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Reject(_) => "reject",
        }
    }

    fn write_data(&self, family: Family, writer: &mut Writer) {
        match self {
            Self::Payload { base, offset, length, to } => {
                writer.number(1, to.number());
                writer.number(2, if *base == PayloadBase::Network { 1 } else { 2 });
                writer.number(3, *offset);
                writer.number(4, *length);
            }
            Self::Meta(fact, to) => {
                let key = match fact {
                    Meta::InputInterface => 6,
                    Meta::OutputInterface => 7,
                    Meta::TransportProtocol => 16,
                    Meta::Mark => MARK,
                };
                writer.number(1, to.number());
                writer.number(2, key);
            }
            Self::SetMark(from) => {
                writer.number(2, MARK);
                writer.number(3, from.number());
            }
            Self::Conntrack(fact, to) => write_conntrack(writer, family, *fact, *to),
            Self::AddressType(address, to) => {
                writer.number(1, to.number());
                writer.number(2, 3);
                writer.number(3, if *address == Address::Source { 1 } else { 2 });
            }
            Self::ReversePath(to) => {
                writer.number(1, to.number());
                writer.number(2, 1);
                writer.number(3, 1 | 8);
            }
            Self::Immediate(to, bytes) => {
                writer.number(1, to.number());
                writer.nested(2, |writer| writer.raw(1, bytes));
            }
            Self::Compare(from, comparison, bytes) => {
                writer.number(1, from.number());
                writer.number(
                    2,
                    match comparison {
                        Comparison::Equal => 0,
                        Comparison::Different => 1,
                        Comparison::AtMost => 3,
                        Comparison::AtLeast => 5,
                    },
                );
                writer.nested(3, |writer| writer.raw(1, bytes));
            }
            Self::Mask(register, mask) => {
                writer.number(1, register.number());
                writer.number(2, register.number());
                writer.number(3, u32::try_from(mask.len()).expect("a mask is at most 64 bytes"));
                writer.nested(4, |writer| writer.raw(1, mask));
                writer.nested(5, |writer| writer.raw(1, &vec![0; mask.len()]));
            }
            Self::Contains { set, key, inverted } => {
                writer.text(1, set);
                writer.number(2, key.number());
                writer.number(5, u32::from(*inverted));
            }
            Self::Lookup { map, key, to } => {
                writer.text(1, map);
                writer.number(2, key.number());
                writer.number(3, to.number());
            }
            Self::LookupVerdict { map, key } => {
                writer.text(1, map);
                writer.number(2, key.number());
                writer.number(3, 0);
            }
            Self::Random { count, first, to } => {
                writer.number(1, to.number());
                writer.number(2, *count);
                writer.number(3, 1);
                writer.number(4, *first);
            }
            Self::Update { set, direction, key, value, seconds } => {
                writer.text(1, set);
                writer.number(3, if *direction == Direction::Remember { 1 } else { 2 });
                writer.number(4, key.number());
                writer.number(5, value.number());
                writer.long(6, u64::from(*seconds) * 1000);
            }
            Self::Nat { kind, address, port } => {
                writer.number(1, if *kind == Nat::Source { 0 } else { 1 });
                writer.number(2, u32::from(family.number()));
                writer.number(3, address.number());
                if let Some(port) = port {
                    writer.number(5, port.number());
                }
            }
            // Ports are drawn at random, so that two nodes' choices rarely collide.
            Self::Masquerade => writer.number(1, 0x10),
            Self::Reject(rejection) => write_rejection(writer, family, *rejection),
            Self::Verdict(verdict) => {
                writer.number(1, 0);
                writer.nested(2, |writer| write_verdict(writer, verdict));
            }
        }
    }
}

pub(super) fn write_verdict(writer: &mut Writer, verdict: &Verdict) {
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3i32, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
    };
    writer.nested(2, |writer| {
        writer.raw(1, &code.to_be_bytes());
        if let Some(chain) = chain {
            writer.text(2, chain);
        }
    });
}

fn write_conntrack(writer: &mut Writer, family: Family, fact: Conntrack, to: Register) {
    let (key, original) = match (fact, family) {
        (Conntrack::State, _) => (0, false),
        (Conntrack::Direction, _) => (1, false),
        (Conntrack::Status, _) => (2, false),
        (Conntrack::OriginalDestination, Family::Ipv4) => (20, true),
        (Conntrack::OriginalDestination, Family::Ipv6) => (22, true),
        (Conntrack::OriginalDestinationPort, _) => (12, true),
    };
    writer.number(1, to.number());
    writer.number(2, key);
    if original {
        writer.raw(3, &[0]);
    }
}

fn write_rejection(writer: &mut Writer, family: Family, rejection: Rejection) {
    match rejection {
        Rejection::Reset => writer.number(1, 1),
        Rejection::PortUnreachable => {
            writer.number(1, 0);
            writer.raw(2, &[if family == Family::Ipv4 { 3 } else { 4 }]);
        }
    }
}

impl Expression<'_> {
    /// The packet's source or destination address.
    pub fn address(which: Address, family: Family, to: Register) -> Self {
        let (offset, length) = match (family, which) {
            (Family::Ipv4, Address::Source) => (12, 4),
            (Family::Ipv4, Address::Destination) => (16, 4),
            (Family::Ipv6, Address::Source) => (8, 16),
            (Family::Ipv6, Address::Destination) => (24, 16),
        };
        Self::Payload { base: PayloadBase::Network, offset, length, to }
    }

    /// The packet's destination port.
    pub fn destination_port(to: Register) -> Self {
        Self::Payload { base: PayloadBase::Transport, offset: 2, length: 2, to }
    }
}

/// The bytes of an address as registers hold it.
pub(crate) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
