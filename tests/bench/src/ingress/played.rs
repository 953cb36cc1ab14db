//! An API server that is played: lists that are given, and changes of them that are told as they come.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// A change, with the resource that it is of.
type Change = (&'static str, Bytes);

/// The API server.
#[derive(Clone)]
pub(crate) struct Api {
    lists: Arc<BTreeMap<&'static str, Vec<Value>>>,
    changes: broadcast::Sender<Change>,
}

impl Api {
    /// Has these objects, by the resource's name in paths.
    pub(crate) fn new(lists: impl IntoIterator<Item = (&'static str, Vec<Value>)>) -> Self {
        Self { lists: Arc::new(lists.into_iter().collect()), changes: broadcast::Sender::new(1024) }
    }

    /// A client of it.
    pub(crate) fn client(&self) -> kube::Client {
        plimsoll_client::from_service(self.clone())
    }

    /// Tells those who watch that an object is another one now.
    pub(crate) fn change(&self, resource: &'static str, object: &Value) {
        let line = format!("{}\n", json!({"type": "MODIFIED", "object": object}));
        // Nobody need watch.
        let _ = self.changes.send((resource, line.into()));
    }

    fn watched(&self, resource: String) -> UnsyncBoxBody<Bytes, Infallible> {
        let next = |(mut changes, resource): (broadcast::Receiver<Change>, String)| async move {
            loop {
                match changes.recv().await {
                    Ok((of, line)) if of == resource => {
                        return Some((Ok(Frame::data(line)), (changes, resource)));
                    }
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
        };
        StreamBody::new(futures::stream::unfold((self.changes.subscribe(), resource), next)).boxed_unsync()
    }

    fn answer(&self, method: &Method, resource: &str, watch: bool) -> UnsyncBoxBody<Bytes, Infallible> {
        if watch {
            return self.watched(resource.to_owned());
        }
        let body = match *method {
            Method::GET => {
                json!({"metadata": {"resourceVersion": "9"}, "items": self.lists.get(resource).map_or(&[][..], Vec::as_slice)})
            }
            // Events, say.
            _ => json!({"metadata": {"name": "made"}}),
        };
        Full::new(Bytes::from(body.to_string())).boxed_unsync()
    }
}

impl tower::Service<Request<kube::client::Body>> for Api {
    type Response = Response<UnsyncBoxBody<Bytes, Infallible>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let watch = request.uri().query().unwrap_or_default().contains("watch=");
        let resource = request.uri().path().rsplit('/').next().unwrap_or_default();
        let answer = self.answer(request.method(), resource, watch);
        Box::pin(std::future::ready(Ok(Response::new(answer))))
    }
}
