//! What is changed of requests and answers so that pages of pods and Services work behind the proxy
//! (k8s.io/apimachinery/pkg/util/proxy: transport.go, upgradeaware.go).

mod links;

use bytes::BytesMut;
use futures::{StreamExt, TryStreamExt, stream};
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, LOCATION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use plimsoll_meta::status::Status;

use self::links::Place;
use crate::body::{self, RequestBody, ResponseBody};
use crate::target::ResourcePath;
use crate::tunnel::{self, Destination, Wires};

/// Larger pages pass as they are.
const LARGEST_PAGE: usize = 16 * 1024 * 1024;

/// Hands a request on to a pod or Service.
pub(crate) async fn forward(
    wires: &Wires,
    target: &ResourcePath,
    destination: Destination,
    mut request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Status> {
    let path = request.uri().path();
    let reads = request.method() == Method::GET || request.method() == Method::HEAD;
    if target.rest.is_empty() && !path.ends_with('/') && reads && !request.headers().contains_key(UPGRADE) {
        return moved_permanently(path, request.uri().query());
    }
    let ResourcePath { namespace, resource, name, version, .. } = target;
    let prefix = format!("/api/{version}/namespaces/{namespace}/{resource}/{name}/proxy");
    let asked =
        request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    let forwarded = format!("{prefix}{}", destination.path.split('?').next().unwrap_or_default());
    if let Ok(value) = HeaderValue::from_str(&forwarded) {
        request.headers_mut().insert("x-forwarded-uri", value);
    }
    // So that pages can be read here.
    request.headers_mut().remove(ACCEPT_ENCODING);
    let place = Place { prefix, hosts: [destination.address.to_string(), asked] };
    let mut response = tunnel::forward(wires, destination, request).await?;
    if let Some(location) = response.headers().get(LOCATION) {
        let moved = location.to_str().ok().and_then(|link| place.moved(link));
        if let Some(value) = moved.and_then(|link| HeaderValue::from_str(&link).ok()) {
            response.headers_mut().insert(LOCATION, value);
        }
        return Ok(response);
    }
    if is_page(response.headers()) { with_links(response, &place).await } else { Ok(response) }
}

/// The proxy's own path is that of a folder.
fn moved_permanently(path: &str, query: Option<&str>) -> Result<Response<ResponseBody>, Status> {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let location = HeaderValue::from_str(&format!("{path}/{query}")).map_err(Status::internal)?;
    let mut response = body::encoded(StatusCode::MOVED_PERMANENTLY, "text/plain; charset=utf-8", "");
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

fn is_page(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim() == "text/html"
        && !headers.contains_key(CONTENT_ENCODING)
}

async fn with_links(
    response: Response<ResponseBody>,
    place: &Place,
) -> Result<Response<ResponseBody>, Status> {
    let (mut parts, body) = response.into_parts();
    let broken = |error: body::Error| Status::internal(format!("the page broke off: {error}"));
    let mut rest = BodyStream::new(body).try_filter_map(async |frame| Ok(frame.into_data().ok())).boxed();
    let mut page = BytesMut::new();
    while page.len() <= LARGEST_PAGE {
        let Some(piece) = rest.next().await else { break };
        page.extend_from_slice(&piece.map_err(broken)?);
    }
    let whole = page.len() <= LARGEST_PAGE;
    let page = page.freeze();
    match place.page(&page).filter(|_| whole) {
        Some(moved) => {
            parts.headers.remove(CONTENT_LENGTH);
            Ok(Response::from_parts(parts, body::full(moved)))
        }
        None => {
            let pieces = stream::once(async move { Ok(page) }).chain(rest);
            Ok(Response::from_parts(parts, StreamBody::new(pieces.map_ok(Frame::data)).boxed_unsync()))
        }
    }
}
