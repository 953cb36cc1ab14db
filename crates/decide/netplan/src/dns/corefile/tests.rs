//! Corefiles, and what they mean for names.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::hosts::Told;
use super::rewrite::rewritten;
use std::net::IpAddr;

use super::*;

fn parse(text: &str) -> Result<Rules, Fault> {
    Rules::parse(text, &BTreeMap::new())
}

#[test]
fn the_default_forwards_to_the_node() {
    let rules = parse(DEFAULT).unwrap();
    let block = rules.block("example.org").unwrap();
    assert_eq!(&*block.zone, ".");
    assert_eq!(block.forwards[0].servers, [Server::Node]);
    assert_eq!(block.cache.unwrap().stale, Duration::from_secs(3600));
    assert!(rules.left_out().is_empty());
    assert_eq!((rules.lifetime(), rules.pods()), (5, Pods::Insecure));
}

#[test]
fn names_belong_to_the_nearest_zone() {
    let rules = parse(
        ". {\n forward . 192.0.2.1 192.0.2.2:5353 [2001:db8::1]:53 {\n policy sequential\n except corp.example \n }\n}\n\
         corp.example:53, eu.corp.example {\n forward . 10.0.0.1 { \n max_fails 0 \n}\n cache 30\n}\n\
         10.0.0.0/8 2001:db8::/32 {\n forward . 10.0.0.2\n}\nother.example:5353 {\n whoami\n}\n",
    )
    .unwrap();
    for (name, zone) in [
        ("example.org", "."),
        ("corp.example", "corp.example."),
        ("www.corp.example", "corp.example."),
        ("xcorp.example", "."),
        ("a.eu.corp.example", "corp.example."),
        ("1.2.3.10.in-addr.arpa", "10.in-addr.arpa."),
        ("8.b.d.0.1.0.0.2.ip6.arpa", "10.in-addr.arpa."),
        ("1.2.3.11.in-addr.arpa", "."),
    ] {
        assert_eq!(&*rules.block(name).unwrap().zone, zone, "{name}");
    }
    let forward = &rules.block("example.org").unwrap().forwards[0];
    assert_eq!(forward.policy, Policy::Sequential);
    assert!(forward.holds("example.org") && !forward.holds("a.corp.example"));
    assert_eq!(rules.left_out().len(), 2, "{:?}", rules.left_out());
}

#[test]
fn servers_are_asked_over_tls() {
    let files = BTreeMap::from([("ca.crt".into(), "PEM".into())]);
    let text = ". {\n forward . tls://9.9.9.9 tls://[2620:fe::9]:8853 dns://9.9.9.9 {\n \
                tls_servername dns.quad9.net.\n tls /etc/coredns/ca.crt\n }\n}";
    let rules = Rules::parse(text, &files).unwrap();
    let forward = &rules.block("x").unwrap().forwards[0];
    let address = |text: &str| text.parse().unwrap();
    assert_eq!(
        forward.servers,
        [
            Server::Encrypted(address("9.9.9.9:853")),
            Server::Encrypted(address("[2620:fe::9]:8853")),
            Server::Address(address("9.9.9.9:53")),
        ]
    );
    let tls = Tls { server_name: Some("dns.quad9.net".into()), authorities: Some("PEM".into()) };
    assert_eq!(forward.tls, tls);
}

#[test]
fn hosts_are_told_here() {
    let files =
        BTreeMap::from([("NodeHosts".into(), "192.0.2.7 node-1 # comment\nbad line\n::7 node-1".into())]);
    let text = ". {\n hosts /etc/coredns/NodeHosts {\n ttl 60\n 192.0.2.9 Mirror.Example. other\n fallthrough example\n }\n}";
    let rules = Rules::parse(text, &files).unwrap();
    let hosts = rules.block("x").unwrap().hosts.as_ref().unwrap();
    assert_eq!(hosts.lifetime, 60);
    let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpAddr>>();
    assert_eq!(hosts.of_name("node-1"), Told::Addresses(&addresses(&["192.0.2.7", "::7"])));
    assert_eq!(hosts.of_name("mirror.example"), Told::Addresses(&addresses(&["192.0.2.9"])));
    assert_eq!(hosts.of_name("no.example"), Told::Nothing);
    assert_eq!(hosts.of_name("unknown"), Told::NoName);
    assert_eq!(
        hosts.of_address("192.0.2.9".parse().unwrap()),
        ["mirror.example".into(), Box::<str>::from("other")]
    );
}

