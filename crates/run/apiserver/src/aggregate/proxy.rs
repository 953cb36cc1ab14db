//! Requests that an extension server answers.

use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, Request, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::Extension;
use crate::body::{self, RequestBody, ResponseBody};
use crate::reach::service_endpoint;
use crate::server::Api;
use crate::tunnel::{self, Destination};
use crate::user::User;

/// Headers that tell an extension server who asks.
const USER: &str = "x-remote-user";
const UID: &str = "x-remote-uid";
const GROUP: &str = "x-remote-group";
const EXTRA: &str = "x-remote-extra-";
/// What a header's name cannot carry as it is.
const NAME: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'%')
    .add(b'(')
    .add(b')')
    .add(b',')
    .add(b'/')
    .add(b':')
    .add(b';')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'@')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'{')
    .add(b'}');

/// Sends the request on in the name of its user. Where nobody answers, the answer is a text as upstream's is, so
/// that clients find their own words for it.
pub(crate) async fn serve(
    api: &Api,
    extension: &Extension,
    user: &User,
    request: Request<RequestBody>,
) -> Response<ResponseBody> {
    forwarded(api, extension, user, request).await.unwrap_or_else(|(code, why)| {
        let mut response = Response::new(body::full(format!("{why}\n")));
        *response.status_mut() = code;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    })
}

async fn forwarded(
    api: &Api,
    extension: &Extension,
    user: &User,
    mut request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, (StatusCode, String)> {
    let unavailable = || (StatusCode::SERVICE_UNAVAILABLE, "service unavailable".to_owned());
    if !extension.available {
        return Err(unavailable());
    }
    let reach = extension.reach.as_ref().map_err(|why| (StatusCode::INTERNAL_SERVER_ERROR, why.clone()))?;
    let address = service_endpoint(&api.store, &extension.namespace, &extension.service, extension.port)
        .map_err(|_| unavailable())?;
    introduce(request.headers_mut(), user);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let destination = Destination { address, tls: Some(extension.host()), path };
    let answer = tunnel::forward(&reach.streams, destination, request).await;
    answer.map_err(|status| (StatusCode::SERVICE_UNAVAILABLE, status.message))
}

impl Extension {
    /// The name that its certificate must carry.
    pub(super) fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }
}

/// Says who asks, in headers that only the front proxy's certificate makes believable.
pub(super) fn introduce(headers: &mut HeaderMap, user: &User) {
    let claims = |name: &&HeaderName| {
        name.as_str().starts_with("x-remote-") || name.as_str().starts_with("impersonate-")
    };
    let foreign: Vec<HeaderName> = headers.keys().filter(claims).cloned().collect();
    for name in foreign {
        headers.remove(name);
    }
    let mut add = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    add(USER, &user.name);
    if !user.uid.is_empty() {
        add(UID, &user.uid);
    }
    user.groups.iter().for_each(|group| add(GROUP, group));
    for (key, values) in &user.extra {
        let name = format!("{EXTRA}{}", utf8_percent_encode(&key.to_lowercase(), NAME));
        values.iter().for_each(|value| add(&name, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_server_says_who_asks() {
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", HeaderValue::from_static("eve"));
        headers.insert("x-remote-extra-scope", HeaderValue::from_static("all"));
        headers.insert("accept", HeaderValue::from_static("*/*"));
        let mut user = User::authenticated("ann", &["people"]);
        user.extra.insert("example.com/Key".to_owned(), vec!["1".to_owned(), "2".to_owned()]);
        introduce(&mut headers, &user);
        let mut found: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().expect("text"))).collect();
        found.sort();
        assert_eq!(
            found,
            [
                "accept=*/*",
                "x-remote-extra-example.com%2fkey=1",
                "x-remote-extra-example.com%2fkey=2",
                "x-remote-group=people",
                "x-remote-group=system:authenticated",
                "x-remote-user=ann",
            ]
        );
    }
}
