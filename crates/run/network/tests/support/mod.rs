//! A machine in a network namespace, pods in others, and an API server that only lists and watches.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use plimsoll_kernel::link::{LOOPBACK, Links, in_namespace};
use plimsoll_kernel::pod_network::{Attach, Attached, PodNetwork};
use plimsoll_network::Config;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// A namespace that lives as long as the file is open.
pub(crate) fn namespace() -> File {
    let make = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        Links::open().unwrap().set_up(LOOPBACK).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    };
    std::thread::spawn(make).join().unwrap()
}

/// Runs a test on a machine of its own: all threads of its runtime are in a new namespace.
pub(crate) fn on_a_machine<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    let machine = namespace();
    in_namespace(machine.as_fd(), || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
        Ok(())
    })
    .unwrap();
}

/// A machine beside others: what runs on it goes on whenever somebody is on it.
pub(crate) struct Machine {
    netns: File,
    runtime: tokio::runtime::Runtime,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) name: &'static str,
}

impl Machine {
    pub(crate) fn new(name: &'static str) -> Self {
        let netns = namespace();
        let build = || tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = in_namespace(netns.as_fd(), build).unwrap();
        Self { netns, runtime, folder: tempfile::tempdir().unwrap(), name }
    }

    pub(crate) fn on<T: Send, F: Future<Output = T>>(&self, work: impl FnOnce() -> F + Send) -> T {
        in_namespace(self.netns.as_fd(), || Ok(self.runtime.block_on(async { work().await }))).unwrap()
    }

    /// A cable to another machine, with an address at each end; both ends have the other machine's name.
    pub(crate) fn wire(&self, own: &str, other: &Self, others: &str) {
        let end = |name: &str, address: &str| {
            let device = plimsoll_kernel::link::index_of(name)?;
            Links::open()?.ensure(&[device], &[(device, address.parse().unwrap())], &[])
        };
        self.on(|| async {
            let veth = plimsoll_kernel::link::Veth {
                name: other.name,
                peer: self.name,
                peer_namespace: other.netns.as_fd(),
                mtu: 1500,
                group: 0,
            };
            Links::open().unwrap().create_veth(&veth).unwrap();
            end(other.name, own).unwrap();
        });
        other.on(|| async { end(self.name, others).unwrap() });
    }

    /// Sends packets to a destination by another machine.
    pub(crate) fn route(&self, destination: &str, gateway: &str, other: &Self) {
        self.on(|| async {
            let route = plimsoll_kernel::link::Route {
                destination: destination.parse().unwrap(),
                device: plimsoll_kernel::link::index_of(other.name).unwrap(),
                gateway: Some(gateway.parse().unwrap()),
                source: None,
            };
            Links::open().unwrap().ensure_route(&route).unwrap();
        });
    }

    pub(crate) fn config(&self) -> Config {
        Config { node_name: self.name.to_owned(), ..config(self.folder.path()) }
    }
}

pub(crate) fn config(folder: &std::path::Path) -> Config {
    Config {
        data_dir: folder.to_owned(),
        instance: "a1b2c3".to_owned(),
        cluster_cidr: vec!["10.42.0.0/16".parse().unwrap()],
        service_cidr: vec!["10.43.0.0/16".parse().unwrap()],
        node_name: "here".to_owned(),
        node_addresses: vec!["192.0.2.1".parse().unwrap()],
        node_port_addresses: Vec::new(),
        resolver: vec!["10.43.0.10".parse().unwrap()],
        connected_by: plimsoll_network::ConnectedBy::Links,
        metrics: plimsoll_network::Metrics::default(),
    }
}

/// A pod with a server that tells the pod's name and who asked.
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) netns: File,
    pub(crate) address: IpAddr,
    pub(crate) attached: Attached,
}

impl Pod {
    pub(crate) async fn start(network: &dyn PodNetwork, id: &str) -> Self {
        let netns = namespace();
        let attached = network.attach(Self::request(id, &netns)).await.unwrap();
        let pod = Self { id: id.to_owned(), netns, address: attached.addresses[0], attached };
        pod.serve(8080);
        pod
    }

    pub(crate) fn request(id: &str, netns: &File) -> Attach {
        Attach {
            sandbox_id: id.to_owned(),
            namespace: "default".to_owned(),
            name: id.to_owned(),
            uid: "1".to_owned(),
            netns: PathBuf::from(format!("/proc/self/fd/{}", netns.as_raw_fd())),
            port_mappings: Vec::new(),
            annotations: std::collections::HashMap::new(),
        }
    }

