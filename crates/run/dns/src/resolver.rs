//! From one query to its reply.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hickory_proto::op::{Message, ResponseCode};
use plimsoll_netplan::dns::{Answer, Query, Rcode, Transport, answer, fail};

use crate::Shared;
use crate::upstream::Upstream;

/// Answers queries from the records, or by asking elsewhere.
pub(crate) struct Resolver {
    shared: Arc<Shared>,
    upstream: Upstream,
}

/// What a query still needs after the records were looked at.
pub(crate) enum Next {
    /// Nothing: the reply is written.
    Send,
    /// No reply at all.
    Nothing,
    /// Somebody else must be asked: see [`Resolver::ask_elsewhere`].
    Ask(Question),
}

/// What somebody else must be asked.
pub(crate) enum Question {
    /// The query itself. If nobody knows, the reply is this.
    Same(Rcode),
    /// The addresses of the alias that the reply so far names.
    Alias(String),
}

impl Resolver {
    pub(crate) fn new(shared: Arc<Shared>, upstream: Upstream) -> Self {
        Self { shared, upstream }
    }

    /// Answers from the records. Never waits.
    pub(crate) fn answer(&self, query: &[u8], transport: Transport, reply: &mut Vec<u8>) -> Next {
        let answered = {
            let records = self.shared.records.read().expect("no code under the lock panics");
            answer(query, transport, &records, rand::random(), reply)
        };
        match answered {
            Answer::Ignore => Next::Nothing,
            Answer::Forward => Next::Ask(Question::Same(Rcode::ServerFailure)),
            Answer::ForwardOrNothing => Next::Ask(Question::Same(Rcode::NameError)),
            Answer::Complete | Answer::Elsewhere(_) if !self.shared.synced.load(Ordering::Acquire) => {
                // What is not known yet must not be denied, or clients remember the denial.
                fail(query, Rcode::ServerFailure, reply);
                Next::Send
            }
            Answer::Complete => Next::Send,
            Answer::Elsewhere(alias) => Next::Ask(Question::Alias(alias)),
        }
    }

    /// Completes a reply by what others know.
    pub(crate) async fn ask_elsewhere(
        &self,
        query: &[u8],
        question: Question,
        transport: Transport,
        reply: &mut Vec<u8>,
    ) {
        match question {
            Question::Same(otherwise) => match self.upstream.resolve(query).await {
                Some(found) => adopt(query, &found, transport, reply),
                None => {
                    fail(query, otherwise, reply);
                }
            },
            Question::Alias(alias) => {
                if self.follow_alias(query, &alias, transport, reply).await.is_none() {
                    fail(query, Rcode::ServerFailure, reply);
                }
            }
        }
    }

    /// Adds the alias's addresses to the reply that names it.
    async fn follow_alias(
        &self,
        query: &[u8],
        alias: &str,
        transport: Transport,
        reply: &mut Vec<u8>,
    ) -> Option<()> {
        let kind = Query::parse(query).ok()?.kind.number();
        let found = self.upstream.resolve(&question_for(alias, kind)?).await?;
        let found = Message::from_vec(&found).ok()?;
        let mut message = Message::from_vec(reply).ok()?;
        message.answers.extend(found.answers);
        if found.metadata.response_code != ResponseCode::NoError {
            message.metadata.response_code = found.metadata.response_code;
        }
        let whole = message.to_vec().ok()?;
        adopt(query, &whole, transport, reply);
        Some(())
    }
}

/// Makes a reply of somebody else the reply to this query: same identifier, same spelling of the name,
/// no longer than the client takes.
fn adopt(query: &[u8], found: &[u8], transport: Transport, reply: &mut Vec<u8>) {
    reply.clear();
    let Ok(parsed) = Query::parse(query) else { return };
    let question = parsed.question();
    let question_end = 12 + question.len();
    let whole = transport == Transport::Tcp || found.len() <= parsed.payload_limit();
    reply.extend_from_slice(if whole { found } else { found.get(..question_end).unwrap_or(found) });
    let Some(header) = reply.get_mut(..12) else { return };
    header[..2].copy_from_slice(&parsed.id().to_be_bytes());
    header[3] |= 0x80;
    if !whole {
        header[2] |= 0x02;
        header[6..12].fill(0);
    }
    if let Some(spelling) = reply.get_mut(12..question_end) {
        spelling.copy_from_slice(question);
    }
}

fn question_for(name: &str, kind: u16) -> Option<Vec<u8>> {
    // With the extension that lets long replies come without a second try.
    let mut query = vec![0, 0, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        query.push(length);
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&kind.to_be_bytes());
    query.extend_from_slice(&[0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    Some(query)
}
