//! Links in network namespaces of their own. Needs root.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Instant;

use plimsoll_kernel::link::{LOOPBACK, Links, Route, Veth, in_namespace, index_of};

/// A namespace that lives as long as the file is open.
fn namespace() -> File {
    let make = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    };
    std::thread::spawn(make).join().unwrap()
}

#[test]
fn a_pair_joins_two_namespaces_and_goes_with_its_group() {
    let (host, pod) = (namespace(), namespace());
    in_namespace(host.as_fd(), || {
        let mut links = Links::open()?;
        let bridge = links.ensure_bridge("plim-test", 7)?;
        assert_eq!(links.ensure_bridge("plim-test", 7)?, bridge, "again");
        links.ensure_address(bridge, "10.9.0.1/32".parse().unwrap())?;
        links.ensure_address(bridge, "10.9.0.1/32".parse().unwrap())?;
        assert_eq!(links.addresses(bridge)?[0], "10.9.0.1/32".parse().unwrap());

        let start = Instant::now();
        let veth = Veth { name: "pv0", peer: "eth0", peer_namespace: pod.as_fd(), mtu: 1400, group: 7 };
        links.create_veth(&veth)?;
        assert_eq!(links.create_veth(&veth).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        let device = index_of("pv0")?;
        let to_pod = Route {
            destination: "10.9.0.2/32".parse().unwrap(),
            device,
            gateway: None,
            source: Some("10.9.0.1".parse().unwrap()),
        };
        links.ensure(&[], &[], &[to_pod, to_pod])?;
        in_namespace(pod.as_fd(), || {
            let device = index_of("eth0")?;
            let gateway = "10.9.0.1".parse().unwrap();
            let near =
                Route { destination: "10.9.0.1/32".parse().unwrap(), device, gateway: None, source: None };
            let far = Route {
                destination: "0.0.0.0/0".parse().unwrap(),
                device,
                gateway: Some(gateway),
                source: None,
            };
            Links::open()?.ensure(
                &[LOOPBACK, device],
                &[(device, "10.9.0.2/32".parse().unwrap())],
                &[near, far],
            )?;
            assert_eq!(Links::open()?.uplink_mtu()?, Some(1400));
            Ok(())
        })?;
        println!("attached in {:?}", start.elapsed());

        let listener = std::net::TcpListener::bind("10.9.0.1:7000")?;
        let stream = in_namespace(pod.as_fd(), || std::net::TcpStream::connect("10.9.0.1:7000"))?;
        assert_eq!(listener.accept()?.1.ip().to_string(), "10.9.0.2");
        drop(stream);

        links.remove_route(&to_pod)?;
        links.remove_route(&to_pod)?;
        let start = Instant::now();
        links.remove_group(7)?;
        println!("removed in {:?}", start.elapsed());
        links.remove_group(7)?;
        links.remove("pv0")?;
        assert_eq!(links.list()?.len(), 1, "only loopback is left");
        assert_eq!(links.uplink_mtu()?, None);
        Ok(())
    })
    .unwrap();
}
