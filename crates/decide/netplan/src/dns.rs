//! The cluster's names: records from Services, answers to queries.
//!
//! The names follow the Kubernetes DNS specification 1.1. A query for the
//! cluster's zone is answered here, bytes to bytes; any other is told to be
//! somebody else's. No input can make this panic.

pub mod corefile;
mod facts;
mod local;
mod message;
mod records;
mod reply;
mod search;
mod zone;

pub use facts::{ServiceFacts, SliceFacts};
pub use local::{answer_from_hosts, answer_from_templates};
pub use message::{Kind, Malformed, Query, QuestionName, Rcode, record_lifetimes};
pub use records::{Records, ServiceRecords};
pub use reply::Reply;
pub use search::Searching;

use message::Opcode;
use zone::Outcome;

/// How the clients' resolver reached this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By datagrams: an answer that is too long is cut and marked so.
    Udp,
    /// By a stream: 64 KiB fit.
    Tcp,
}

/// What becomes of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The reply is complete.
    Complete,
    /// The reply says that the name is an alias of this one, which is not ours: its addresses should
    /// follow in the reply.
    Elsewhere(String),
    /// The name is not in the cluster's zone; nothing was written.
    Forward,
    /// The name is that of an address we do not know; nothing was written. If nobody else knows it,
    /// there is no such name.
    ForwardOrNothing,
    /// The message deserves no reply.
    Ignore,
}

/// Answers one query from the records, into `reply`.
///
/// `spread` varies from query to query: lists of addresses begin at a different
/// one each time, so that clients which take the first are spread.
pub fn answer(
    query: &[u8],
    transport: Transport,
    records: &Records,
    spread: u32,
    reply: &mut Vec<u8>,
) -> Answer {
    match Query::parse(query) {
        Ok(query) => answer_query(&query, transport, records, spread, reply),
        Err(fault) => refuse(fault, reply),
    }
}

/// Answers a message that is no query.
pub fn refuse(fault: Malformed, reply: &mut Vec<u8>) -> Answer {
    reply.clear();
    match fault {
        Malformed::Unanswerable => Answer::Ignore,
        Malformed::Refusable(header) => {
            reply.extend_from_slice(&header.refusal(Rcode::FormatError));
            Answer::Complete
        }
    }
}

/// As [`answer`], for a message that was read.
pub fn answer_query(
    query: &Query<'_>,
    transport: Transport,
    records: &Records,
    spread: u32,
    reply: &mut Vec<u8>,
) -> Answer {
    let mut reply = Reply::begin(query, transport, records.lifetime(), reply);
    if query.opcode != Opcode::Query {
        return reply.finish(Rcode::NotImplemented);
    }
    if query.edns_version_too_new() {
        return reply.finish(Rcode::BadVersion);
    }
    if !query.is_internet() {
        return reply.finish(Rcode::Refused);
    }
    match zone::look_up(records, query, spread, &mut reply) {
        Outcome::Found => reply.finish(Rcode::NoError),
        Outcome::NoData => reply.finish_negative(Rcode::NoError, records),
        Outcome::NoName => reply.finish_negative(Rcode::NameError, records),
        Outcome::Alias(target) => {
            reply.finish(Rcode::NoError);
            Answer::Elsewhere(target)
        }
        Outcome::Foreign => reply.discard(Answer::Forward),
        Outcome::ForeignAddress => reply.discard(Answer::ForwardOrNothing),
    }
}

/// A reply without records to a query that could not be resolved elsewhere.
pub fn fail(query: &[u8], rcode: Rcode, reply: &mut Vec<u8>) -> Answer {
    reply.clear();
    match Query::parse(query) {
        Ok(query) => Reply::begin(&query, Transport::Udp, 0, reply).finish_foreign(rcode),
        Err(_) => Answer::Ignore,
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
