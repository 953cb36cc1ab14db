//! Ports and the workers that serve them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_client::Backoff;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::connection::{self, Entrance, Front, Kind};
use crate::{Error, Shared};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4096;

/// A port that somebody has is tried again after this time, and then less often: one that was ours before is free in no
/// time, and whoever gives one back finds it served soon.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a worker is given to serve, until it is told to stop.
type Port = (StdListener, Kind, CancellationToken);

/// Ports that should be open.
pub(crate) type Wanted = BTreeMap<SocketAddr, Kind>;

/// Ports that are open, or why they are not.
pub(crate) type States = HashMap<u16, Result<(), String>>;

/// Threads that serve.
pub(crate) struct Workers {
    ports: Vec<mpsc::UnboundedSender<Port>>,
}

/// Tells when all workers have ended.
pub(crate) type Ended = mpsc::Receiver<()>;

/// Serves once somebody wants it; ends when what was under way at shutdown has been answered.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    mut wanted: watch::Receiver<Wanted>,
    states: watch::Sender<States>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        some = async { wanted.wait_for(|wanted| !wanted.is_empty()).await.is_ok() } => if !some { return Ok(()) },
    }
    let (workers, mut ended) = Workers::start(shared, &shutdown)?;
    let (workers, states) = (Arc::new(workers), Arc::new(states));
    let mut open: HashMap<SocketAddr, (Kind, CancellationToken)> = HashMap::new();
    while !shutdown.is_cancelled() {
        let now = wanted.borrow_and_update().clone();
        open.retain(|address, (kind, stop)| {
            let stays = now.get(address) == Some(kind);
            if !stays {
                stop.cancel();
                states.send_modify(|states| drop(states.remove(&address.port())));
            }
            stays
        });
        for (address, kind) in now {
            open.entry(address).or_insert_with(|| {
                let stop = shutdown.child_token();
                let (workers, states, token) = (workers.clone(), states.clone(), stop.clone());
                tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
                    workers.open(address, kind, token, &states).await;
                }));
                (kind, stop)
            });
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            changed = wanted.changed() => if changed.is_err() { shutdown.cancelled().await },
        }
    }
    ended.recv().await;
    Ok(())
}

impl Workers {
    pub(crate) fn start(shared: Arc<Shared>, shutdown: &CancellationToken) -> Result<(Self, Ended), Error> {
        let (running, ended) = mpsc::channel(1);
        let mut ports = Vec::new();
        for number in 0..shared.config.workers.max(1) {
            let (sender, receiver) = mpsc::unbounded_channel();
            let front = Front::new(shared.clone(), shutdown.clone())?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let (runtime, running) = (runtime.map_err(Error::Worker)?, running.clone());
            let life = move || {
                runtime.block_on(work(front, receiver));
                drop(running);
            };
            let thread = std::thread::Builder::new().name(format!("ingress-{number}"));
            thread.spawn(life).map_err(Error::Worker)?;
            ports.push(sender);
        }
        Ok((Self { ports }, ended))
    }

    /// Opens a port. While somebody else has it, users are told, and it is tried again.
    async fn open(
        &self,
        address: SocketAddr,
        kind: Kind,
        stop: CancellationToken,
        states: &watch::Sender<States>,
    ) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let bound = bind(address, self.ports.len());
            let state = bound.as_ref().map(drop).map_err(io::Error::to_string);
            let news =
                states.send_if_modified(|states| states.insert(address.port(), state.clone()) != Some(state));
            let error = match bound {
                Ok(listeners) => return self.serve(listeners, kind, &stop),
                Err(error) => error,
            };
            if news {
                tracing::warn!(%address, %error, "the ingress cannot listen, trying again");
            }
            tokio::time::sleep(backoff.delay()).await;
        }
    }

    /// Gives each worker a listener.
    pub(crate) fn serve(&self, listeners: Vec<StdListener>, kind: Kind, stop: &CancellationToken) {
        for (port, listener) in self.ports.iter().zip(listeners) {
            // A worker ends with the process only.
            let _ = port.send((listener, kind, stop.clone()));
        }
    }
}

/// Listeners that share a port. Nobody else may have it.
pub(crate) fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<StdListener>> {
    // Sockets that share take no notice of each other, even those of another instance: look first.
    drop(socket(address, false)?);
    let mut address = address;
    let mut listeners = Vec::new();
    for _ in 0..count {
        let listener = socket(address, true)?.listen(BACKLOG)?.into_std()?;
        // Port 0 is any for the first and the same for the others.
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn socket(address: SocketAddr, share: bool) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(share)?;
    socket.bind(address)?;
    Ok(socket)
}

/// A worker's life.
async fn work(front: Front, mut ports: mpsc::UnboundedReceiver<Port>) {
    let front = Arc::new(front);
    let upstreams = front.worker.upstreams.clone();
    tokio::spawn(async move { upstreams.sweep().await });
    loop {
        tokio::select! {
            () = front.shutdown.cancelled() => break,
            port = ports.recv() => match port {
                Some(port) => drop(tokio::spawn(accept(front.clone(), port))),
                None => front.shutdown.cancelled().await,
            },
        }
    }
    front.tracker.close();
    let farewell = front.worker.shared.config.farewell;
    if tokio::time::timeout(farewell, front.tracker.wait()).await.is_err() {
        tracing::debug!("some connections did not end in time");
    }
}

async fn accept(front: Arc<Front>, (listener, kind, stop): Port) {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let entrance = Entrance { port, tls: (kind == Kind::Encrypted).then(|| front.acceptor(port)) };
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "a worker of the ingress cannot listen"),
    };
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                // Small answers must not wait for more.
                let _ = stream.set_nodelay(true);
                front.tracker.spawn(connection::run(front.clone(), stream, from, entrance.clone()));
            }
            Err(error) => {
                // Too many open files, usually: others close some.
                tracing::debug!(%error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
