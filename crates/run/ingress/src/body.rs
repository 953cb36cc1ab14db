//! Bodies on their way through: nothing is gathered, what comes in goes out.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use plimsoll_route::answer;
use tokio::time::{Instant, Sleep};

use crate::limiter::Counted;
use crate::mirror::{Copied, Copies};
use crate::upstream::Lease;
use crate::wire::Wire;

/// Why a body ends before its time.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error("the body is larger than the rules allow")]
    TooLarge,
    #[error("nothing came in time")]
    Late,
    #[error("it was broken off")]
    Off,
    #[error(transparent)]
    Malformed(#[from] answer::Malformed),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Other(#[from] hyper::Error),
}

/// Ends a body when nothing comes for too long. The clock runs only while somebody waits.
struct Patience {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Self { limit, sleep: None }
    }

    /// What came, or an error if that took too long.
    fn limit<E: Into<Broken>>(
        &mut self,
        frame: Poll<Option<Result<Frame<Bytes>, E>>>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match frame {
            Poll::Ready(frame) => {
                self.sleep = None;
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                let until = || Box::pin(tokio::time::sleep_until(Instant::now() + self.limit));
                let sleep = self.sleep.get_or_insert_with(until);
                ready!(sleep.as_mut().poll(context));
                Poll::Ready(Some(Err(Broken::Late)))
            }
        }
    }
}

/// The body of a request, for a pod.
pub(crate) struct Sending {
    /// None for a body that is known to be empty.
    source: Option<Source>,
    /// Bytes that may still come.
    left: Option<u64>,
    patience: Patience,
    /// None with no body.
    progress: Option<Arc<Progress>>,
    /// Who gets the same.
    copies: Option<Box<Copies>>,
}

/// Where a body comes from.
enum Source {
    Client(Incoming),
    /// Another request, of which this one is a copy.
    Request(Copied),
}

impl Source {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Client(body) => body.is_end_stream(),
            Self::Request(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Client(body) => body.size_hint(),
            Self::Request(body) => body.size_hint(),
        }
    }
}

/// How far the body of a request came.
#[derive(Default)]
pub(crate) struct Progress {
    pieces: AtomicUsize,
    too_large: AtomicBool,
}

impl Progress {
    /// How many pieces were passed on.
    pub(crate) fn pieces(&self) -> usize {
        self.pieces.load(Ordering::Relaxed)
    }

    /// Whether the body turned out to be too large.
    pub(crate) fn is_too_large(&self) -> bool {
        self.too_large.load(Ordering::Relaxed)
    }
}

impl Sending {
    pub(crate) fn new(incoming: Incoming, most: Option<u64>, patience: Duration) -> Self {
        let incoming = (!incoming.is_end_stream()).then_some(incoming);
        // What says how long it is has been looked at already.
        let known = incoming.as_ref().is_none_or(|body| body.size_hint().exact().is_some());
        let left = if known { None } else { most };
        let progress = incoming.is_some().then(Arc::default);
        let source = incoming.map(Source::Client);
        Self { source, left, patience: Patience::new(patience), progress, copies: None }
    }

    pub(crate) fn empty() -> Self {
        let patience = Patience::new(Duration::ZERO);
        Self { source: None, left: None, patience, progress: None, copies: None }
    }

    /// What passes on to another request what goes through here.
    pub(crate) fn copy(&mut self) -> Self {
        if self.source.is_none() {
            return Self::empty();
        }
        let copies = self.copies.get_or_insert_default();
        let size = self.source.as_ref().map_or_else(SizeHint::default, Source::size_hint);
        let (source, patience) = (Source::Request(copies.add(size)), Patience::new(self.patience.limit));
        Self { source: Some(source), left: None, patience, progress: None, copies: None }
    }

