//! Tells load balancers whether a Service has endpoints on this node (kube-proxy: pkg/proxy/healthcheck,
//! v1.37).

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use plimsoll_netplan::services::plan::ServiceKey;
use tokio::task::AbortHandle;

/// A connection that asks for nothing ends after this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// The ports where load balancers ask, each for one Service.
#[derive(Debug, Default)]
pub(crate) struct HealthChecks {
    /// Whether the rules are as the Services want them.
    healthy: Arc<AtomicBool>,
    wanted: HashMap<ServiceKey, u16>,
    open: HashMap<ServiceKey, Check>,
}

#[derive(Debug)]
struct Check {
    port: u16,
    count: Arc<AtomicUsize>,
    serving: AbortHandle,
}

impl Drop for Check {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl HealthChecks {
    /// Notes a Service's port and how many endpoints it has here; nothing when it wants no checks.
    pub(crate) fn wish(&mut self, key: &ServiceKey, wanted: Option<(u16, usize)>) {
        let Some((port, count)) = wanted else {
            self.wanted.remove(key);
            self.open.remove(key);
            return;
        };
        self.wanted.insert(key.clone(), port);
        match self.open.get(key) {
            Some(check) if check.port == port => check.count.store(count, Ordering::Relaxed),
            _ => drop(self.open.remove(key)),
        }
    }

    /// Opens what is not open; answers whether all is.
    pub(crate) fn settle(&mut self, count: impl Fn(&ServiceKey) -> usize) -> bool {
        for (key, port) in &self.wanted {
            if self.open.contains_key(key) {
                continue;
            }
            match Check::open(key, *port, count(key), self.healthy.clone()) {
                Ok(check) => drop(self.open.insert(key.clone(), check)),
                Err(error) => {
                    let (namespace, name) = key;
                    tracing::warn!(namespace, name, port, %error, "the port for health checks is not open");
                }
            }
        }
        self.open.len() == self.wanted.len()
    }

    /// Notes whether the rules are as the Services want them.
    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }
}

impl Check {
    fn open(key: &ServiceKey, port: u16, count: usize, healthy: Arc<AtomicBool>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
            .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let count = Arc::new(AtomicUsize::new(count));
        let (key, counted) = (key.clone(), count.clone());
        let serving = tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    // Out of descriptors: some come back soon.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                };
                let (key, counted, healthy) = (key.clone(), counted.clone(), healthy.clone());
                let answer = service_fn(move |_: Request<Incoming>| {
                    let (count, healthy) = (counted.load(Ordering::Relaxed), healthy.load(Ordering::Relaxed));
                    std::future::ready(Ok::<_, Infallible>(answer(&key, count, healthy)))
                });
                let mut server = hyper::server::conn::http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
                tokio::spawn(server.serve_connection(TokioIo::new(stream), answer));
            }
        });
        Ok(Self { port, count, serving: serving.abort_handle() })
    }
}

fn answer((namespace, name): &ServiceKey, count: usize, healthy: bool) -> Response<Full<Bytes>> {
    let status = if count != 0 && healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\
         \t\"localEndpoints\": {count},\n\t\"serviceProxyHealthy\": {healthy}\n}}\n"
    );
    Response::builder()
        .status(status)
        .header("Content-Type", "application/json")
        .header("X-Content-Type-Options", "nosniff")
        .header("X-Load-Balancing-Endpoint-Weight", count)
        .body(Full::new(Bytes::from(body)))
        .expect("the headers are valid")
}
