//! `plimsoll up`: the whole cluster in one process.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::time::Duration;

use anyhow::Context;
use plimsoll_simulate::Simulation;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::Up;
use crate::control_plane::ControlPlane;
use crate::instance::Instance;
use crate::progress::Progress;
use crate::{detach, log, node, preflight};

/// After a signal the parts have this long to end.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);

pub(crate) fn run(options: &Up) -> anyhow::Result<()> {
    let (instance, claim) = Instance::choose(options)?;
    let detached = std::env::var_os(detach::MARK).is_some();
    let agent = node::settings(options, &instance)?;
    preflight::check(options, &instance, &agent.settings)?;
    let mut builder = fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(&instance.directory)
        .with_context(|| format!("make {}", instance.directory.display()))?;
    let instance = Instance {
        directory: instance.directory.canonicalize().context("find the data directory")?,
        ..instance
    };
    instance.save()?;
    if options.detach && !detached {
        // The process that stays makes it its own.
        drop(claim);
        return detach::detach(&instance.directory);
    }
    let reader = if detached { log::Reader::File } else { log::Reader::Terminal };
    log::begin(reader, options.agent.log_format(&agent.settings));
    let runtime = runtime()?;
    let outcome = runtime.block_on(serve(options, &instance));
    runtime.shutdown_timeout(FAREWELL);
    outcome
}

/// A few threads serve everything; each idle one costs memory.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8))
        .max_blocking_threads(64)
        .thread_keep_alive(Duration::from_secs(5))
        .enable_all()
        .build()
        .context("start the runtime")
}

async fn serve(options: &Up, instance: &Instance) -> anyhow::Result<()> {
    let progress = Progress::begin();
    let pid = instance.file("plimsoll.pid");
    fs::write(&pid, format!("{}\n", std::process::id()))
        .with_context(|| format!("write {}", pid.display()))?;
    let shutdown = CancellationToken::new();
    stop_on_signal(shutdown.clone())?;
    let outcome = cluster(options, instance, &progress, &shutdown).await;
    shutdown.cancel();
    // Somebody else's file stays: the next start may already have written its own.
    if fs::read_to_string(&pid).is_ok_and(|text| text.trim() == std::process::id().to_string()) {
        let _ = fs::remove_file(&pid);
    }
    outcome
}

/// Ends the program when it is told to.
pub(crate) fn stop_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}

/// Says that the machine goes down when the signal for failing power comes.
pub(crate) fn leave_on_signal(leaving: CancellationToken) -> anyhow::Result<()> {
    let mut power = signal(SignalKind::from_raw(nix::sys::signal::Signal::SIGPWR as i32))?;
    tokio::spawn(async move {
        power.recv().await;
        leaving.cancel();
    });
    Ok(())
}

async fn cluster(
    options: &Up,
    instance: &Instance,
    progress: &Progress,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let plane = ControlPlane::start(options, instance, shutdown).await?;
    options.store.serve(plane.server.store(), &instance.directory, shutdown).await?;
    progress.step(&format!("API server on https://{}", options.listen));
    let mut tasks = plane.controllers(shutdown);
    progress.step("scheduler and controllers");
    if let Some(config) = options.simulated.config() {
        let client = plane.client("plimsoll-simulate", "plimsoll:simulate", &["system:masters"]);
        let simulation = Simulation::register(config, plane.informers.clone(), client).await;
        progress.step(&format!("{} simulated nodes", options.simulated.simulated_nodes));
        let stop = shutdown.clone();
        tasks.spawn(async move {
            ("simulated nodes", {
                simulation.run(stop).await;
                Ok(())
            })
        });
    }
    if !options.no_node {
        let name = node::name(options.node_name.as_deref(), "--node-name")?;
        // The node may be known as ready from the run before.
        let joined = node::start(&plane, options, instance, &name, &mut tasks, shutdown).await?;
        progress.step(&format!("node {name}: engine, network, resolver and agent"));
        tokio::select! {
            () = joined.cancelled() => {}
            () = shutdown.cancelled() => return Ok(()),
            ended = tasks.join_next() => return node::unexpected(ended),
        }
    }
    progress.line(&format!("kubeconfig: {}", plane.kubeconfig.display()));
    progress.ready();
    tokio::select! {
        () = shutdown.cancelled() => {}
        ended = tasks.join_next() => {
            if !shutdown.is_cancelled() {
                return node::unexpected(ended);
            }
        }
    }
    let farewell = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
        tracing::warn!("some parts did not end in time");
    }
    if tokio::time::timeout(FAREWELL + options.limits.shutdown_delay_duration, plane.server.drained())
        .await
        .is_err()
    {
        tracing::warn!("some requests were not answered in time");
    }
    Ok(())
}
