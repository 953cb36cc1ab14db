//! gRPC's health service, `grpc.health.v1.Health/Check` (kubelet: pkg/probe/grpc).

use std::pin::pin;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::future::{Either, select};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use plimsoll_podlife::probe::Outcome;
use prost::Message;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::ANSWER;
use super::dial::dial;

/// How long a server that does not take connections yet is left alone.
const PAUSE: Duration = Duration::from_millis(200);
/// What stands before each message: not compressed, then its length.
const PREFIX: usize = 5;

/// Who is asked for.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

/// How it is.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    pub(super) status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

impl ServingStatus {
    fn word(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::ServiceUnknown => "SERVICE_UNKNOWN",
        }
    }
}

/// Asks one server for one service.
pub(super) async fn check(address: &str, service: &str, timeout: Duration) -> Outcome {
    let end = Instant::now() + timeout;
    let shown = format!("{}s", timeout.as_secs());
    let Some(stream) = connect(address, end).await else {
        let why = "context deadline exceeded";
        return Outcome::Failure(format!(
            "timeout: failed to connect service \"{address}\" within {shown}: {why}"
        ));
    };
    match tokio::time::timeout_at(end, call(stream, address, service)).await {
        Ok(Ok(answer)) => judge(answer),
        Ok(Err(status)) if status.code() != Code::DeadlineExceeded => failed(&status),
        _ => Outcome::Failure(format!("timeout: health rpc did not complete within {shown}")),
    }
}

/// Connects as soon as the server takes connections.
async fn connect(address: &str, end: Instant) -> Option<TcpStream> {
    loop {
        if let Ok(stream) = dial(address, end.duration_since(Instant::now())).await {
            return Some(stream);
        }
        if Instant::now() + PAUSE >= end {
            tokio::time::sleep_until(end).await;
            return None;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn judge(answer: HealthCheckResponse) -> Outcome {
    match answer.status() {
        ServingStatus::Serving => Outcome::Success,
        other => Outcome::Failure(format!("service unhealthy (responded with \"{}\")", other.word())),
    }
}

fn failed(status: &Status) -> Outcome {
    let message = status.message();
    Outcome::Failure(match status.code() {
        Code::Unimplemented => format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        ),
        code => format!("error: health rpc probe failed: rpc error: code = {code:?} desc = {message}"),
    })
}

/// One call on a connection of its own.
async fn call(stream: TcpStream, address: &str, service: &str) -> Result<HealthCheckResponse, Status> {
    let broken = |error: hyper::Error| Status::unavailable(error.to_string());
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(broken)?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", crate::prober::AGENT)
        .body(Full::new(frame(service)))
        .map_err(|error| Status::internal(error.to_string()))?;
    let exchange = pin!(async { answer(sender.send_request(request).await.map_err(broken)?).await });
    match select(exchange, pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, exchange)) => exchange.await,
    }
}

fn frame(service: &str) -> Bytes {
    let message = HealthCheckRequest { service: service.to_owned() }.encode_to_vec();
    let mut frame = BytesMut::with_capacity(PREFIX + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(&message);
    frame.freeze()
}

/// Status and message of an answer: the status is in the trailers, or in the headers when there is no message.
async fn answer(answer: Response<Incoming>) -> Result<HealthCheckResponse, Status> {
    let (parts, body) = answer.into_parts();
    let body =
        Limited::new(body, ANSWER).collect().await.map_err(|error| Status::internal(error.to_string()))?;
    let late = body.trailers().and_then(Status::from_header_map);
    let status = late.or_else(|| Status::from_header_map(&parts.headers)).unwrap_or_else(|| {
        Status::unknown(format!("unexpected HTTP status code received from server: {}", parts.status))
    });
    if status.code() != Code::Ok {
        return Err(status);
    }
    let body = body.to_bytes();
    let message = body.get(PREFIX..).ok_or_else(|| Status::internal("the answer has no message"))?;
    HealthCheckResponse::decode(message).map_err(|error| Status::internal(error.to_string()))
}
