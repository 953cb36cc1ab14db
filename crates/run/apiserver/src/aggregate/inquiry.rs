//! Documents that this server itself reads from extension servers.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, IF_NONE_MATCH};
use http::{HeaderValue, Request, Response};

use super::{Extension, proxy};
use crate::user::User;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// GET of a document in JSON in the name of `user`; who has given a tag may be told that nothing changed.
pub(super) async fn get(
    extension: &Extension,
    path: &str,
    user: &User,
    tag: Option<&HeaderValue>,
) -> Result<Response<Bytes>, String> {
    let reach = extension.reach.as_ref().map_err(Clone::clone)?;
    let url = format!("https://{}:{}{path}", extension.host(), extension.port);
    let mut request = Request::get(&url)
        .header(ACCEPT, "application/json")
        .body(Bytes::new())
        .map_err(|error| error.to_string())?;
    request.headers_mut().extend(tag.map(|tag| (IF_NONE_MATCH, tag.clone())));
    proxy::introduce(request.headers_mut(), user);
    reach
        .documents
        .send(request, PATIENCE)
        .await
        .map_err(|error| format!("failing or missing response from {url}: Get {url:?}: {error}"))
}
