//! What can go wrong, before and after the upgrade.

use http::{Response, StatusCode, header::HeaderName};

/// The request cannot be upgraded.
#[derive(Debug, thiserror::Error)]
#[error("unable to upgrade: {message}")]
pub struct Refusal {
    /// The status of the response.
    pub status: StatusCode,
    /// What is wrong.
    pub message: String,
    /// What would have been accepted, if that is the question.
    pub(crate) accepted: Vec<&'static str>,
}

/// The header that lists the stream protocols of the server.
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

impl Refusal {
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into(), accepted: Vec::new() }
    }

    pub(crate) fn no_protocol(offered: &[String], accepted: Vec<&'static str>) -> Self {
        let message = format!("client supports {offered:?}, server accepts {accepted:?}");
        Self { status: StatusCode::FORBIDDEN, message, accepted }
    }

    /// The response to send.
    #[must_use]
    pub fn response(&self) -> Response<String> {
        let mut response = Response::new(self.to_string());
        *response.status_mut() = self.status;
        for protocol in &self.accepted {
            response.headers_mut().append(ACCEPTED, http::HeaderValue::from_static(protocol));
        }
        response
    }
}

/// The upgraded connection is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StreamingError {
    /// The upgrade did not happen.
    #[error("connection was not upgraded: {0}")]
    Upgrade(#[from] hyper::Error),
    /// The client did not open the streams that it asked for.
    #[error("client did not open its streams in time")]
    Timeout,
    /// The client went away.
    #[error("client is gone")]
    Gone,
    /// The connection failed.
    #[error("connection failed: {0}")]
    Io(#[from] std::io::Error),
}
