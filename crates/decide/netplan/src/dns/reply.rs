//! Writing DNS replies.

use std::net::IpAddr;

use super::message::{Kind, Query, Rcode};
use super::records::Records;
use super::{Answer, Transport};

const HEADER: usize = 12;
const OPT_LENGTH: usize = 11;

/// The largest datagram we ask clients to send, in bytes: it crosses every network unfragmented.
const OWN_PAYLOAD: u16 = 1232;

/// The section of a reply a record is in.
#[derive(Clone, Copy)]
pub(super) enum Section {
    Answer,
    Authority,
    Additional,
}

/// The name a record is about.
#[derive(Clone, Copy)]
pub(super) enum Owner<'a> {
    /// The name in the question.
    Question,
    /// Another one.
    Name(&'a str),
}

/// A reply while it is written.
pub struct Reply<'a> {
    buffer: &'a mut Vec<u8>,
    limit: usize,
    edns: bool,
    lifetime: u32,
    truncated: bool,
    counts: [u16; 3],
}

impl<'a> Reply<'a> {
    /// A reply to `query`, so far without records, which get this lifetime in seconds.
    pub(super) fn begin(
        query: &Query<'_>,
        transport: Transport,
        lifetime: u32,
        buffer: &'a mut Vec<u8>,
    ) -> Self {
        let longest = match transport {
            Transport::Udp => query.payload_limit(),
            Transport::Tcp => usize::from(u16::MAX),
        };
        buffer.clear();
        buffer.extend_from_slice(&query.id().to_be_bytes());
        buffer.extend_from_slice(&[0x80 | query.repeated_flags(), 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
        buffer.extend_from_slice(query.question());
        let edns = query.has_edns();
        let limit = longest - if edns { OPT_LENGTH } else { 0 };
        Self { buffer, limit, edns, lifetime, truncated: false, counts: [0; 3] }
    }

    /// Ends a reply about our own names.
    pub(super) fn finish(mut self, rcode: Rcode) -> Answer {
        self.buffer[2] |= 0x04;
        self.end(rcode)
    }

    /// Ends a reply about somebody else's names.
    pub(super) fn finish_foreign(mut self, rcode: Rcode) -> Answer {
        self.end(rcode)
    }

    /// Ends a reply that says what there is not; the zone's SOA tells how long that holds.
    pub(super) fn finish_negative(mut self, rcode: Rcode, records: &Records) -> Answer {
        self.start_of_authority(Section::Authority, records);
        self.finish(rcode)
    }

    /// Gives the reply up.
    pub(super) fn discard(self, answer: Answer) -> Answer {
        self.buffer.clear();
        answer
    }

    /// The lifetime of the records that follow, in seconds.
    pub(super) fn live_for(&mut self, seconds: u32) {
        self.lifetime = seconds;
    }

    pub(super) fn address(&mut self, section: Section, owner: Owner<'_>, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.record(section, owner, Kind::A, |buffer| buffer.extend_from_slice(&address.octets()));
            }
            IpAddr::V6(address) => {
                self.record(section, owner, Kind::Aaaa, |buffer| buffer.extend_from_slice(&address.octets()));
            }
        }
    }

    pub(super) fn service(&mut self, weight: u16, port: u16, target: &str) {
        self.record(Section::Answer, Owner::Question, Kind::Srv, |buffer| {
            for number in [0, weight, port] {
                buffer.extend_from_slice(&number.to_be_bytes());
            }
            write_name(buffer, target);
        });
    }

    pub(super) fn name(&mut self, kind: Kind, owner: Owner<'_>, target: &str) {
        self.record(Section::Answer, owner, kind, |buffer| write_name(buffer, target));
    }

    pub(super) fn text(&mut self, text: &str) {
        self.record(Section::Answer, Owner::Question, Kind::Txt, |buffer| {
            buffer.push(u8::try_from(text.len()).unwrap_or(0));
            buffer.extend_from_slice(&text.as_bytes()[..usize::from(u8::try_from(text.len()).unwrap_or(0))]);
        });
    }

    pub(super) fn start_of_authority(&mut self, section: Section, records: &Records) {
        let zone = records.zone();
        self.record(section, Owner::Name(zone), Kind::Soa, |buffer| {
            write_name(buffer, &format!("ns.dns.{zone}"));
            write_name(buffer, &format!("hostmaster.{zone}"));
            for number in [records.serial(), 7200, 1800, 86400, records.lifetime()] {
                buffer.extend_from_slice(&number.to_be_bytes());
            }
        });
    }

    fn record(&mut self, section: Section, owner: Owner<'_>, kind: Kind, data: impl FnOnce(&mut Vec<u8>)) {
        if self.truncated {
            return;
        }
        let start = self.buffer.len();
        match owner {
            Owner::Question => self.buffer.extend_from_slice(&[0xc0, HEADER as u8]),
            Owner::Name(name) => write_name(self.buffer, name),
        }
        self.buffer.extend_from_slice(&kind.number().to_be_bytes());
        self.buffer.extend_from_slice(&[0, 1]);
        self.buffer.extend_from_slice(&self.lifetime.to_be_bytes());
        let length_at = self.buffer.len();
        self.buffer.extend_from_slice(&[0, 0]);
        data(self.buffer);
        let length = u16::try_from(self.buffer.len() - length_at - 2).unwrap_or(u16::MAX);
        self.buffer[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        if self.buffer.len() > self.limit {
            self.buffer.truncate(start);
            // What is only additional may be left out silently.
            self.truncated = !matches!(section, Section::Additional);
        } else {
            self.counts[section as usize] += 1;
        }
    }

    fn end(&mut self, rcode: Rcode) -> Answer {
        let number = rcode.number();
        if self.truncated {
            self.buffer[2] |= 0x02;
        }
        self.buffer[3] |= (number & 0x0f) as u8;
        if self.edns {
            self.counts[2] += 1;
            let payload = OWN_PAYLOAD.to_be_bytes();
            let extended = (number >> 4) as u8;
            self.buffer.extend_from_slice(&[0, 0, 41, payload[0], payload[1], extended, 0, 0, 0, 0, 0]);
        }
        for (section, count) in self.counts.iter().enumerate() {
            self.buffer[6 + 2 * section..8 + 2 * section].copy_from_slice(&count.to_be_bytes());
        }
        Answer::Complete
    }
}

/// Writes a name of our own making or that the API server validated; labels that cannot be are cut.
fn write_name(buffer: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        buffer.push(label.len() as u8);
        buffer.extend_from_slice(label);
    }
    buffer.push(0);
}
