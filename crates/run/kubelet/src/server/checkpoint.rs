//! `POST /checkpoint/{namespace}/{pod}/{container}`: what a container is at this moment, as a file.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use http::{Method, Response, StatusCode, Uri};
use jiff::Timestamp;
use plimsoll_podlife::spec::specs;
use serde_json::json;

use super::{Body, Server, json, plain, query};
use crate::engine::text;

impl Server {
    pub(super) async fn checkpoint(
        &self,
        method: &Method,
        uri: &Uri,
        namespace: &str,
        name: &str,
        container: &str,
    ) -> Response<Body> {
        if method != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed");
        }
        let Ok(pod) = self.pod(namespace, name) else {
            return plain(StatusCode::NOT_FOUND, "pod does not exist");
        };
        if !specs(&pod).iter().any(|spec| spec.name() == container) {
            return plain(StatusCode::NOT_FOUND, format!("container {container} does not exist"));
        }
        let query = query(uri);
        let timeout = query.iter().rfind(|(name, _)| name == "timeout").map(|(_, value)| value.parse());
        let Ok(timeout) = timeout.unwrap_or(Ok(0)) else {
            return plain(StatusCode::NOT_FOUND, "cannot parse value of timeout parameter");
        };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        match self.write_checkpoint(&uid, &format!("{name}_{namespace}"), container, timeout).await {
            Ok(file) => json(&json!({"items": [file]})),
            Err(why) => {
                let what = format!("checkpointing of {namespace}/{name}/{container} failed ({why})");
                plain(StatusCode::INTERNAL_SERVER_ERROR, what)
            }
        }
    }

    async fn write_checkpoint(
        &self,
        uid: &str,
        pod: &str,
        container: &str,
        timeout: i64,
    ) -> Result<String, String> {
        let engine = &self.agent.engine;
        let mut runs = engine.containers(Some(uid)).await.map_err(|status| text(&status))?;
        runs.retain(|run| run.metadata.as_ref().is_some_and(|it| it.name == container));
        let newest = runs.into_iter().max_by_key(|run| run.created_at);
        let run = newest.ok_or_else(|| format!("container {container} not found"))?;
        let folder = self.agent.config.data_dir.join("checkpoints");
        let private = fs::Permissions::from_mode(0o700);
        let made = fs::create_dir_all(&folder).and_then(|()| fs::set_permissions(&folder, private));
        made.map_err(|error| format!("{}: {error}", folder.display()))?;
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let file = folder.join(format!("checkpoint-{pod}-{container}-{now}.tar"));
        engine.checkpoint(&run.id, &file, timeout).await.map_err(|status| text(&status))?;
        Ok(file.to_string_lossy().into_owned())
    }
}
