//! Links in network namespaces of their own. Needs root.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Instant;

use plimsoll_kernel::link::{Join, LOOPBACK, Links, Route, Veth, in_namespace, index_of};

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

#[test]
fn what_joins_a_pod_is_seen() {
    let (host, pod, other) = (namespace(), namespace(), namespace());
    in_namespace(host.as_fd(), || {
        let mut links = Links::open()?;
        let veth = Veth { name: "pv0", peer: "eth0", peer_namespace: pod.as_fd(), mtu: 1400, group: 7 };
        links.create_veth(&veth)?;
        assert_eq!(links.join(pod.as_fd(), "eth0")?, Join::Routed);
        let bridge = links.ensure_bridge("br0", 7)?;
        let made = std::process::Command::new("ip").args(["link", "set", "pv0", "master", "br0"]).status()?;
        assert!(made.success());
        assert_eq!(links.join(pod.as_fd(), "eth0")?, Join::Bridged(bridge));
        links.filter_bridge(bridge)?;
        links.filter_bridge(bridge)?;
        let told = std::process::Command::new("ip").args(["-d", "link", "show", "br0"]).output()?;
        assert!(String::from_utf8_lossy(&told.stdout).contains("nf_call_iptables 1 nf_call_ip6tables 1"));
        // Who is on neither this machine nor a cable is seen to be so.
        assert_eq!(links.join(pod.as_fd(), "lo")?, Join::Apart(String::new()));
        let away = in_namespace(other.as_fd(), || Links::open()?.join(pod.as_fd(), "eth0"))?;
        assert_eq!(away, Join::Apart("veth".to_owned()));
        assert!(links.join(pod.as_fd(), "eth1").is_err());
        Ok(())
    })
    .unwrap();
}

#[test]
fn two_machines_are_joined_by_a_tunnel() {
    use plimsoll_kernel::far::{Neighbour, Vxlan};
    let (one, two) = (namespace(), namespace());
    in_namespace(one.as_fd(), || {
        let veth = Veth { name: "up0", peer: "up0", peer_namespace: two.as_fd(), mtu: 1500, group: 0 };
        Links::open()?.create_veth(&veth)
    })
    .unwrap();
    let end = |number: u8| {
        let hardware = |number| [2, 80, 192, 0, 2, number];
        let mut links = Links::open()?;
        let up = index_of("up0")?;
        links.ensure(&[LOOPBACK, up], &[(up, format!("192.0.2.{number}/24").parse().unwrap())], &[])?;
        let local = [192, 0, 2, number].into();
        let name = "plimx-test".to_owned();
        let vxlan =
            Vxlan { name, network: (1, 4789), local, hardware: hardware(number), mtu: 1450, group: 7 };
        let device = links.ensure_vxlan(&Vxlan { mtu: 1400, ..vxlan.clone() })?;
        assert_ne!(links.ensure_vxlan(&vxlan)?, device, "another one");
        let device = index_of("plimx-test")?;
        assert_eq!(links.ensure_vxlan(&vxlan)?, device, "the same");
        links.ensure_address(device, format!("10.9.{number}.0/32").parse().unwrap())?;
        let other = 3 - number;
        let inside = [10, 9, other, 0].into();
        let said = [
            Neighbour::Resolved(inside, hardware(other)),
            Neighbour::Resolved("fd09::".parse().unwrap(), hardware(other)),
            Neighbour::Forwarded(hardware(other), [192, 0, 2, other].into()),
        ];
        let gone = Neighbour::Forwarded(hardware(9), [192, 0, 2, 9].into());
        for neighbour in said.iter().chain([&gone, &said[0], &said[2]]) {
            links.ensure_neighbour(device, neighbour)?;
        }
        links.remove_neighbour(device, &gone)?;
        links.remove_neighbour(device, &gone)?;
        let mut found = links.neighbours(device)?;
        found.sort();
        assert_eq!(found, said);
        let route = Route {
            destination: format!("10.9.{other}.0/24").parse().unwrap(),
            device,
            gateway: Some(inside),
            source: None,
        };
        links.ensure_far_route(&route)?;
        links.ensure_far_route(&route)?;
        assert_eq!(links.far_routes()?, [route]);
        Ok(())
    };
    in_namespace(one.as_fd(), || end(1)).unwrap();
    in_namespace(two.as_fd(), || end(2)).unwrap();
    let listener = in_namespace(one.as_fd(), || std::net::TcpListener::bind("10.9.1.0:7000")).unwrap();
    let stream = in_namespace(two.as_fd(), || std::net::TcpStream::connect("10.9.1.0:7000")).unwrap();
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), "10.9.2.0");
    drop(stream);
    in_namespace(one.as_fd(), || {
        let mut links = Links::open()?;
        let route = links.far_routes()?[0];
        links.remove_far_route(&route)?;
        links.remove_far_route(&route)?;
        assert_eq!(links.far_routes()?, []);
        Ok(())
    })
    .unwrap();
}
