//! From one query to its reply: what memory knows is told at once, the rest is left to [`elsewhere`].

mod elsewhere;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use plimsoll_netplan::dns::corefile::{Block, rewritten};
use plimsoll_netplan::dns::{
    Answer, Query, Rcode, Transport, answer_from_hosts, answer_from_templates, answer_query, fail, refuse,
};

use crate::metrics::{Answered, Plugin};
use crate::rename::{adopt, rename};
use crate::{Live, Shared};

/// Answers queries from the records, or by asking elsewhere.
pub(crate) struct Resolver {
    shared: Arc<Shared>,
}

/// A query as it came.
pub(crate) struct Asked<'a> {
    pub(crate) message: &'a [u8],
    pub(crate) client: IpAddr,
    pub(crate) transport: Transport,
    pub(crate) since: Instant,
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

/// What somebody else must be asked, under the configuration of this moment.
pub(crate) struct Question {
    live: Arc<Live>,
    kind: QuestionKind,
}

enum QuestionKind {
    /// The query itself. If nobody knows, the reply is this.
    Same(Arc<Block>, Rcode),
    /// The addresses of the alias that the reply so far names.
    Alias(String),
    /// Another name's records, told as this name's.
    Renamed(String),
    /// The first of these names that exists, told as this name's. If none does, the reply so far stands. Of the
    /// first of them it is known what must be asked.
    Search(Vec<String>, Box<Pending>),
}

/// A reply about a name of our own choice, which others must complete.
struct Pending {
    message: Vec<u8>,
    reply: Vec<u8>,
    kind: QuestionKind,
}

/// What was found without waiting.
enum Found {
    Reply(Plugin),
    Nothing,
    Ask(QuestionKind),
}

/// What memory knows of a name of our own choice.
enum Whole {
    Reply(Vec<u8>),
    Nothing,
    Ask(Pending),
}

/// What the reply about a name means for a search.
enum Settled {
    /// The search ends with it.
    Found,
    /// The search goes on.
    NoName,
    /// Nobody can say whether the name exists: the client's own search goes on.
    Unknown,
}

impl Resolver {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Answers from memory. Never waits.
    pub(crate) fn answer(&self, asked: &Asked<'_>, reply: &mut Vec<u8>) -> Next {
        let query = match Query::parse(asked.message) {
            Ok(query) => query,
            Err(fault) if refuse(fault, reply) == Answer::Ignore => return Next::Nothing,
            Err(_) => return Next::Send,
        };
        let live = self.shared.live.load();
        let found = match self.another_name(&live, &query) {
            Some(name) => Found::Ask(QuestionKind::Renamed(name)),
            None => self.look_up(&live, &query, asked.transport, reply),
        };
        let found = match found {
            Found::Reply(Plugin::Kubernetes) if denies(reply) => self.search(&live, &query, asked, reply),
            found => found,
        };
        match found {
            Found::Nothing => Next::Nothing,
            Found::Reply(plugin) => {
                self.told(asked, &query, plugin, reply);
                Next::Send
            }
            Found::Ask(kind) => Next::Ask(Question { live: live.clone(), kind }),
        }
    }

    fn told(&self, asked: &Asked<'_>, query: &Query<'_>, plugin: Plugin, reply: &[u8]) {
        let (client, transport, length) = (asked.client, asked.transport, asked.message.len());
        let answered =
            Answered { query, length, client, transport, reply, plugin, took: asked.since.elapsed() };
        self.shared.metrics.answered(&answered);
        if self.shared.logs(query) {
            let rcode = reply.get(3).map_or(0, |byte| byte & 0x0f);
            tracing::info!(%client, name = ?query.name, kind = ?query.kind, rcode, "DNS query");
        }
    }

    fn another_name(&self, live: &Live, query: &Query<'_>) -> Option<String> {
        let name = query.name.text()?;
        let block = live.rules.block(name).filter(|block| !block.rewrites.is_empty())?;
        rewritten(&block.rewrites, name)
    }

