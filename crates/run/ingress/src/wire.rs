//! A connection to a pod that takes one request at a time (HTTP/1.1).
//!
//! A task for each connection would have to be woken for each request and wake the request's task for each answer. So
//! whoever waits for an answer moves the connection on, too, where nothing else goes by it at the same time. A request
//! with a body, or one that asks for another protocol, needs both directions at once: its connection gets a task.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop::unconstrained;

use crate::body::Sending;

/// Who moves a connection on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mover {
    /// Whoever waits for the answer.
    Asker,
    /// A task of its own.
    Task,
}

type Moving = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// The connection.
pub(crate) struct Wire {
    sender: http1::SendRequest<Sending>,
    /// What is moved on; none if a task does that, or if it is over.
    moving: Option<Moving>,
}

impl Wire {
    pub(crate) async fn new<S>(stream: S) -> hyper::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, moving: Some(Box::pin(connection.with_upgrades())) })
    }

    /// Who moves it on.
    pub(crate) fn mover(&self) -> Mover {
        if self.moving.is_some() { Mover::Asker } else { Mover::Task }
    }

    /// The same for a request that wants this mover, or can do with it.
    pub(crate) fn moved_by(mut self, mover: Mover) -> Self {
        if mover == Mover::Task
            && let Some(moving) = self.moving.take()
        {
            tokio::spawn(moving);
        }
        self
    }

    fn advance(&mut self, context: &mut Context<'_>) {
        if self.moving.as_mut().is_some_and(|moving| moving.as_mut().poll(context).is_ready()) {
            self.moving = None;
        }
    }

    /// Whether it was over when it was last moved on.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether the pod has closed it in the meantime.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.advance(&mut Context::from_waker(Waker::noop()));
        self.sender.is_closed()
    }

    /// Whether another request can be sent, as soon as that is known.
    pub(crate) async fn ready(&mut self) -> bool {
        match self.mover() {
            Mover::Asker => !self.has_ended() && self.sender.is_ready(),
            Mover::Task => self.sender.ready().await.is_ok(),
        }
    }

    /// Sends, and gives the request back if nothing of it was sent.
    pub(crate) async fn send(
        &mut self,
        request: Request<Sending>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Sending>>> {
        let sent = self.sender.try_send_request(request);
        if self.moving.is_none() {
            return sent.await;
        }
        // Only the connection can give the answer, and it is asked right before: nobody need be woken for that.
        let mut sent = pin!(unconstrained(sent));
        poll_fn(|context| {
            self.advance(context);
            sent.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }

    /// The next piece of an answer.
    pub(crate) fn poll_frame(
        &mut self,
        answer: &mut Incoming,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        if self.moving.is_some() {
            let known = Pin::new(&mut *answer).poll_frame(&mut Context::from_waker(Waker::noop()));
            if known.is_ready() {
                return known;
            }
            self.advance(context);
        }
        Pin::new(answer).poll_frame(context)
    }
}
