//! A connection to a pod that takes one request at a time (HTTP/1.1).
//!
//! Most requests have no body and ask for no other protocol. Whoever sends one writes it, reads the head of the answer
//! and then the body as the client takes it: nobody else has to be woken for that. A request with a body, or one that
//! asks for another protocol, needs both directions at once: hyper sees to it in a task of the connection's own.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::uri::PathAndQuery;
use http::{Method, Request, Response};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper::ext::ReasonPhrase;
use hyper_util::rt::TokioIo;
use plimsoll_route::answer::{self, Head, Piece};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

use crate::body::{Arriving, Broken, Sending, twin};

/// Bytes that are read at once, first and at most.
const FIRST: usize = 8 << 10;
const MOST: usize = 128 << 10;

/// Who moves a request and its answer on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mover {
    /// Whoever waits for the answer.
    Asker,
    /// A task of the connection's own.
    Task,
}

/// The connection.
pub(crate) enum Wire {
    Bare(Bare),
    Tasked(http1::SendRequest<Sending>),
}

/// Bytes go both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection without a task.
pub(crate) struct Bare {
    stream: Box<dyn Stream>,
    input: BytesMut,
    output: Vec<u8>,
    /// Bytes to read next.
    piece: usize,
    /// Whether another request may follow the present one.
    stays: bool,
}

/// Why there is no answer.
enum Lost {
    /// The pod knows nothing of the request.
    Unsent,
    /// The pod may know of it, and said nothing.
    Unanswered,
    /// There is no sense in the answer.
    Senseless,
}

/// An answer whose body is still to come; else the request, if it may be sent again.
pub(crate) type Answered = Result<Response<Arriving>, Option<Request<Sending>>>;

impl Wire {
    pub(crate) fn new(stream: impl Stream + 'static) -> Self {
        let (input, output) = Default::default();
        Self::Bare(Bare { stream: Box::new(stream), input, output, piece: FIRST, stays: true })
    }

    /// Who moves requests on.
    pub(crate) fn mover(&self) -> Mover {
        if matches!(self, Self::Bare(_)) { Mover::Asker } else { Mover::Task }
    }

    /// The same for a request that wants this mover, or can do with it.
    pub(crate) async fn moved_by(self, mover: Mover) -> hyper::Result<Self> {
        match self {
            Self::Bare(bare) if mover == Mover::Task => {
                let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(bare.stream)).await?;
                tokio::spawn(connection.with_upgrades());
                Ok(Self::Tasked(sender))
            }
            same => Ok(same),
        }
    }

    /// Whether it is known to be over.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Bare(bare) => !bare.stays || !bare.input.is_empty(),
            Self::Tasked(sender) => sender.is_closed(),
        }
    }

    /// Whether the pod has closed it in the meantime, or said something unasked.
    pub(crate) fn has_ended(&mut self) -> bool {
        match self {
            Self::Bare(bare) => bare.poll_more(&mut Context::from_waker(Waker::noop())).is_ready(),
            Self::Tasked(sender) => sender.is_closed(),
        }
    }

    /// Whether another request can be sent, as soon as that is known.
    pub(crate) async fn ready(&mut self) -> bool {
        match self {
            Self::Bare(_) => !self.has_ended(),
            Self::Tasked(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Sends a request, which `twice` allows to be sent again though the pod may have seen it.
    pub(crate) async fn send(&mut self, request: Request<Sending>, twice: bool) -> Answered {
        let method = request.method().clone();
        match self {
            Self::Bare(bare) => match bare.write(&request).ask(&method).await {
                Ok(head) => Ok(response(head)),
                Err(Lost::Unsent) => Err(Some(request)),
                Err(Lost::Unanswered) => Err(twice.then_some(request)),
                Err(Lost::Senseless) => Err(None),
            },
            Self::Tasked(sender) => {
                let spare = twice.then(|| twin(&request));
                by_hyper(sender.try_send_request(request), spare).await
            }
        }
    }
}

/// The same of an answer that hyper reads.
pub(crate) async fn by_hyper(
    sent: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Sending>>>>,
    spare: Option<Request<Sending>>,
) -> Answered {
    match sent.await {
        Ok(response) => Ok(response.map(Arriving::Hyper)),
        Err(mut error) => Err(error.take_message().or(spare)),
    }
}

fn response(Head { status, reason, headers, body, .. }: Head) -> Response<Arriving> {
    let mut response = Response::new(Arriving::Bare(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if let Some(reason) = reason.and_then(|reason| ReasonPhrase::try_from(reason).ok()) {
        response.extensions_mut().insert(reason);
    }
    response
}

impl Bare {
    /// Takes the request that is sent next.
    fn write(&mut self, request: &Request<Sending>) -> &mut Self {
        self.output.clear();
        write(request, &mut self.output);
        self
    }

    /// Sends it, and waits for the answer's head.
    async fn ask(&mut self, method: &Method) -> Result<Head, Lost> {
        self.stays = false;
        self.piece = FIRST;
        self.flush().await?;
        loop {
            if let Some(head) = answer::head(&mut self.input, method).map_err(|_| Lost::Senseless)? {
                self.stays = head.stays;
                return Ok(head);
            }
            let lost = if self.input.is_empty() { Lost::Unanswered } else { Lost::Senseless };
            match poll_fn(|context| self.poll_more(context)).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(lost),
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Lost> {
        let mut sent = 0;
        let flushed: io::Result<()> = poll_fn(|context| {
            while sent < self.output.len() {
                match ready!(Pin::new(&mut self.stream).poll_write(context, &self.output[sent..]))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    more => sent += more,
                }
            }
            Pin::new(&mut self.stream).poll_flush(context)
        })
        .await;
        flushed.map_err(|_| if sent == 0 { Lost::Unsent } else { Lost::Unanswered })
    }

    /// Reads more.
    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(self.piece);
        let room = self.input.capacity() - self.input.len();
        let count = ready!(poll_read_buf(Pin::new(&mut self.stream), context, &mut self.input))?;
        if count == room {
            self.piece = (self.piece * 2).min(MOST);
        }
        Poll::Ready(Ok(count))
    }

    /// The next piece of an answer's body.
    pub(crate) fn poll_frame(
        &mut self,
        body: &mut answer::Body,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            match body.next(&mut self.input)? {
                Some(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Piece::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                None if body.is_over() => return Poll::Ready(None),
                None => match ready!(self.poll_more(context))? {
                    0 if body.close() => return Poll::Ready(None),
                    0 => return Poll::Ready(Some(Err(Broken::Off))),
                    _ => {}
                },
            }
        }
    }
}

/// Writes the head of a request that has no body.
fn write(request: &Request<Sending>, output: &mut Vec<u8>) {
    let (method, headers) = (request.method(), request.headers());
    let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    for part in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        output.extend_from_slice(part.as_bytes());
    }
    for (name, value) in headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            output.extend_from_slice(part);
        }
    }
    if headers.contains_key(CONTENT_LENGTH) || [Method::POST, Method::PUT, Method::PATCH].contains(method) {
        output.extend_from_slice(b"content-length: 0\r\n");
    }
    output.extend_from_slice(b"\r\n");
}
