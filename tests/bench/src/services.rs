//! What many Services cost a node: programming all of them, one endpoint's change, a connection's first packet.
//!
//! Runs in a network namespace of its own, where the pods' network and rules are real and the API server is a list.

use std::convert::Infallible;
use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use kube::client::Body;
use plimsoll_client::Informers;
use plimsoll_kernel::link::{LOOPBACK, Links, in_namespace};
use plimsoll_kernel::pod_network::{Attach, PodNetwork as _};
use plimsoll_network::{BridgeNetwork, Config, ConnectedBy, Metrics};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::report;

/// How many Services there are, few and many.
const COUNTS: [usize; 2] = [10, 10_000];
/// Connections whose first packet is timed.
const CONNECTIONS: usize = 2_000;
/// Changes of one endpoint.
const CHANGES: usize = 300;

/// Measures in a namespace of its own; needs root.
pub(crate) fn run() -> anyhow::Result<()> {
    std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).context("a network namespace")?;
        Links::open()?.set_up(LOOPBACK)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let outcome = runtime.block_on(measure());
        runtime.shutdown_background();
        outcome
    })
    .join()
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

async fn measure() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let network = BridgeNetwork::open(config(folder.path())?).await?;
    network.set_pod_cidr(&["10.42.7.0/24".parse()?]).await?;
    let (one, other) = (Pod::start(&network, "one").await?, Pod::start(&network, "other").await?);
    let client = Arc::new(namespace()?);
    network.attach(request("client", &client)).await?;
    let mut first_packets = Vec::new();
    for count in COUNTS {
        let api = Api::default();
        api.put(0, count, &[one.address]);
        (1..count).for_each(|number| api.put(number, count, &[one.address, absent(number)]));
        let stop = CancellationToken::new();
        let start = Instant::now();
        let rules = plimsoll_network::run(config(folder.path())?, api.informers(), stop.clone());
        let task = tokio::spawn(rules);
        asked(&client, count - 1, &one).await?;
        let aim = if count == COUNTS[1] { "3.00 s" } else { "-" };
        let took = format!("{:.2} s", start.elapsed().as_secs_f64());
        report(&format!("{count} Services × 2 endpoints until the last works"), &took, aim);
        let first = connect(&client, 0)?;
        report(&format!("{count} Services: a connection is made in"), &micros(first), "equal");
        first_packets.push(first.as_secs_f64());
        changes(&api, &client, count, [&one, &other]).await?;
        stop.cancel();
        task.await??;
    }
    let ratio = first_packets[1] / first_packets[0];
    report("a first packet with many Services beside few", &format!("{ratio:.2}"), "1.00");
    Ok(())
}

/// Changes one endpoint again and again; each change counts when a connection follows it.
async fn changes(api: &Api, client: &Arc<File>, count: usize, pods: [&Pod; 2]) -> anyhow::Result<()> {
    let mut waits = Vec::new();
    let mut used = Duration::ZERO;
    for change in 0..CHANGES {
        let pod = pods[(change + 1) % 2];
        let (before, start) = (processor_time()?, Instant::now());
        api.put(1, count, &[pod.address]);
        asked(client, 1, pod).await?;
        waits.push(start.elapsed());
        used += processor_time()?.saturating_sub(before);
    }
    waits.sort();
    let (median, late) = (waits[waits.len() / 2], waits[waits.len() * 99 / 100]);
    report(&format!("{count} Services: an endpoint's change, median"), &micros(median), "-");
    report(&format!("{count} Services: an endpoint's change, p99"), &micros(late), "10000 µs");
    let each = used / u32::try_from(CHANGES)?;
    report(&format!("{count} Services: processor time of a change"), &micros(each), "1000 µs");
    Ok(())
}

fn micros(time: Duration) -> String {
    format!("{:.0} µs", time.as_secs_f64() * 1e6)
}

/// What this thread, on which the rules' loop runs, had of a processor.
fn processor_time() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").context("schedstat")?;
    let first = text.split(' ').next().unwrap_or_default();
    Ok(Duration::from_nanos(first.parse().context("schedstat")?))
}

fn service(number: usize) -> SocketAddr {
    let [.., high, low] = u32::try_from(number + 256).unwrap_or_default().to_be_bytes();
    SocketAddr::from(([10, 43, high, low], 80))
}

/// An address that no pod has.
fn absent(number: usize) -> IpAddr {
    let [.., high, low] = u32::try_from(number).unwrap_or_default().to_be_bytes();
    IpAddr::from([10, 42, 128 | high, low])
}

