//! Making a reply to one query the reply to another.

use hickory_proto::op::Message;
use plimsoll_netplan::dns::{Query, Transport};

/// Makes a reply of somebody else the reply to this query: same identifier, same spelling of the name,
/// no longer than the client takes.
pub(crate) fn adopt(query: &Query<'_>, found: &[u8], transport: Transport, reply: &mut Vec<u8>) {
    reply.clear();
    let question = query.question();
    let question_end = 12 + question.len();
    let whole = transport == Transport::Tcp || found.len() <= query.payload_limit();
    reply.extend_from_slice(if whole { found } else { found.get(..question_end).unwrap_or(found) });
    let Some(header) = reply.get_mut(..12) else { return };
    header[..2].copy_from_slice(&query.id().to_be_bytes());
    header[3] |= 0x80;
    if !whole {
        header[2] |= 0x02;
        header[6..12].fill(0);
    }
    if let Some(spelling) = reply.get_mut(12..question_end) {
        spelling.copy_from_slice(question);
    }
}

/// A reply about `name` as one to this query about another: its records are told as those of the name that
/// was asked for, which is what clients expect. Nothing when the reply cannot be read.
pub(crate) fn rename(found: &[u8], query: &Query<'_>, name: &str) -> Option<Vec<u8>> {
    let mut message = Message::from_vec(found).ok()?;
    let question = Message::from_vec(query.message()).ok()?.queries.into_iter().next()?;
    for record in &mut message.answers {
        let owner = record.name.to_ascii();
        if owner.trim_end_matches('.').eq_ignore_ascii_case(name) {
            record.name = question.name().clone();
        }
    }
    message.queries = vec![question];
    if !query.has_edns() {
        message.edns = None;
    }
    message.to_vec().ok()
}