    /// Serves TCP and UDP until the test process ends.
    pub(crate) fn serve(&self, port: u16) {
        serve_in(&self.netns, &self.id, port);
    }

    /// What a server says to this pod, or the error's kind.
    pub(crate) fn ask(&self, server: &str) -> String {
        in_namespace(self.netns.as_fd(), || Ok(ask(server))).unwrap()
    }

    pub(crate) fn ask_udp(&self, socket: &UdpSocket, server: &str) -> String {
        ask_udp(socket, server)
    }

    pub(crate) fn udp(&self) -> UdpSocket {
        in_namespace(self.netns.as_fd(), udp).unwrap()
    }
}

pub(crate) fn serve_in(netns: &File, id: &str, port: u16) {
    let (listener, socket) = in_namespace(netns.as_fd(), || {
        Ok((TcpListener::bind(("0.0.0.0", port))?, UdpSocket::bind(("0.0.0.0", port))?))
    })
    .unwrap();
    let name = id.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip();
            let _ = stream.write_all(format!("{name} to {peer}").as_bytes());
        }
    });
    let name = id.to_owned();
    std::thread::spawn(move || {
        let mut buffer = [0; 16];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(name.as_bytes(), peer);
        }
    });
}

/// Serves TCP over IPv6 until the test process ends.
pub(crate) fn serve_ipv6(netns: &File, id: &str, port: u16) {
    let bind = || TcpListener::bind((std::net::Ipv6Addr::UNSPECIFIED, port));
    let (listener, name) = (in_namespace(netns.as_fd(), bind).unwrap(), id.to_owned());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip();
            let _ = stream.write_all(format!("{name} to {peer}").as_bytes());
        }
    });
}

/// What a server says to the calling thread's namespace, or the error's kind.
pub(crate) fn ask(server: &str) -> String {
    let server: SocketAddr = server.parse().unwrap();
    let talk = || {
        let mut stream = TcpStream::connect_timeout(&server, Duration::from_millis(700))?;
        stream.set_read_timeout(Some(Duration::from_millis(700)))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    talk().unwrap_or_else(|error| format!("{:?}", error.kind()))
}

pub(crate) fn udp() -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    Ok(socket)
}