/// Waits until a connection of the client to a Service reaches the pod, in a thread of its own.
async fn asked(client: &Arc<File>, number: usize, pod: &Pod) -> anyhow::Result<()> {
    let (client, name) = (Arc::clone(client), pod.name.as_bytes()[1]);
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(60);
        let ask = || -> std::io::Result<bool> {
            while Instant::now() < deadline {
                let mut answer = [0];
                let stream = TcpStream::connect_timeout(&service(number), Duration::from_millis(20));
                let read = stream.and_then(|mut stream| std::io::Read::read_exact(&mut stream, &mut answer));
                if read.is_ok() && answer[0] == name {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        sender.send(in_namespace(client.as_fd(), ask))
    });
    anyhow::ensure!(receiver.await??, "Service {number} does not lead to its endpoint");
    Ok(())
}

/// How long a connection takes until it is made, the median.
fn connect(client: &File, number: usize) -> anyhow::Result<Duration> {
    let connect = || {
        let mut times = Vec::new();
        for _ in 0..CONNECTIONS {
            let start = Instant::now();
            TcpStream::connect(service(number))?;
            times.push(start.elapsed());
        }
        times.sort();
        Ok(times.get(times.len() / 2).copied())
    };
    in_namespace(client.as_fd(), connect)?.context("no connection is made")
}

struct Pod {
    name: &'static str,
    address: IpAddr,
    _netns: File,
}

impl Pod {
    /// A pod that answers with its name's second letter.
    async fn start(network: &BridgeNetwork, name: &'static str) -> anyhow::Result<Self> {
        let netns = namespace()?;
        let attached = network.attach(request(name, &netns)).await?;
        let listener = in_namespace(netns.as_fd(), || TcpListener::bind(("0.0.0.0", 80)))?;
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // Who only connects does not wait for it.
                let _ = std::io::Write::write_all(&mut stream, &name.as_bytes()[1..2]);
            }
        });
        Ok(Self { name, address: attached.addresses[0], _netns: netns })
    }
}

fn namespace() -> anyhow::Result<File> {
    std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
        Ok(File::open("/proc/thread-self/ns/net")?)
    })
    .join()
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn request(name: &str, netns: &File) -> Attach {
    Attach {
        sandbox_id: name.to_owned(),
        namespace: "default".to_owned(),
        name: name.to_owned(),
        uid: name.to_owned(),
        netns: PathBuf::from(format!("/proc/self/fd/{}", netns.as_raw_fd())),
        port_mappings: Vec::new(),
        annotations: std::collections::HashMap::new(),
    }
}

fn config(folder: &Path) -> anyhow::Result<Config> {
    Ok(Config {
        data_dir: folder.to_owned(),
        instance: "bench".to_owned(),
        cluster_cidr: vec!["10.42.0.0/16".parse()?],
        service_cidr: vec!["10.43.0.0/16".parse()?],
        node_name: "here".to_owned(),
        node_addresses: Vec::new(),
        node_port_addresses: Vec::new(),
        resolver: Vec::new(),
        connected_by: ConnectedBy::Links,
        metrics: Metrics::default(),
    })
}

/// Services and EndpointSlices to list and to watch.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    version: u64,
    services: Vec<Value>,
    slices: Vec<Value>,
    watches: Vec<mpsc::UnboundedSender<Bytes>>,
}

type Answer = http::Response<UnsyncBoxBody<Bytes, Infallible>>;

impl Api {
    fn informers(&self) -> Informers {
        let api = self.clone();
        Informers::new(plimsoll_client::from_service(tower::service_fn(
            move |request: http::Request<Body>| {
                std::future::ready(Ok::<_, Infallible>(api.answer(request.uri())))
            },
        )))
    }

    /// A Service with its endpoints; told to who watches when it is not the first time.
    fn put(&self, number: usize, count: usize, endpoints: &[IpAddr]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.version += 1;
        let (name, address) = (format!("s{number}"), service(number).ip().to_string());
        let metadata = json!({"name": name, "namespace": "default", "uid": name,
            "resourceVersion": state.version.to_string(), "labels": {"kubernetes.io/service-name": name}});
        let endpoints: Vec<_> = endpoints.iter().map(|address| json!({"addresses": [address]})).collect();
        let slice = json!({"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "", "port": 80, "protocol": "TCP"}]});
        if state.services.len() < count {
            state.services.push(json!({"metadata": metadata,
                "spec": {"clusterIP": address, "clusterIPs": [address], "ports": [{"port": 80}]}}));
            state.slices.push(slice);
            return;
        }
        let line = Bytes::from(format!("{}\n", json!({"type": "MODIFIED", "object": slice})));
        state.slices[number] = slice;
        state.watches.retain(|watch| watch.send(line.clone()).is_ok());
    }

    fn answer(&self, uri: &http::Uri) -> Answer {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (is_slices, is_watch) =
            (uri.path().ends_with("/endpointslices"), uri.query().unwrap_or_default().contains("watch="));
        if !is_watch {
            let none = Vec::new();
            let items = match uri.path().rsplit('/').next() {
                Some("services") => &state.services,
                Some("endpointslices") => &state.slices,
                _ => &none,
            };
            let list = json!({"metadata": {"resourceVersion": state.version.to_string()}, "items": items});
            return http::Response::new(Full::new(Bytes::from(list.to_string())).boxed_unsync());
        }
        let (sender, mut receiver) = mpsc::unbounded_channel();
        // Services do not change, and their watch never says anything.
        let silent = if is_slices { None } else { Some(sender.clone()) };
        if is_slices {
            state.watches.push(sender);
        }
        let lines = futures::stream::poll_fn(move |context| {
            let _ = &silent;
            receiver.poll_recv(context)
        });
        let frames = lines.map(|line: Bytes| Ok(http_body::Frame::data(line)));
        http::Response::new(StreamBody::new(frames).boxed_unsync())
    }
}