#[test]
fn names_are_rewritten() {
    let text = ". {\n rewrite name foo.example db.default.svc.cluster.local\n rewrite name suffix .old.example .new.example\n\
                rewrite stop {\n name regex (.*)\\.in\\.example\\.$ {1}.default.svc.cluster.local\n answer name a b\n }\n\
                rewrite continue name prefix api- v2-\n rewrite name substring v2 v3\n rewrite ttl a 5\n}";
    let rules = parse(text).unwrap();
    let block = rules.block("x").unwrap();
    for (name, expected) in [
        ("foo.example", Some("db.default.svc.cluster.local")),
        ("a.old.example", Some("a.new.example")),
        ("web.in.example", Some("web.default.svc.cluster.local")),
        ("api-x.example", Some("v3-x.example")),
        ("example.org", None),
    ] {
        assert_eq!(rewritten(&block.rewrites, name).as_deref(), expected, "{name}");
    }
    assert_eq!(rules.left_out(), ["line 10: \"rewrite ttl\" is not offered"]);
}

#[test]
fn imports_and_snippets() {
    let files = BTreeMap::from([
        ("a.server".into(), "stub.example { \n forward . 10.9.9.9 \n}\n".into()),
        ("b.override".into(), "log\n".into()),
        ("circle.inc".into(), "import circle.inc".into()),
    ]);
    let text =
        "(snip) {\n cache 7\n}\n. {\n import snip\n import custom/*.override\n}\nimport custom/*.server\n";
    let rules = Rules::parse(text, &files).unwrap();
    let root = rules.block("x").unwrap();
    assert!(root.log && root.cache.unwrap().success == Duration::from_secs(7));
    assert_eq!(&*rules.block("a.stub.example").unwrap().zone, "stub.example.");
    let circle = Rules::parse(". {\n import circle.inc\n}", &files).unwrap_err();
    assert_eq!(circle.message, "imports go in a circle");
}

#[test]
fn faults_name_their_line() {
    for (text, expected) in [
        ("", "Corefile:1: there is no server block for port 53"),
        (". {\n errors\n", "Corefile:2: a \"{\" is not closed"),
        ("}", "Corefile:1: unexpected \"}\""),
        (". {\n\n frobnicate\n}", "Corefile:3: Unknown directive 'frobnicate'"),
        (". {\n forward . nowhere\n}", "Corefile:2: not an IP address or file: \"nowhere\""),
        (
            ". {\n forward . https://9.9.9.9\n}",
            "Corefile:2: \"https://9.9.9.9\": only DNS and DNS over TLS are offered",
        ),
        (
            ". {\n forward . tls://dns.example\n}",
            "Corefile:2: not an IP address or file: \"tls://dns.example\"",
        ),
        (
            ". {\n forward . tls://9.9.9.9 {\n tls ca.crt\n }\n}",
            "Corefile:3: tls: there is no file \"ca.crt\"",
        ),
        (
            ". {\n forward . tls://9.9.9.9 {\n tls a.crt a.key\n }\n}",
            "Corefile:3: tls: certificates of clients are not offered",
        ),
        (
            ". {\n forward . /etc/shadow\n}",
            "Corefile:2: \"/etc/shadow\": the only file to be named is /etc/resolv.conf",
        ),
        (". {\n forward .\n}", "Corefile:2: forward needs a server"),
        (". {\n forward . 10.0.0.1 {\n policy best\n }\n}", "Corefile:3: unknown policy 'best'"),
        (". {\n cache 0\n}", "Corefile:2: cache TTL can not be zero or negative: 0"),
        (". {\n hosts {\n ttl x\n }\n}", "Corefile:3: ttl provided is invalid: \"x\""),
        (
            ". {\n rewrite name regex ( x\n}",
            "Corefile:2: \"(\": regex parse error:\n    (\n    ^\nerror: unclosed group",
        ),
        (
            ". {\n kubernetes cluster.local {\n ttl 3601\n }\n}",
            "Corefile:3: ttl must be in range [0, 3600]: 3601",
        ),
        (". {\n log \"x\n}", "Corefile:2: a quote is not closed"),
    ] {
        assert_eq!(parse(text).map(|_| ()).unwrap_err().to_string(), expected, "{text:?}");
    }
}