pub(crate) fn ask_udp(socket: &UdpSocket, server: &str) -> String {
    let talk = || {
        socket.connect(server)?;
        socket.send(b"?")?;
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    talk().unwrap_or_else(|error| format!("{:?}", error.kind()))
}

/// Who of several servers answered, in many tries, sorted.
pub(crate) fn who(times: usize, mut ask: impl FnMut() -> String) -> Vec<String> {
    let mut names: Vec<_> =
        (0..times).map(|_| ask().split(' ').next().unwrap_or_default().to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

/// An API server that lists and watches Services and EndpointSlices.
#[derive(Clone, Default)]
pub(crate) struct Api {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<(&'static str, String), Value>,
    watches: Vec<(Wanted, mpsc::UnboundedSender<Bytes>)>,
}

/// What is listed or watched: a resource, perhaps only what belongs to the node.
#[derive(Clone, Copy)]
struct Wanted {
    resource: &'static str,
    here: bool,
}

impl Wanted {
    fn read(request: &http::Uri) -> Self {
        let named = |name: &&&str| request.path().ends_with(**name);
        let known = ["/services", "/endpointslices", "/nodes", "/pods", "/namespaces", "/networkpolicies"];
        let resource = known.iter().find(named).unwrap().trim_start_matches('/');
        Self { resource, here: request.query().unwrap_or_default().contains("nodeName") }
    }

    fn has(self, resource: &str, object: &Value) -> bool {
        self.resource == resource && (!self.here || object["spec"]["nodeName"] == "here")
    }
}

type Answer = http::Response<UnsyncBoxBody<Bytes, Infallible>>;

impl Api {
    pub(crate) fn client(&self) -> plimsoll_client::Informers {
        plimsoll_client::Informers::new(plimsoll_client::from_service(self.clone()))
    }

    pub(crate) fn put_service(&self, name: &str, spec: Value) {
        self.put("services", name, json!({"metadata": {}, "spec": spec}));
    }

    /// A Service whose load balancer sends to these addresses.
    pub(crate) fn put_balanced(&self, name: &str, spec: Value, addresses: &[&str]) {
        let ingress: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
        let status = json!({"loadBalancer": {"ingress": ingress}});
        self.put("services", name, json!({"metadata": {}, "spec": spec, "status": status}));
    }

    /// Endpoints given as address and node.
    pub(crate) fn put_endpoints(&self, name: &str, port: u16, protocol: &str, endpoints: &[(IpAddr, &str)]) {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(address, node)| json!({"addresses": [address], "nodeName": node, "conditions": {"ready": true}}))
            .collect();
        self.put_slice(name, name, (port, protocol), &endpoints);
    }

    /// One of several slices of a Service.
    pub(crate) fn put_slice(
        &self,
        name: &str,
        service: &str,
        (port, protocol): (u16, &str),
        endpoints: &[Value],
    ) {
        let slice = json!({
            "metadata": {"labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"name": "", "port": port, "protocol": protocol}],
            "endpoints": endpoints,
        });
        self.put("endpointslices", name, slice);
    }

    /// A node with a range of each family, or of one.
    pub(crate) fn put_node(&self, name: &str, ranges: &str, addresses: &[&str]) {
        let ranges: Vec<_> = ranges.split(',').collect();
        let addresses: Vec<_> =
            addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
        let node = json!({
            "metadata": {}, "spec": {"podCIDR": ranges[0], "podCIDRs": ranges}, "status": {"addresses": addresses},
        });
        self.put("nodes", name, node);
    }

    /// This node, in a zone.
    pub(crate) fn put_zone(&self, zone: &str) {
        self.put("nodes", "here", json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}}));
    }

    pub(crate) fn delete(&self, resource: &'static str, name: &str) {
        let mut state = self.state.lock().unwrap();
        if let Some(object) = state.objects.remove(&(resource, name.to_owned())) {
            state.tell("DELETED", resource, object);
        }
    }

    pub(crate) fn put_namespace(&self, name: &str) {
        self.put("namespaces", name, json!({"metadata": {"labels": {"name": name}}}));
    }

    /// A pod of this node with a label that says its name; who has an address in its status is elsewhere.
    pub(crate) fn put_pod(&self, name: &str, elsewhere: Option<&str>) {
        let node = if elsewhere.is_some() { "there" } else { "here" };
        let ips: Vec<_> = elsewhere.iter().map(|ip| json!({"ip": ip})).collect();
        let ports = json!([{"name": "web", "containerPort": 8080}]);
        let pod = json!({
            "metadata": {"labels": {"app": name}},
            "spec": {"nodeName": node, "containers": [{"name": "c", "ports": ports}]},
            "status": {"phase": "Pending", "podIPs": ips},
        });
        self.put("pods", name, pod);
    }

    pub(crate) fn put_policy(&self, name: &str, spec: Value) {
        self.put("networkpolicies", name, json!({"metadata": {}, "spec": spec}));
    }

    fn put(&self, resource: &'static str, name: &str, mut object: Value) {
        let mut state = self.state.lock().unwrap();
        object["metadata"]["name"] = name.into();
        if !["namespaces", "nodes"].contains(&resource) {
            object["metadata"]["namespace"] = "default".into();
        }
        object["metadata"]["uid"] = name.into();
        state.tell("ADDED", resource, object);
    }

    fn answer(&self, request: &http::Request<kube::client::Body>) -> Answer {
        let mut state = self.state.lock().unwrap();
        let wanted = Wanted::read(request.uri());
        let body = if request.uri().query().unwrap_or_default().contains("watch=") {
            let (sender, mut receiver) = mpsc::unbounded_channel::<Bytes>();
            state.watches.push((wanted, sender));
            let lines = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
            let frames = futures::StreamExt::map(lines, |line| Ok(http_body::Frame::data(line)));
            StreamBody::new(frames).boxed_unsync()
        } else {
            let items: Vec<_> = state
                .objects
                .iter()
                .filter(|((kind, _), object)| wanted.has(kind, object))
                .map(|(_, object)| object)
                .collect();
            let list = json!({"metadata": {"resourceVersion": state.version.to_string()}, "items": items});
            Full::new(Bytes::from(list.to_string())).boxed_unsync()
        };
        http::Response::new(body)
    }
}

impl State {
    fn tell(&mut self, kind: &str, resource: &'static str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let line = Bytes::from(format!("{}\n", json!({"type": kind, "object": object})));
        let skips = |wanted: &Wanted| !wanted.has(resource, &object);
        self.watches.retain(|(wanted, sender)| skips(wanted) || sender.send(line.clone()).is_ok());
        if kind != "DELETED" {
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            self.objects.insert((resource, name), object);
        }
    }
}

impl tower::Service<http::Request<kube::client::Body>> for Api {
    type Response = Answer;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<kube::client::Body>) -> Self::Future {
        std::future::ready(Ok(self.answer(&request)))
    }
}

/// Waits until `done` holds; the test fails when it never does.
pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{what}");
}
