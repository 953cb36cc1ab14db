//! Streams of watches: who asks for which, and who stops.

use std::collections::HashMap;
use std::pin::Pin;

use plimsoll_etcd::etcdserverpb::watch_create_request::FilterType;
use plimsoll_etcd::etcdserverpb::watch_request::RequestUnion;
use plimsoll_etcd::etcdserverpb::watch_server::Watch;
use plimsoll_etcd::etcdserverpb::{self as pb, WatchCreateRequest, WatchResponse};
use plimsoll_mvcc::Revision;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::watcher::{Form, Question, Watcher};
use super::{Etcd, key};
use crate::StoreError;

/// The number of no watch: of answers about a whole stream, and of watches that were refused.
const NONE: i64 = -1;
/// Answers that may wait for a client. Watches wait then, and read history later.
const WAITING: usize = 16;

/// Where the answers of a stream go.
pub(super) type Answers = mpsc::Sender<Result<WatchResponse, Status>>;

#[tonic::async_trait]
impl Watch for Etcd {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (answers, stream) = mpsc::channel(WAITING);
        let watches = Watches { etcd: self.clone(), answers, running: HashMap::new(), next: 0 };
        tokio::spawn(watches.serve(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// The watches of one stream.
struct Watches {
    etcd: Etcd,
    answers: Answers,
    running: HashMap<i64, (JoinHandle<()>, mpsc::Sender<Question>)>,
    next: i64,
}

impl Watches {
    async fn serve(mut self, mut requests: Streaming<pb::WatchRequest>) {
        loop {
            let request = tokio::select! {
                request = requests.message() => request,
                () = self.answers.closed() => break,
            };
            let request = match request {
                Ok(Some(request)) => request,
                // Who has asked for everything listens on.
                Ok(None) => {
                    self.answers.closed().await;
                    break;
                }
                Err(_) => break,
            };
            let sent = match request.request_union {
                Some(RequestUnion::CreateRequest(create)) => self.create(create).await,
                Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id).await,
                Some(RequestUnion::ProgressRequest(_)) => self.progress(),
                None => Ok(()),
            };
            if sent.is_err() {
                break;
            }
        }
        for (_, (task, _)) in self.running {
            task.abort();
        }
    }

    async fn create(&mut self, request: WatchCreateRequest) -> Result<(), Gone> {
        if !matches!(&*request.range_end, [] | [0]) && request.range_end <= request.key {
            return self.refuse("mvcc: watcher range is empty").await;
        }
        let id = match request.watch_id {
            0 => self.free(),
            asked if self.is_running(asked) => {
                return self.refuse("mvcc: duplicate watch ID provided on the WatchStream").await;
            }
            asked => asked,
        };
        let first: &[u8] = if request.key.is_empty() { &[0] } else { &request.key };
        let span = key::span(first, &request.range_end);
        let from = (request.start_revision > 0).then_some(Revision(request.start_revision));
        // What happens behind this revision is delivered, whatever happens before the first answer.
        let current = self.etcd.store.revision();
        let from = from.or(Some(current.next()));
        let created = WatchResponse {
            header: self.etcd.header(current),
            watch_id: id,
            created: true,
            ..Default::default()
        };
        self.send(created).await?;
        match self.etcd.store.follow(span, from) {
            Ok(watch) => {
                let (questions, asked) = mpsc::channel(1);
                let form = form(&request);
                let watcher = Watcher { etcd: self.etcd.clone(), id, form, answers: self.answers.clone() };
                self.running.insert(id, (tokio::spawn(watcher.run(watch, asked)), questions));
                Ok(())
            }
            Err(StoreError::Compacted { compacted, .. }) => {
                let header = self.etcd.header_now();
                let canceled = WatchResponse {
                    header,
                    watch_id: id,
                    canceled: true,
                    compact_revision: compacted.0,
                    ..Default::default()
                };
                self.send(canceled).await
            }
            Err(error) => {
                let cancel_reason = error.to_string();
                let header = self.etcd.header_now();
                let canceled = WatchResponse {
                    header,
                    watch_id: id,
                    canceled: true,
                    cancel_reason,
                    ..Default::default()
                };
                self.send(canceled).await
            }
        }
    }

    async fn refuse(&self, reason: &str) -> Result<(), Gone> {
        self.send(WatchResponse {
            header: self.etcd.header_now(),
            watch_id: NONE,
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..Default::default()
        })
        .await
    }

    async fn cancel(&mut self, id: i64) -> Result<(), Gone> {
        let Some((task, _)) = self.running.remove(&id) else { return Ok(()) };
        let over = task.is_finished();
        task.abort();
        // Nothing of it follows the answer.
        let _ = task.await;
        if over {
            return Ok(());
        }
        let header = self.etcd.header_now();
        self.send(WatchResponse { header, watch_id: id, canceled: true, ..Default::default() }).await
    }

    /// Tells the revision that all watches have reached, when all of them have told it.
    fn progress(&mut self) -> Result<(), Gone> {
        self.running.retain(|_, (task, _)| !task.is_finished());
        let mut asked = JoinSet::new();
        for (_, questions) in self.running.values() {
            let questions = questions.clone();
            asked.spawn(async move {
                let (question, answer) = tokio::sync::oneshot::channel();
                questions.send(question).await.ok()?;
                answer.await.ok()
            });
        }
        let (etcd, answers, current) = (self.etcd.clone(), self.answers.clone(), self.etcd.store.revision());
        tokio::spawn(async move {
            let reached = asked.join_all().await.into_iter().flatten().min().unwrap_or(current);
            let header = etcd.header(reached);
            let _ = answers.send(Ok(WatchResponse { header, watch_id: NONE, ..Default::default() })).await;
        });
        Ok(())
    }

    async fn send(&self, response: WatchResponse) -> Result<(), Gone> {
        self.answers.send(Ok(response)).await.map_err(|_| Gone)
    }

    fn is_running(&self, id: i64) -> bool {
        self.running.get(&id).is_some_and(|(task, _)| !task.is_finished())
    }

    fn free(&mut self) -> i64 {
        while self.running.contains_key(&self.next) {
            self.next += 1;
        }
        self.next += 1;
        self.next - 1
    }
}

/// The client went away.
pub(super) struct Gone;

fn form(request: &WatchCreateRequest) -> Form {
    let leaves_out = |filter: FilterType| request.filters.contains(&filter.into());
    Form {
        puts: !leaves_out(FilterType::Noput),
        deletions: !leaves_out(FilterType::Nodelete),
        previous: request.prev_kv,
        progress: request.progress_notify,
        fragments: request.fragment,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use plimsoll_etcd::etcdserverpb::kv_client::KvClient;
    use plimsoll_etcd::etcdserverpb::watch_client::WatchClient;
    use plimsoll_etcd::etcdserverpb::{PutRequest, WatchRequest};
    use tokio_util::sync::CancellationToken;

    use super::super::Listen;
    use super::*;
    use crate::{Options, Store};

    fn create(key: &'static str, end: &'static str) -> WatchRequest {
        let create = WatchCreateRequest { key: key.into(), range_end: end.into(), ..Default::default() };
        WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
    }

    #[tokio::test]
    async fn who_has_asked_for_everything_listens_on() {
        let folder = tempfile::tempdir().unwrap();
        let etcd = Etcd::new(Store::open(folder.path(), Options::default()).unwrap(), "m", "c", Vec::new());
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let stop = CancellationToken::new();
        etcd.serve(Listen::Tcp(address, None), stop.clone()).await.unwrap();
        let endpoint = format!("http://{address}");
        let mut watches = WatchClient::connect(endpoint.clone()).await.unwrap();
        // The requests end here. One that is refused takes no number.
        let requests = tokio_stream::iter([create("z", "a"), create("k", "")]);
        let mut answers = watches.watch(requests).await.unwrap().into_inner();
        for id in [NONE, 0] {
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!((answer.watch_id, answer.created, answer.canceled), (id, true, id == NONE));
        }
        let mut keys = KvClient::connect(endpoint).await.unwrap();
        for value in ["1", "2"] {
            keys.put(PutRequest { key: "k".into(), value: value.into(), ..Default::default() })
                .await
                .unwrap();
            let told = answers.message().await.unwrap().unwrap();
            assert_eq!(told.events[0].kv.as_ref().unwrap().value, value);
        }
        stop.cancel();
    }
}