    /// Goes on with the client's search after its first name was denied, for as long as memory knows.
    fn search(&self, live: &Live, query: &Query<'_>, asked: &Asked<'_>, reply: &mut Vec<u8>) -> Found {
        let names = self.searched(query, asked.client).unwrap_or_default();
        for (place, name) in names.iter().enumerate() {
            match self.whole(live, query, name) {
                Whole::Nothing => break,
                Whole::Ask(pending) => {
                    return Found::Ask(QuestionKind::Search(names[place..].to_vec(), Box::new(pending)));
                }
                Whole::Reply(found) => match self.settle(query, &found, name, asked.transport, reply) {
                    Settled::Found => return Found::Reply(Plugin::Forward),
                    Settled::Unknown => break,
                    Settled::NoName => {}
                },
            }
        }
        Found::Reply(Plugin::Kubernetes)
    }

    /// The names that the client is going to ask for.
    fn searched(&self, query: &Query<'_>, client: IpAddr) -> Option<Vec<String>> {
        let name = query.name.text()?;
        let searching =
            self.shared.clients.read().expect("no code under the lock panics").get(&client)?.clone();
        Some(searching.after(name))
    }

    /// Puts the reply about a name of a search in the place of the reply so far, if the name exists.
    fn settle(
        &self,
        query: &Query<'_>,
        found: &[u8],
        name: &str,
        transport: Transport,
        reply: &mut Vec<u8>,
    ) -> Settled {
        match found.get(3).map(|byte| byte & 0x0f) {
            Some(3) => return Settled::NoName,
            Some(0) => {}
            _ => return Settled::Unknown,
        }
        let Some(found) = rename(found, query, name) else { return Settled::Unknown };
        adopt(query, &found, transport, reply);
        self.shared.metrics.searches.inc();
        Settled::Found
    }

    /// The whole reply about a name, without rewriting or searching.
    fn whole(&self, live: &Live, query: &Query<'_>, name: &str) -> Whole {
        let Some(message) = query.about(name) else { return Whole::Nothing };
        let Ok(query) = Query::parse(&message) else { return Whole::Nothing };
        let mut reply = Vec::new();
        match self.look_up(live, &query, Transport::Tcp, &mut reply) {
            Found::Nothing => Whole::Nothing,
            Found::Reply(_) => Whole::Reply(reply),
            Found::Ask(kind) => Whole::Ask(Pending { message, reply, kind }),
        }
    }

    /// What memory knows of a query under its own name.
    fn look_up(&self, live: &Live, query: &Query<'_>, transport: Transport, reply: &mut Vec<u8>) -> Found {
        let block = live.rules.block(query.name.text().unwrap_or_default());
        let templates = block.map_or(&[][..], |block| &block.templates);
        match answer_from_templates(query, templates, transport, reply) {
            None => {}
            Some(Answer::Elsewhere(alias)) => return Found::Ask(QuestionKind::Alias(alias)),
            Some(_) => return Found::Reply(Plugin::Template),
        }
        if let Some(hosts) = block.and_then(|block| block.hosts.as_ref())
            && answer_from_hosts(query, hosts, transport, reply).is_some()
        {
            return Found::Reply(Plugin::Hosts);
        }
        let answered = {
            let records = self.shared.records.read().expect("no code under the lock panics");
            answer_query(query, transport, &records, rand::random(), reply)
        };
        let otherwise = match answered {
            Answer::Ignore => return Found::Nothing,
            Answer::Forward => Rcode::ServerFailure,
            Answer::ForwardOrNothing => Rcode::NameError,
            Answer::Complete | Answer::Elsewhere(_) if !self.shared.synced.load(Ordering::Acquire) => {
                // What is not known yet must not be denied, or clients remember the denial.
                fail(query.message(), Rcode::ServerFailure, reply);
                return Found::Reply(Plugin::Kubernetes);
            }
            Answer::Complete => return Found::Reply(Plugin::Kubernetes),
            Answer::Elsewhere(alias) => return Found::Ask(QuestionKind::Alias(alias)),
        };
        let Some(block) = block else {
            fail(query.message(), Rcode::Refused, reply);
            return Found::Reply(Plugin::Forward);
        };
        match live.upstream.remembered(query, block) {
            Some(found) => {
                adopt(query, &found, transport, reply);
                Found::Reply(Plugin::Forward)
            }
            None => Found::Ask(QuestionKind::Same(block.clone(), otherwise)),
        }
    }
}

fn denies(reply: &[u8]) -> bool {
    reply.get(3).is_some_and(|byte| byte & 0x0f == 3)
}
