//! `GET /containerLogs/{namespace}/{pod}/{container}`.

use std::path::PathBuf;

use http::{Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use plimsoll_cri::v1;
use plimsoll_podlife::spec::specs;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::{Body, Server, plain, query, value, yes};
use crate::engine::text;
use crate::logs::{Window, send};

type Query = Vec<(String, String)>;

impl Server {
    pub(super) async fn container_logs(
        &self,
        uri: &Uri,
        namespace: &str,
        name: &str,
        container: &str,
    ) -> Response<Body> {
        let query = query(uri);
        let window = match window(&query, Timestamp::now()) {
            Ok(window) => window,
            Err(why) => return plain(StatusCode::UNPROCESSABLE_ENTITY, why),
        };
        let pod = match self.pod(namespace, name) {
            Ok(pod) => pod,
            Err(refusal) => return *refusal,
        };
        if !specs(&pod).iter().any(|spec| spec.name() == container) {
            let why = format!("container \"{container}\" not found in pod \"{name}\"");
            return plain(StatusCode::NOT_FOUND, why);
        }
        // Listens from before the state is read, so that no end is missed.
        let exits = self.exits.subscribe();
        let run = match self.run_of(&pod, container, yes(&query, &["previous"])).await {
            Ok(run) => run,
            Err(refusal) => return *refusal,
        };
        let running = run.state == v1::ContainerState::ContainerRunning as i32;
        let follow = yes(&query, &["follow"]) && running;
        stream_log(&run, window, follow.then_some(exits))
    }

    /// The run whose log is asked for.
    async fn run_of(
        &self,
        pod: &Pod,
        container: &str,
        previous: bool,
    ) -> Result<v1::ContainerStatus, Box<Response<Body>>> {
        let uid = pod.metadata.uid.as_deref();
        let failed = |status| Box::new(plain(StatusCode::INTERNAL_SERVER_ERROR, text(&status)));
        let refuse = |why: String| Box::new(plain(StatusCode::BAD_REQUEST, why));
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let mut runs = self.agent.engine.containers(uid).await.map_err(failed)?;
        runs.retain(|run| run.metadata.as_ref().is_some_and(|metadata| metadata.name == container));
        runs.sort_by_key(|run| {
            std::cmp::Reverse((run.metadata.as_ref().map(|metadata| metadata.attempt), run.created_at))
        });
        // What was made and never started has no log; its predecessor has.
        let made = v1::ContainerState::ContainerCreated as i32;
        let mut runs = runs.into_iter().filter(|run| run.state != made);
        let run = if previous { runs.nth(1) } else { runs.next() };
        let missing = || match previous {
            true => {
                refuse(format!("previous terminated container \"{container}\" in pod \"{name}\" not found"))
            }
            false => refuse(format!(
                "container \"{container}\" in pod \"{name}\" is waiting to start: {}",
                waiting_reason(pod, container)
            )),
        };
        let id = run.ok_or_else(missing)?.id;
        self.agent.engine.container_status(&id).await.map_err(failed)?.ok_or_else(missing)
    }
}

fn waiting_reason(pod: &Pod, container: &str) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let lists =
        [status.container_statuses, status.init_container_statuses, status.ephemeral_container_statuses];
    let found = lists.into_iter().flatten().flatten().find(|status| status.name == container);
    let reason = found.and_then(|status| status.state?.waiting?.reason);
    reason.unwrap_or_else(|| "ContainerCreating".into())
}

fn stream_log(
    run: &v1::ContainerStatus,
    window: Window,
    exits: Option<broadcast::Receiver<String>>,
) -> Response<Body> {
    let (sender, receiver) = mpsc::channel(16);
    let (path, id) = (PathBuf::from(&run.log_path), run.id.clone());
    tokio::spawn(async move {
        let ended = exits.map(|exits| until_exit(exits, id));
        if let Err(error) = send(path.clone(), window, ended, sender.clone()).await {
            let text = format!("failed to read {}: {error}\n", path.display());
            // Whoever asked may have gone.
            let _ = sender.send(text.into()).await;
        }
    });
    let frames = ReceiverStream::new(receiver).map(|bytes| Ok(Frame::data(bytes)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let kind = header::HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

async fn until_exit(mut exits: broadcast::Receiver<String>, id: String) {
    loop {
        match exits.recv().await {
            Ok(ended) if ended == id => return,
            Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

fn window(query: &Query, now: Timestamp) -> Result<Window, String> {
    let number = |name: &str| match value(query, name) {
        None => Ok(None),
        Some(text) => {
            text.parse::<u64>().map(Some).map_err(|_| format!("{name} must be a number and not negative"))
        }
    };
    let seconds = number("sinceSeconds")?;
    let since = match (value(query, "sinceTime"), seconds) {
        (Some(_), Some(_)) => return Err("at most one of sinceTime or sinceSeconds may be specified".into()),
        (Some(time), None) => Some(time.parse().map_err(|_| format!("sinceTime {time} is no time"))?),
        (None, Some(seconds)) => {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            now.checked_sub(SignedDuration::from_secs(seconds)).ok()
        }
        (None, None) => None,
    };
    Ok(Window {
        tail: number("tailLines")?,
        since,
        timestamps: yes(query, &["timestamps"]),
        limit: number("limitBytes")?,
        stream: match value(query, "stream") {
            Some("Stdout") => Some("stdout"),
            Some("Stderr") => Some("stderr"),
            _ => None,
        },
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn windows_from_queries() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let parse = |text: &str| window(&query(&format!("/x?{text}").parse().unwrap()), now);
        let asked = parse("tailLines=5&sinceSeconds=60&timestamps=true&limitBytes=10&stream=Stderr").unwrap();
        let expected = Window {
            tail: Some(5),
            since: Some("2026-01-01T00:00:00Z".parse().unwrap()),
            timestamps: true,
            limit: Some(10),
            stream: Some("stderr"),
        };
        assert_eq!(asked, expected);
        assert_eq!(parse("").unwrap(), Window::default());
        for bad in
            ["tailLines=-1", "limitBytes=x", "sinceTime=x", "sinceTime=2026-01-01T00:00:00Z&sinceSeconds=1"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
