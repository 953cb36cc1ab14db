//! How fast clients must take what they are sent.
//!
//! What a client does not take stays with the server. So an answer must be taken within a time, a watch
//! must take each piece within one, and a connection that asks for nothing ends (as upstream:
//! `k8s.io/apiserver/pkg/server/secure_serving.go` and `filters/timeout.go`). Streams that people look at,
//! such as logs, may wait for them as long as they like.
//!
//! What enters are the answers of one connection; what leaves is when that connection has to end.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::body::{Error, ResponseBody};

/// A connection without requests ends after this many times the patience, which is upstream's time.
const IDLE: u32 = 3;
/// Bodies up to this size may lie with the transport, out of sight.
const SMALL: u64 = 16 * 1024;

/// How an answer must be taken; in the extensions of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// All of it before this time.
    Whole(Instant),
    /// Each piece within the patience.
    Stepwise,
    /// As the client likes.
    Free,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// It asks for nothing.
    Idle,
    /// It does not take what it asked for.
    Stalled,
}

/// What one connection was asked and has not sent yet.
pub(crate) struct Pacer {
    patience: Duration,
    state: Mutex<State>,
    earlier: Notify,
}

struct State {
    next: u64,
    /// Requests that are served, and when each must have been taken.
    open: HashMap<u64, Option<Instant>>,
    idle_since: Instant,
    /// When [`Pacer::due`] looks again.
    looks: Option<Instant>,
    /// Something is sent that may wait for its client.
    free: bool,
}

impl Pacer {
    pub(crate) fn new(patience: Duration) -> Arc<Self> {
        let state =
            State { next: 0, open: HashMap::new(), idle_since: Instant::now(), looks: None, free: false };
        Arc::new(Self { patience, state: Mutex::new(state), earlier: Notify::new() })
    }

    /// Begins a request; it is served until what is returned is gone.
    pub(crate) fn begin(self: &Arc<Self>) -> Open {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.open.insert(id, None);
        drop(state);
        Open { pacer: Arc::clone(self), id }
    }

    /// Whether all that was asked for is sent.
    pub(crate) fn is_idle(&self) -> bool {
        self.state().open.is_empty()
    }

    /// Whether something is sent here that may wait for its client.
    pub(crate) fn is_free(&self) -> bool {
        self.state().free
    }

