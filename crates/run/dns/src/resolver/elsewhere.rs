//! Replies that others must complete.

use hickory_proto::op::{Message, ResponseCode};
use plimsoll_netplan::dns::{Query, Rcode, Transport, fail};

use super::{Asked, Pending, Question, QuestionKind, Resolver, Settled, Whole};
use crate::Live;
use crate::metrics::Plugin;
use crate::rename::{adopt, rename};

impl Resolver {
    /// Completes a reply by what others know.
    pub(crate) async fn ask_elsewhere(&self, asked: &Asked<'_>, question: Question, reply: &mut Vec<u8>) {
        let Ok(query) = Query::parse(asked.message) else { return };
        let live = &question.live;
        match question.kind {
            QuestionKind::Renamed(name) => self.renamed(live, &query, &name, asked.transport, reply).await,
            QuestionKind::Search(names, first) => {
                self.search_on(live, &query, &names, *first, asked.transport, reply).await;
            }
            kind => self.ask(live, &query, kind, asked.transport, reply).await,
        }
        self.told(asked, &query, Plugin::Forward, reply);
    }

    async fn ask(
        &self,
        live: &Live,
        query: &Query<'_>,
        kind: QuestionKind,
        transport: Transport,
        reply: &mut Vec<u8>,
    ) {
        match kind {
            QuestionKind::Same(block, otherwise) => {
                match live.upstream.resolve(query.message(), &block).await {
                    Some(found) => adopt(query, &found, transport, reply),
                    None => drop(fail(query.message(), otherwise, reply)),
                }
            }
            QuestionKind::Alias(alias) => {
                if self.follow_alias(live, query, &alias, transport, reply).await.is_none() {
                    fail(query.message(), Rcode::ServerFailure, reply);
                }
            }
            // No name that we choose ourselves is rewritten or searched for.
            QuestionKind::Renamed(_) | QuestionKind::Search(..) => {
                fail(query.message(), Rcode::ServerFailure, reply);
            }
        }
    }

    /// The whole reply about a name, without rewriting or searching.
    async fn ask_whole(&self, live: &Live, query: &Query<'_>, name: &str) -> Option<Vec<u8>> {
        match self.whole(live, query, name) {
            Whole::Reply(reply) => Some(reply),
            Whole::Nothing => None,
            Whole::Ask(pending) => self.complete(live, pending).await,
        }
    }

    async fn complete(&self, live: &Live, pending: Pending) -> Option<Vec<u8>> {
        let Pending { message, mut reply, kind } = pending;
        let query = Query::parse(&message).ok()?;
        // An alias of an alias comes back here.
        Box::pin(self.ask(live, &query, kind, Transport::Tcp, &mut reply)).await;
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
        let found = self.ask_whole(live, query, name).await;
        match found.and_then(|found| rename(&found, query, name)) {
            Some(found) => adopt(query, &found, transport, reply),
            None => drop(fail(query.message(), Rcode::ServerFailure, reply)),
        }
    }

    /// Goes on with a search where others must be asked.
    async fn search_on(
        &self,
        live: &Live,
        query: &Query<'_>,
        names: &[String],
        first: Pending,
        transport: Transport,
        reply: &mut Vec<u8>,
    ) {
        let mut first = Some(first);
        for name in names {
            let found = match first.take() {
                Some(pending) => self.complete(live, pending).await,
                None => self.ask_whole(live, query, name).await,
            };
            let Some(found) = found else { return };
            match self.settle(query, &found, name, transport, reply) {
                Settled::NoName => {}
                Settled::Found | Settled::Unknown => return,
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
        let found = self.ask_whole(live, query, alias).await?;
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