    /// Tells how far it came after it was handed over.
    pub(crate) fn progress(&self) -> Option<Arc<Progress>> {
        self.progress.clone()
    }
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let frame = match &mut this.source {
            None => return Poll::Ready(None),
            Some(Source::Client(body)) => {
                let frame = Pin::new(body).poll_frame(context);
                ready!(this.patience.limit(frame, context))
            }
            Some(Source::Request(body)) => {
                let frame = Pin::new(body).poll_frame(context);
                ready!(this.patience.limit(frame, context))
            }
        };
        let Some(progress) = &this.progress else { return Poll::Ready(frame) };
        progress.pieces.fetch_add(1, Ordering::Relaxed);
        if let (Some(left), Some(Ok(frame))) = (&mut this.left, &frame) {
            let length = frame.data_ref().map_or(0, |data| data.remaining() as u64);
            let Some(rest) = left.checked_sub(length) else {
                progress.too_large.store(true, Ordering::Relaxed);
                return Poll::Ready(Some(Err(Broken::TooLarge)));
            };
            *left = rest;
        }
        if let Some(copies) = &mut this.copies {
            match &frame {
                Some(Err(_)) => this.copies = None,
                Some(Ok(frame)) => {
                    copies.tell(Some(frame), this.source.as_ref().is_none_or(Source::is_end_stream))
                }
                None => copies.tell(None, true),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.as_ref().is_none_or(Source::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.source.as_ref().map_or_else(|| SizeHint::with_exact(0), Source::size_hint)
    }
}

/// The same request without a body.
pub(crate) fn twin(request: &Request<Sending>) -> Request<Sending> {
    let mut copy = Request::new(Sending::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// The body of an answer, from a pod.
pub(crate) enum Arriving {
    Hyper(Incoming),
    /// What is to come by a connection without a task.
    Bare(answer::Body),
    /// Nothing more, for a reason that is told next.
    Broken(Option<Broken>),
}

impl Arriving {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Hyper(body) => body.is_end_stream(),
            Self::Bare(body) => body.is_over(),
            Self::Broken(broken) => broken.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Hyper(body) => body.size_hint(),
            Self::Bare(body) => body.length().map_or_else(SizeHint::default, SizeHint::with_exact),
            Self::Broken(_) => SizeHint::default(),
        }
    }
}

/// The body of an answer, for a client.
pub(crate) enum Answer {
    /// Of the ingress itself.
    Whole(Option<Bytes>),
    /// Of a pod.
    Passed(Passed),
}

/// What comes from a pod.
pub(crate) struct Passed {
    arriving: Arriving,
    patience: Patience,
    /// The connection that it comes by, which serves others afterwards.
    lease: Option<Lease>,
    /// The request counts until its answer is over.
    _counted: Option<Counted>,
}

impl Answer {
    pub(crate) fn whole(text: Bytes) -> Self {
        Self::Whole((!text.is_empty()).then_some(text))
    }

    pub(crate) fn passed(
        arriving: Arriving,
        patience: Duration,
        lease: Option<Lease>,
        counted: Option<Counted>,
    ) -> Self {
        let lease = lease.and_then(|lease| give_back(lease, &arriving));
        let patience = Patience::new(patience);
        Self::Passed(Passed { arriving, patience, lease, _counted: counted })
    }
}

/// Gives the connection back if the body is over, else keeps it.
fn give_back(lease: Lease, body: &Arriving) -> Option<Lease> {
    if body.is_end_stream() {
        lease.give_back();
        return None;
    }
    Some(lease)
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Whole(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Passed(passed) => {
                let wire = passed.lease.as_mut().map(|lease| &mut lease.wire);
                let frame = match (&mut passed.arriving, wire) {
                    (Arriving::Hyper(body), _) => {
                        let frame = Pin::new(body).poll_frame(context);
                        ready!(passed.patience.limit(frame, context))
                    }
                    (Arriving::Bare(body), Some(Wire::Bare(wire))) => {
                        let frame = wire.poll_frame(body, context);
                        ready!(passed.patience.limit(frame, context))
                    }
                    // It is over, and the connection was given back.
                    (Arriving::Bare(_), _) => None,
                    (Arriving::Broken(broken), _) => return Poll::Ready(broken.take().map(Err)),
                };
                match (&frame, passed.lease.take()) {
                    (None, Some(lease)) => lease.give_back(),
                    (Some(Ok(_)), Some(lease)) => passed.lease = give_back(lease, &passed.arriving),
                    (Some(Err(_)), _) | (_, None) => {}
                }
                if let Some(Err(broken)) = frame {
                    // The server closes the connection at once: what came before is sent first.
                    passed.arriving = Arriving::Broken(Some(broken));
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(text) => text.is_none(),
            Self::Passed(passed) => passed.arriving.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Passed(passed) => passed.arriving.size_hint(),
        }
    }
}