    /// Returns when the connection has to end.
    pub(crate) async fn due(&self) -> Due {
        loop {
            let earlier = self.earlier.notified();
            let look = {
                let mut state = self.state();
                let idle = state.open.is_empty();
                let at = match idle {
                    true => Some(state.idle_since + self.patience * IDLE),
                    false => state.open.values().flatten().min().copied(),
                };
                if at.is_some_and(|at| at <= Instant::now()) {
                    return if idle { Due::Idle } else { Due::Stalled };
                }
                state.looks = at;
                at
            };
            match look {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = earlier => {}
                },
                None => earlier.await,
            }
        }
    }

    fn set(&self, id: u64, due: Option<Instant>) {
        let mut state = self.state();
        state.open.insert(id, due);
        if let Some(due) = due.filter(|due| state.looks.is_none_or(|looks| *due < looks)) {
            // Once until it has looked.
            state.looks = Some(due);
            self.earlier.notify_one();
        }
    }

    fn end(&self, id: u64) {
        let mut state = self.state();
        state.open.remove(&id);
        if state.open.is_empty() {
            state.idle_since = Instant::now();
            let due = state.idle_since + self.patience * IDLE;
            if state.looks.is_none() {
                state.looks = Some(due);
                self.earlier.notify_one();
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is served.
pub(crate) struct Open {
    pacer: Arc<Pacer>,
    id: u64,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.pacer.end(self.id);
    }
}

impl Open {
    /// Watches over the way of an answer to the client.
    pub(crate) fn answered(self, mut response: Response<ResponseBody>) -> Response<ResponseBody> {
        let pace = response.extensions_mut().remove::<Pace>().unwrap_or(Pace::Free);
        match pace {
            // Between the end of the time and this, whoever takes something is told.
            Pace::Whole(end) => self.pacer.set(self.id, Some(end + self.pacer.patience)),
            Pace::Stepwise => self.pacer.set(self.id, Some(Instant::now() + self.pacer.patience)),
            Pace::Free => self.pacer.state().free = true,
        }
        let is_small = response.body().size_hint().exact().is_some_and(|size| size <= SMALL);
        response.map(|inner| Paced { inner, open: self, pace, is_small }.boxed_unsync())
    }
}

struct Paced {
    inner: ResponseBody,
    open: Open,
    pace: Pace,
    is_small: bool,
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.pace {
            Pace::Whole(end) if end <= Instant::now() => {
                return Poll::Ready(Some(Err(Error::new(&"the client takes its answer too slowly"))));
            }
            Pace::Stepwise => self.open.pacer.set(self.open.id, None),
            Pace::Whole(_) | Pace::Free => {}
        }
        let piece = Pin::new(&mut self.inner).poll_frame(context);
        if self.pace == Pace::Stepwise && matches!(piece, Poll::Ready(Some(_))) {
            self.open.pacer.set(self.open.id, Some(Instant::now() + self.open.pacer.patience));
        }
        piece
    }

    /// The transport asks a long body again when it has room for more: what it was given is sent by then.
    fn is_end_stream(&self) -> bool {
        self.is_small && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn answer(pacer: &Arc<Pacer>, pace: Pace, body: ResponseBody) -> ResponseBody {
        let mut response = Response::new(body);
        response.extensions_mut().insert(pace);
        pacer.begin().answered(response).into_body()
    }

    /// What the connection ends of, and after how long.
    async fn ends(pacer: &Pacer, most: u64) -> Option<(Due, u64)> {
        let begun = Instant::now();
        let due = tokio::time::timeout(Duration::from_secs(most), pacer.due()).await.ok()?;
        Some((due, begun.elapsed().as_secs()))
    }

    #[tokio::test(start_paused = true)]
    async fn connections_end_when_they_ask_for_nothing() {
        let pacer = Pacer::new(PATIENCE);
        assert_eq!(ends(&pacer, 1000).await, Some((Due::Idle, 90)));
        let open = pacer.begin();
        assert_eq!(ends(&pacer, 1000).await, None, "a request may take its time");
        drop(open);
        assert_eq!(ends(&pacer, 1000).await, Some((Due::Idle, 90)));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_must_be_taken_in_time() {
        let pacer = Pacer::new(PATIENCE);
        let deadline = Pace::Whole(Instant::now() + Duration::from_secs(60));
        let mut body = answer(&pacer, deadline, body::full(vec![0; 100_000]));
        assert!(body.frame().await.is_some_and(|piece| piece.is_ok()) && !body.is_end_stream());
        assert_eq!(ends(&pacer, 1000).await, Some((Due::Stalled, 90)));
        let refused = body.frame().await.expect("a reason").map(|_| ()).map_err(|error| error.to_string());
        assert_eq!(refused, Err("the client takes its answer too slowly".to_owned()));
        drop(body);
        let small = answer(&pacer, deadline, body::full("x"));
        assert_eq!(ends(&pacer, 1000).await, Some((Due::Stalled, 0)));
        drop(small);
        let free = answer(&pacer, Pace::Free, body::full("x"));
        assert_eq!((ends(&pacer, 10_000).await, pacer.is_free()), (None, true));
        drop(free);
    }

    #[tokio::test(start_paused = true)]
    async fn watches_may_wait_for_events_but_not_with_them() {
        let pacer = Pacer::new(PATIENCE);
        let (send, events) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
        let events = tokio_stream::wrappers::UnboundedReceiverStream::new(events);
        let mut body = answer(&pacer, Pace::Stepwise, body::stream(events));
        let next = async |body: &mut ResponseBody| {
            tokio::time::timeout(Duration::from_secs(3600), body.frame()).await.is_ok()
        };
        assert!(!next(&mut body).await);
        assert_eq!(ends(&pacer, 10_000).await, None);
        send.send(Bytes::from_static(b"x")).expect("it listens");
        assert!(next(&mut body).await);
        assert_eq!(ends(&pacer, 10_000).await, Some((Due::Stalled, 30)));
        assert!(!next(&mut body).await);
        assert_eq!(ends(&pacer, 10_000).await, None, "it has taken it after all");
    }
}
