//! Token buckets (`tc qdisc … tbf`): what keeps an interface from sending faster than it may.

use std::io;

use nix::errno::Errno;
use rtnetlink::packet_core::DefaultNla;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};

use super::Links;
use crate::netlink::{CREATE, REPLACE};

const KIND: &str = "tbf";

/// The bucket's attributes.
const PARAMETERS: u16 = 1;
const RATE_64: u16 = 4;
const BURST: u16 = 6;

/// The kernel counts the frame's header with each packet.
const ETHERNET: u8 = 1;

/// How fast an interface sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Bytes a second.
    pub rate: u64,
    /// Bytes that may follow each other at once.
    pub burst: u32,
    /// Bytes that wait; what is more is lost.
    pub limit: u32,
}

impl Links {
    /// Has an interface send no faster than the bucket lets it, instead of what held before. An error of kind
    /// `NotFound` where the kernel has no such buckets.
    pub fn shape(&mut self, device: u32, bucket: Bucket) -> io::Result<()> {
        let mut message = TcMessage::with_index(i32::try_from(device).unwrap_or_default());
        message.header.parent = TcHandle::ROOT;
        message.header.handle = TcHandle::from(1 << 16);
        let option = |kind, bytes: Vec<u8>| TcOption::Other(DefaultNla::new(kind, bytes));
        message.attributes.push(TcAttribute::Kind(KIND.to_owned()));
        message.attributes.push(TcAttribute::Options(vec![
            option(PARAMETERS, parameters(bucket)),
            option(RATE_64, bucket.rate.to_ne_bytes().to_vec()),
            option(BURST, bucket.burst.to_ne_bytes().to_vec()),
        ]));
        self.one(RouteNetlinkMessage::NewQueueDiscipline(message), CREATE | REPLACE, None)
    }

    /// Whether the kernel has such buckets; asks by shaping an interface that nobody has.
    pub fn can_shape(&mut self) -> io::Result<bool> {
        let bucket = Bucket { rate: 125, burst: 10_000, limit: 20_000 };
        match self.shape(i32::MAX.unsigned_abs(), bucket) {
            Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true),
        }
    }
}

/// `struct tc_tbf_qopt`: the rate, no peak, and what may wait.
fn parameters(bucket: Bucket) -> Vec<u8> {
    let rate = u32::try_from(bucket.rate).unwrap_or(u32::MAX);
    let mut bytes = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    bytes.extend(rate.to_ne_bytes());
    bytes.extend([0; 12]);
    bytes.extend(bucket.limit.to_ne_bytes());
    // The bucket's size in the kernel's ticks and the largest packet: the attribute of the burst says it better.
    bytes.extend([0; 8]);
    bytes
}
