//! Copies of requests, whose answers nobody sees and for which nobody waits.
//!
//! The pieces of a body are passed to the copies as they come. A copy that takes them too slowly is given up: requests
//! are not slower for it, and what waits for it stays small.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use plimsoll_route::balance::Tried;
use plimsoll_route::gateway::Mirror;
use tokio::sync::mpsc;

use crate::body::{Answer, Broken, Sending};
use crate::links::Linker;
use crate::serve::Worker;
use crate::wire::Mover;

/// A copy may take so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pieces that may wait for a copy.
const WAITING: usize = 64;

/// A piece of a body, or its end.
type Piece = Option<Frame<Bytes>>;

/// The copies of a body that are on their way.
#[derive(Default)]
pub(crate) struct Copies {
    all: Vec<mpsc::Sender<Piece>>,
}

/// The body of a copy.
pub(crate) struct Copied {
    pieces: mpsc::Receiver<Piece>,
    size: SizeHint,
}

impl Copies {
    /// One more, of a body of this size.
    pub(crate) fn add(&mut self, size: SizeHint) -> Copied {
        let (sender, pieces) = mpsc::channel(WAITING);
        self.all.push(sender);
        Copied { pieces, size }
    }

    /// Passes a piece on. Without the end, which `ends` is, a copy counts as broken off.
    pub(crate) fn tell(&mut self, frame: Option<&Frame<Bytes>>, ends: bool) {
        let twin = |frame: &Frame<Bytes>| match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Some(Frame::data(data.clone())),
            (None, trailers) => Some(Frame::trailers(trailers?.clone())),
        };
        self.all.retain(|copy| {
            let told = frame.and_then(twin).is_none_or(|frame| copy.try_send(Some(frame)).is_ok());
            told && (!ends || copy.try_send(None).is_ok())
        });
        if ends {
            self.all.clear();
        }
    }
}

impl Body for Copied {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match ready!(self.get_mut().pieces.poll_recv(context)) {
            Some(piece) => Poll::Ready(piece.map(Ok)),
            None => Poll::Ready(Some(Err(Broken::Off))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

/// Sends a copy to a pod, if there is one, and waits for nothing.
pub(crate) fn send(worker: &Worker, mirror: &Mirror<Linker>, request: Request<Sending>) {
    let Some((_, endpoint)) = mirror.to.choose(None, Tried::default(), worker.shared.now()) else { return };
    let (upstreams, protocol) = (worker.upstreams.clone(), mirror.protocol);
    tokio::spawn(tokio::time::timeout(PATIENCE, async move {
        let known = upstreams.reuse(endpoint.address, protocol, Mover::Task).await;
        let sender = match known {
            Some(sender) => Ok(sender),
            None => upstreams.connect(endpoint.address, protocol, Mover::Task, PATIENCE).await,
        };
        let Ok(mut sender) = sender else { return };
        if let Ok(answer) = sender.send(request, false).await {
            let mut body = Answer::passed(answer.into_body(), PATIENCE, None, None);
            while poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await.is_some() {}
        }
    }));
}
