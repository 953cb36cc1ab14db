//! From one query to its reply.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use hickory_proto::op::{Message, ResponseCode};
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
    /// The first of these names that exists, told as this name's. If none does, the reply so far stands.
    Search(Vec<String>),
}

/// What was found without waiting.
enum Found {
    Reply(Plugin),
    Nothing,
    Ask(QuestionKind),
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
            Found::Reply(Plugin::Kubernetes) if denies(reply) => match self.searched(&query, asked.client) {
                Some(names) => Found::Ask(QuestionKind::Search(names)),
                None => Found::Reply(Plugin::Kubernetes),
            },
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

    /// Completes a reply by what others know.
    pub(crate) async fn ask_elsewhere(&self, asked: &Asked<'_>, question: Question, reply: &mut Vec<u8>) {
        let Ok(query) = Query::parse(asked.message) else { return };
        let live = &question.live;
        match question.kind {
            QuestionKind::Renamed(name) => self.renamed(live, &query, &name, asked.transport, reply).await,
            QuestionKind::Search(names) => self.search(live, &query, &names, asked.transport, reply).await,
            kind => self.ask(live, asked.message, &query, kind, asked.transport, reply).await,
        }
        self.told(asked, &query, Plugin::Forward, reply);
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

    fn searched(&self, query: &Query<'_>, client: IpAddr) -> Option<Vec<String>> {
        let name = query.name.text()?;
        let searching =
            self.shared.clients.read().expect("no code under the lock panics").get(&client)?.clone();
        Some(searching.after(name)).filter(|names| !names.is_empty())
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

    async fn ask(
        &self,
        live: &Live,
        message: &[u8],
        query: &Query<'_>,
        kind: QuestionKind,
        transport: Transport,
        reply: &mut Vec<u8>,
    ) {
        let complete = match kind {
            QuestionKind::Same(block, otherwise) => match live.upstream.resolve(message, &block).await {
                Some(found) => {
                    adopt(query, &found, transport, reply);
                    true
                }
                None => {
                    fail(message, otherwise, reply);
                    true
                }
            },
            QuestionKind::Alias(alias) => {
                self.follow_alias(live, query, &alias, transport, reply).await.is_some()
            }
            QuestionKind::Renamed(_) | QuestionKind::Search(_) => false,
        };
        if !complete {
            fail(message, Rcode::ServerFailure, reply);
        }
    }

    /// The whole reply about a name, without rewriting or searching.
    async fn whole(&self, live: &Live, query: &Query<'_>, name: &str) -> Option<Vec<u8>> {
        let message = query.about(name)?;
        let query = Query::parse(&message).ok()?;
        let mut reply = Vec::new();
        match self.look_up(live, &query, Transport::Tcp, &mut reply) {
            Found::Nothing => return None,
            Found::Reply(_) => {}
            Found::Ask(kind) => {
                Box::pin(self.ask(live, &message, &query, kind, Transport::Tcp, &mut reply)).await;
            }
        }
        Some(reply)
    }

    async fn renamed(
        &self,
        live: &Live,
        query: &Query<'_>,
        name: &str,
        transport: Transport,
        reply: &mut Vec<u8>,
    ) {
        let found = self.whole(live, query, name).await;
        match found.and_then(|found| rename(&found, query, name)) {
            Some(found) => adopt(query, &found, transport, reply),
            None => drop(fail(query.message(), Rcode::ServerFailure, reply)),
        }
    }

    /// Puts the first name that exists in the reply's place. Where nobody can say whether a name exists the
    /// reply stands, and the client's own search goes on.
    async fn search(
        &self,
        live: &Live,
        query: &Query<'_>,
        names: &[String],
        transport: Transport,
        reply: &mut Vec<u8>,
    ) {
        for name in names {
            let Some(found) = self.whole(live, query, name).await else { return };
            match found.get(3).map(|byte| byte & 0x0f) {
                Some(0) => {
                    if let Some(found) = rename(&found, query, name) {
                        adopt(query, &found, transport, reply);
                        self.shared.metrics.searches.inc();
                    }
                    return;
                }
                Some(3) => {}
                _ => return,
            }
        }
    }

    /// Adds the alias's addresses to the reply that names it.
    async fn follow_alias(
        &self,
        live: &Live,
        query: &Query<'_>,
        alias: &str,
        transport: Transport,
        reply: &mut Vec<u8>,
    ) -> Option<()> {
        let found = self.whole(live, query, alias).await?;
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

fn denies(reply: &[u8]) -> bool {
    reply.get(3).is_some_and(|byte| byte & 0x0f == 3)
}
