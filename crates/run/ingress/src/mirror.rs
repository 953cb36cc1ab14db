//! Copies of requests, whose answers nobody sees.

use std::time::Duration;

use http::Request;
use http_body::Body as _;
use plimsoll_route::balance::Tried;
use plimsoll_route::gateway::Mirror;

use crate::body::Sending;
use crate::links::Linker;
use crate::serve::Worker;

/// A copy may take so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends a copy to a pod, if there is one, and waits for nothing.
pub(crate) fn send(worker: &Worker, mirror: &Mirror<Linker>, request: Request<Sending>) {
    let Some((_, endpoint)) = mirror.to.choose(None, Tried::default(), worker.shared.now()) else { return };
    let (upstreams, protocol) = (worker.upstreams.clone(), mirror.protocol);
    tokio::spawn(tokio::time::timeout(PATIENCE, async move {
        let known = upstreams.reuse(endpoint.address, protocol).await;
        let sender = match known {
            Some(sender) => Ok(sender),
            None => upstreams.connect(endpoint.address, protocol, PATIENCE).await,
        };
        let Ok(mut sender) = sender else { return };
        if let Ok(mut answer) = sender.send(request).await {
            let body = answer.body_mut();
            while std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context))
                .await
                .is_some()
            {}
        }
    }));
}
