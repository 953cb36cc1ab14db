//! `plimsoll demo`: a web server for trying clusters out.
//!
//! It says which pod and node answered, and on request is slow, fails, fills the memory or
//! burns the processor. It is the whole content of the image `plimsoll.io/demo`, and runs as
//! an ordinary program as well.

mod answer;
mod load;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use answer::Identity;

/// A client must send its request's head within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// After a drain, requests in progress may take this long.
const LAST_REQUESTS: Duration = Duration::from_secs(5);
/// Threads for requests that burn or allocate; more wait.
const WORKERS: usize = 32;

/// Options of `plimsoll demo`.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct DemoArgs {
    /// Port to listen on
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// Seconds after which /healthz says that it is ready
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub ready_after: Duration,
    /// Seconds to go on serving, no longer ready, after a SIGTERM
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub drain: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// What all requests share.
#[derive(Debug)]
struct Server {
    identity: Identity,
    ready: AtomicBool,
    draining: AtomicBool,
    /// Requests in progress.
    active: AtomicUsize,
    load: load::Load,
}

/// Serves until a signal ends it.
pub(crate) fn run(args: DemoArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(WORKERS)
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .context("start the runtime")?;
    let result = runtime.block_on(serve(&args));
    // Work that somebody asked for and nobody waits for any more does not hold the process up.
    runtime.shutdown_background();
    result
}

async fn serve(args: &DemoArgs) -> anyhow::Result<()> {
    // Before anything else, so that a signal is never too early for process 1 of a container.
    let mut terminate = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen to SIGINT")?;
    let listener = listen(args.port).await.with_context(|| format!("listen on port {}", args.port))?;
    let server = Arc::new(Server {
        identity: Identity::of_process(),
        ready: AtomicBool::new(args.ready_after.is_zero()),
        draining: AtomicBool::new(false),
        active: AtomicUsize::new(0),
        load: load::Load::default(),
    });
    println!("listening on port {}", listener.local_addr().context("own address")?.port());
    let accepting = tokio::spawn(accept(listener, server.clone()));
    tokio::spawn(become_ready(server.clone(), args.ready_after));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => return Ok(()),
    }
    if args.drain.is_zero() {
        return Ok(());
    }
    println!("draining for {} s", args.drain.as_secs_f64());
    server.draining.store(true, Ordering::Relaxed);
    tokio::select! {
        () = tokio::time::sleep(args.drain) => {}
        _ = interrupt.recv() => return Ok(()),
    }
    accepting.abort();
    let finished = async {
        while server.active.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // Whoever is still not answered then asked for too much.
    let _ = tokio::time::timeout(LAST_REQUESTS, finished).await;
    Ok(())
}

/// All addresses of both families, or of IPv4 where there is no other.
async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Err(error)
            if error.kind() != io::ErrorKind::AddrInUse
                && error.kind() != io::ErrorKind::PermissionDenied =>
        {
            TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await
        }
        other => other,
    }
}

async fn become_ready(server: Arc<Server>, after: Duration) {
    tokio::time::sleep(after).await;
    server.ready.store(true, Ordering::Relaxed);
    println!("ready");
}

async fn accept(listener: TcpListener, server: Arc<Server>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Small answers must not wait for each other.
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection(stream, server.clone()));
            }
            // Out of descriptors: those who leave make room.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connection(stream: tokio::net::TcpStream, server: Arc<Server>) {
    let service = service_fn(move |request| {
        let server = server.clone();
        async move {
            server.active.fetch_add(1, Ordering::Relaxed);
            let answer = answer::answer(&server, request).await;
            server.active.fetch_sub(1, Ordering::Relaxed);
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    // Clients may leave whenever they like.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}
