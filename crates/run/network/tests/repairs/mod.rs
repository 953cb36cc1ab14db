//! What others do to the network's rules, links and routes is undone. Needs `nft` and `ip`.

use std::process::Command;
use std::time::{Duration, Instant};

use plimsoll_network::{Policies, cleanup, reach_hosts, run};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::{Api, Pod, config, on_a_machine, until, who};
use crate::{elsewhere, open};

/// Longest that anything may be out of order.
const SOON: Duration = Duration::from_secs(1);

fn command(line: &str) -> bool {
    let mut words = line.split(' ');
    let done = Command::new(words.next().unwrap()).args(words).output();
    done.is_ok_and(|done| done.status.success() || panic!("{line}: {done:?}"))
}

#[test]
fn rules_are_put_right_when_somebody_changes_them() {
    on_a_machine(|| async {
        let folder = tempfile::tempdir().unwrap();
        let api = Api::default();
        ["a", "b", "friend"].iter().for_each(|name| api.put_pod(name, None));
        api.put_namespace("default");
        let app = |name: &str| json!({"matchLabels": {"app": name}});
        api.put_policy(
            "friends",
            json!({"podSelector": app("b"), "ingress": [{"from": [{"podSelector": app("friend")}]}]}),
        );
        let network = open(folder.path()).await;
        let stop = CancellationToken::new();
        let policies = Policies::new(&network).unwrap();
        tokio::spawn(policies.run(api.client(), stop.clone()));
        let (a, b) = (Pod::start(&network, "a").await, Pod::start(&network, "b").await);
        let friend = Pod::start(&network, "friend").await;
        api.put_service("web", json!({"clusterIP": "10.43.0.1", "ports": [{"port": 80}]}));
        api.put_endpoints("web", 8080, "TCP", &[(a.address, "here")]);
        tokio::spawn(run(config(folder.path()), api.client(), stop.clone()));
        let direct = format!("{}:8080", b.address);
        let is_right = || {
            who(2, || friend.ask("10.43.0.1:80")) == ["a"]
                && a.ask("10.43.0.1:80") == "a to 10.42.7.1"
                && friend.ask("10.43.0.9:80") == "ConnectionRefused"
                && friend.ask(&direct).starts_with("b ")
                && a.ask(&direct) == "TimedOut"
        };
        until("all is right", is_right).await;
        for line in [
            "nft flush ruleset",
            "nft delete table ip plim-a1b2c3",
            "nft flush table ip plim-a1b2c3",
            "nft flush chain ip plim-a1b2c3 services",
            "nft flush map ip plim-a1b2c3 endpoints",
            "nft flush set ip plim-a1b2c3 own-pods",
            "nft flush map ip plim-a1b2c3 isolated-ingress",
            "nft add rule ip plim-a1b2c3 forward drop",
            "nft add element ip plim-a1b2c3 rejected { 10.43.0.1 . tcp . 80 }",
        ] {
            if !command(line) {
                return;
            }
            // What is asked at once may be lost: it waits as long as nobody answers.
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(300) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(is_right(), "{line}");
        }
        stop.cancel();
        cleanup(folder.path(), "a1b2c3").await.unwrap();
    });
}

#[test]
fn links_and_routes_are_put_right_when_somebody_changes_them() {
    on_a_machine(|| async {
        let folder = tempfile::tempdir().unwrap();
        let (_world, api) = (elsewhere(), Api::default());
        let network = open(folder.path()).await;
        api.put_node("here", "10.42.7.0/24", &["192.0.2.1"]);
        api.put_node("near", "10.42.8.0/24", &["192.0.2.9"]);
        api.put_node("far", "10.42.9.0/24", &["198.51.100.9"]);
        assert!(command("ip route add default via 192.0.2.9"));
        let stop = CancellationToken::new();
        tokio::spawn(reach_hosts(network.clone(), api.client(), stop.clone()));
        let (a, b) = (Pod::start(&network, "a").await, Pod::start(&network, "b").await);
        let shown = || {
            let show = |words: &[&str]| {
                let shown = Command::new("ip").args(words).output().unwrap();
                String::from_utf8(shown.stdout).unwrap()
            };
            let mut lines: Vec<_> =
                [show(&["route", "show"]), show(&["-o", "address", "show", "dev", "plim-a1b2c3"])]
                    .concat()
                    .lines()
                    // Indices and what counts time are no matter.
                    .filter_map(|line| line.split(": ").last()?.split("valid_lft").next().map(str::to_owned))
                    .filter(|line| line.contains("10.4"))
                    .collect();
            lines.extend(show(&["neighbour", "show", "dev", "plimx-a1b2c3"]).lines().map(str::to_owned));
            lines.sort();
            lines
        };
        let is_whole = || {
            let lines = shown();
            ["10.42.8.0/24 via", "10.42.9.0/24 via", "10.42.7.1/", "10.43.0.10/", "10.42.7.2 dev", "lladdr"]
                .iter()
                .all(|part| lines.iter().any(|line| line.contains(part)))
        };
        until("all is there", is_whole).await;
        let before = shown();
        for line in [
            "ip route del 10.42.8.0/24",
            "ip route del 10.42.9.0/24",
            "ip route del 10.43.0.0/16",
            "ip route del 10.42.7.2/32",
            "ip address flush dev plim-a1b2c3",
            "ip neighbour flush dev plimx-a1b2c3",
            "ip link set plim-a1b2c3 down",
            "ip link set plimx-a1b2c3 down",
            "ip link del plimx-a1b2c3",
            "ip link del plim-a1b2c3",
        ] {
            let start = Instant::now();
            assert!(command(line));
            until(&format!("{line} is undone: {before:#?} {:#?}", shown()), || shown() == before).await;
            assert!(start.elapsed() < SOON, "{line} took {:?}", start.elapsed());
            assert_eq!(a.ask(&format!("{}:8080", b.address)), "b to 10.42.7.2", "{line}");
        }
        stop.cancel();
        cleanup(folder.path(), "a1b2c3").await.unwrap();
    });
}
