//! A port of its own for metrics, as many of upstream's components have one.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Clients may take so long for all that they ask on a connection.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer: status, media type, text.
pub type Page = (StatusCode, &'static str, String);

/// Text that is nothing else.
pub const TEXT: &str = "text/plain; charset=utf-8";

/// Answers requests for ever: `pages` is asked with a path and the media types that the client accepts.
pub async fn serve(
    listener: TcpListener,
    pages: impl Fn(&str, &str) -> Option<Page> + Clone + Send + 'static,
) {
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let pages = pages.clone();
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok());
            let page = pages(request.uri().path(), accept.unwrap_or_default());
            async move { Ok::<_, Infallible>(response(page)) }
        });
        let serving =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service);
        // Clients that go away, or do not say what they want in time, are no news.
        tokio::spawn(tokio::time::timeout(PATIENCE, serving));
    }
}

fn response(page: Option<Page>) -> Response<Full<Bytes>> {
    let missing = || (StatusCode::NOT_FOUND, TEXT, "404 page not found\n".to_owned());
    let (status, media, text) = page.unwrap_or_else(missing);
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media));
    response
}
