//! A server that answers from a script.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use kube::client::Body;
use tokio::sync::mpsc;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Gives its answers in order, whatever is asked, and remembers the questions. After the last answer
/// requests hang.
#[derive(Clone, Default)]
pub(crate) struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    pub(crate) fn client(&self) -> kube::Client {
        crate::from_service(self.clone())
    }

    pub(crate) fn answer(&self, code: u16, body: serde_json::Value) {
        let body = http_body_util::Full::new(Bytes::from(body.to_string())).boxed_unsync();
        self.push(code, body);
    }

    /// A watch whose lines come through the sender; it ends when the sender is dropped.
    pub(crate) fn watch(&self) -> mpsc::UnboundedSender<serde_json::Value> {
        let (sender, receiver) = mpsc::unbounded_channel::<serde_json::Value>();
        let lines = futures::stream::unfold(receiver, |mut receiver| async {
            let line = receiver.recv().await?;
            let frame = http_body::Frame::data(Bytes::from(format!("{line}\n")));
            Some((Ok::<_, Infallible>(frame), receiver))
        });
        self.push(200, StreamBody::new(lines.boxed()).boxed_unsync());
        sender
    }

    fn push(&self, code: u16, body: UnsyncBoxBody<Bytes, Infallible>) {
        let answer = Response::builder().status(code).body(body).expect("a status and a body");
        self.answers.lock().expect("unpoisoned").push_back(answer);
    }
}

impl tower::Service<Request<Body>> for Script {
    type Response = Answer;
    type Error = Infallible;
    type Future = futures::future::Either<
        Ready<Result<Answer, Infallible>>,
        futures::future::Pending<Result<Answer, Infallible>>,
    >;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.asked.lock().expect("unpoisoned").push(format!("{} {}", request.method(), request.uri()));
        match self.answers.lock().expect("unpoisoned").pop_front() {
            Some(answer) => futures::future::Either::Left(ready(Ok(answer))),
            None => futures::future::Either::Right(futures::future::pending()),
        }
    }
}
