//! Questions and answers, and bytes that are neither.

#![expect(clippy::unwrap_used, reason = "tests")]

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::*;

pub(super) fn records() -> Records {
    let mut records = Records::new("cluster.local.", vec!["10.96.0.10".parse().unwrap()]);
    let ports = json!([{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    let slice = json!({
        "addressType": "IPv4", "metadata": {},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": ["10.42.0.1"], "hostname": "db-0"},
            {"addresses": ["10.42.0.2"], "conditions": {"ready": true}},
            {"addresses": ["10.42.0.3"], "conditions": {"ready": false}},
        ],
    });
    let services = [
        (
            "web",
            json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"], "ports": ports}),
            None,
        ),
        ("db", json!({"clusterIP": "None", "ports": ports}), Some(slice)),
        ("empty", json!({"clusterIP": "None", "ports": ports}), None),
        ("away", json!({"type": "ExternalName", "externalName": "Example.ORG."}), None),
        ("near", json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}), None),
        ("loop", json!({"type": "ExternalName", "externalName": "loop.default.svc.cluster.local"}), None),
    ];
    for (name, spec, slice) in services {
        let service: Service = serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        let slice: Option<EndpointSlice> = slice.map(|slice: Value| serde_json::from_value(slice).unwrap());
        records.set("default", name, ServiceRecords::of(&service, &slice));
    }
    records
}

fn query(name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
    let extra = u8::from(edns.is_some());
    let mut bytes = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, extra];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    if let Some(payload) = edns {
        bytes.extend_from_slice(&[0, 0, 41]);
        bytes.extend_from_slice(&payload.to_be_bytes());
        bytes.extend_from_slice(&[0; 6]);
    }
    bytes
}

/// The reply's records in words, read by another's codec.
fn describe(reply: &[u8]) -> String {
    use hickory_proto::op::Message;
    use hickory_proto::rr::RData;
    let message = Message::from_vec(reply).unwrap();
    let record = |record: &hickory_proto::rr::Record| {
        let data = match &record.data {
            RData::A(address) => address.to_string(),
            RData::AAAA(address) => address.to_string(),
            RData::CNAME(name) => format!("= {name}"),
            RData::PTR(name) => format!("@ {name}"),
            RData::NS(name) => format!("ns {name}"),
            RData::SRV(srv) => format!("{} {} {} {}", srv.priority, srv.weight, srv.port, srv.target),
            RData::SOA(_) => "soa".to_owned(),
            RData::TXT(text) => format!("{text}"),
            other => format!("{other:?}"),
        };
        format!("{} {data}", record.name)
    };
    let mut lines: Vec<String> = message.answers.iter().map(record).collect();
    lines.extend(message.authorities.iter().map(|r| format!("authority {}", record(r))));
    lines.extend(message.additionals.iter().map(|r| format!("additional {}", record(r))));
    format!("{:?}: {}", message.metadata.response_code, lines.join(", "))
}

fn ask(name: &str, kind: u16) -> (Answer, String) {
    let mut reply = Vec::new();
    let answer = answer(&query(name, kind, None), Transport::Udp, &records(), 0, &mut reply);
    let text = if reply.is_empty() { String::new() } else { describe(&reply) };
    (answer, text)
}

#[test]
fn names_of_the_cluster() {
    const A: u16 = 1;
    const AAAA: u16 = 28;
    const SRV: u16 = 33;
    const PTR: u16 = 12;
    let cases = [
        ("web.default.svc.cluster.local", A, "NoError: web.default.svc.cluster.local. 10.96.0.1"),
        ("wEb.DEFAULT.svc.cluster.LOCAL", A, "NoError: wEb.DEFAULT.svc.cluster.LOCAL. 10.96.0.1"),
        ("web.default.svc.cluster.local", AAAA, "NoError: web.default.svc.cluster.local. fd00::1"),
        ("web.default.svc.cluster.local", 15, "NoError: authority cluster.local. soa"),
        ("none.default.svc.cluster.local", A, "NXDomain: authority cluster.local. soa"),
        ("a.web.default.svc.cluster.local", A, "NXDomain: authority cluster.local. soa"),
        (
            "db.default.svc.cluster.local",
            A,
            "NoError: db.default.svc.cluster.local. 10.42.0.1, db.default.svc.cluster.local. 10.42.0.2",
        ),
        ("db.default.svc.cluster.local", AAAA, "NoError: authority cluster.local. soa"),
        ("db-0.db.default.svc.cluster.local", A, "NoError: db-0.db.default.svc.cluster.local. 10.42.0.1"),
        (
            "10-42-0-2.db.default.svc.cluster.local",
            A,
            "NoError: 10-42-0-2.db.default.svc.cluster.local. 10.42.0.2",
        ),
        ("10-42-0-1.db.default.svc.cluster.local", A, "NXDomain: authority cluster.local. soa"),
        ("10-42-0-3.db.default.svc.cluster.local", A, "NXDomain: authority cluster.local. soa"),
        ("empty.default.svc.cluster.local", A, "NXDomain: authority cluster.local. soa"),
        (
            "_http._tcp.web.default.svc.cluster.local",
            SRV,
            "NoError: _http._tcp.web.default.svc.cluster.local. 0 100 80 web.default.svc.cluster.local., \
             additional web.default.svc.cluster.local. 10.96.0.1, \
             additional web.default.svc.cluster.local. fd00::1",
        ),
        ("_http._tcp.web.default.svc.cluster.local", A, "NoError: authority cluster.local. soa"),
        ("_http._udp.web.default.svc.cluster.local", SRV, "NXDomain: authority cluster.local. soa"),
        ("http._tcp.web.default.svc.cluster.local", SRV, "NXDomain: authority cluster.local. soa"),
        (
            "_http._tcp.db.default.svc.cluster.local",
            SRV,
            "NoError: _http._tcp.db.default.svc.cluster.local. 0 50 8080 db-0.db.default.svc.cluster.local., \
             _http._tcp.db.default.svc.cluster.local. 0 50 8080 10-42-0-2.db.default.svc.cluster.local., \
             additional db-0.db.default.svc.cluster.local. 10.42.0.1, \
             additional 10-42-0-2.db.default.svc.cluster.local. 10.42.0.2",
        ),
        ("10-42-0-9.any.pod.cluster.local", A, "NoError: 10-42-0-9.any.pod.cluster.local. 10.42.0.9"),
        ("10-42-0-9.any.pod.cluster.local", AAAA, "NoError: authority cluster.local. soa"),
        ("fd00--9.any.pod.cluster.local", AAAA, "NoError: fd00--9.any.pod.cluster.local. fd00::9"),
        ("10-42-0.any.pod.cluster.local", A, "NXDomain: authority cluster.local. soa"),
        ("1.0.96.10.in-addr.arpa", PTR, "NoError: 1.0.96.10.in-addr.arpa. @ web.default.svc.cluster.local."),
        (
            "1.0.42.10.in-addr.arpa",
            PTR,
            "NoError: 1.0.42.10.in-addr.arpa. @ db-0.db.default.svc.cluster.local.",
        ),
        ("1.0.42.10.in-addr.arpa", A, "NoError: authority cluster.local. soa"),
        (
            "near.default.svc.cluster.local",
            A,
            "NoError: near.default.svc.cluster.local. = web.default.svc.cluster.local., \
             web.default.svc.cluster.local. 10.96.0.1",
        ),
        ("dns-version.cluster.local", 16, "NoError: dns-version.cluster.local. 1.1.0"),
        ("default.svc.cluster.local", A, "NoError: authority cluster.local. soa"),
        ("other.svc.cluster.local", A, "NXDomain: authority cluster.local. soa"),
        ("svc.cluster.local", A, "NoError: authority cluster.local. soa"),
        ("cluster.local", 6, "NoError: cluster.local. soa"),
        (
            "cluster.local",
            2,
            "NoError: cluster.local. ns ns.dns.cluster.local., additional ns.dns.cluster.local. 10.96.0.10",
        ),
        ("ns.dns.cluster.local", A, "NoError: ns.dns.cluster.local. 10.96.0.10"),
        ("example.org.default.svc.cluster.local", A, "NXDomain: authority cluster.local. soa"),
        ("example.org.svc.cluster.local", A, "NXDomain: authority cluster.local. soa"),
        ("example.org.cluster.local", A, "NXDomain: authority cluster.local. soa"),
    ];
    for (name, kind, expected) in cases {
        assert_eq!(ask(name, kind), (Answer::Complete, expected.to_owned()), "{name} {kind}");
    }
}

#[test]
fn names_of_others() {
    for name in
        ["example.org", "", "local", "xcluster.local", "cluster.local.org", "9.9.9.10.in-addr.arpa.org"]
    {
        assert_eq!(ask(name, 1), (Answer::Forward, String::new()), "{name}");
    }
    for name in ["9.9.9.10.in-addr.arpa", &format!("{}ip6.arpa", "0.".repeat(32))] {
        assert_eq!(ask(name, 12), (Answer::ForwardOrNothing, String::new()), "{name}");
    }
    let (answer, reply) = ask("away.default.svc.cluster.local", 1);
    assert_eq!(answer, Answer::Elsewhere("example.org".to_owned()));
    assert_eq!(reply, "NoError: away.default.svc.cluster.local. = example.org.");
    assert_eq!(ask("loop.default.svc.cluster.local", 1).0, Answer::Complete, "a loop ends");
}

#[test]
fn names_follow_their_service() {
    let mut records = records();
    let serial = records.serial();
    records.set("default", "web", None);
    assert!(records.serial() != serial);
    let mut reply = Vec::new();
    let mut ask = |records: &Records, name| {
        let answer = answer(&query(name, 1, None), Transport::Udp, records, 0, &mut reply);
        (answer, reply.get(3).map(|byte| byte & 15))
    };
    assert_eq!(ask(&records, "web.default.svc.cluster.local"), (Answer::Complete, Some(3)));
    assert_eq!(ask(&records, "1.0.96.10.in-addr.arpa").0, Answer::ForwardOrNothing);
    for name in ["db", "empty", "away", "near", "loop"] {
        records.set("default", name, None);
    }
    assert_eq!(ask(&records, "default.svc.cluster.local"), (Answer::Complete, Some(3)));
}

#[test]
fn long_answers_are_cut_to_what_fits() {
    let endpoints: Vec<Value> = (0..200).map(|n| json!({"addresses": [format!("10.42.1.{n}")]})).collect();
    let slice: EndpointSlice =
        serde_json::from_value(json!({"addressType": "IPv4", "metadata": {}, "endpoints": endpoints}))
            .unwrap();
    let service: Service =
        serde_json::from_value(json!({"metadata": {}, "spec": {"clusterIP": "None"}})).unwrap();
    let mut records = records();
    records.set("default", "many", ServiceRecords::of(&service, [&slice]));
    let cases = [
        (Transport::Udp, None, 512, true),
        (Transport::Udp, Some(1232), 1232, true),
        (Transport::Udp, Some(100), 512, true),
        (Transport::Udp, Some(65535), 4096, false),
        (Transport::Tcp, None, 65535, false),
    ];
    for (transport, edns, limit, truncated) in cases {
        let mut reply = Vec::new();
        let query = query("many.default.svc.cluster.local", 1, edns);
        answer(&query, transport, &records, 7, &mut reply);
        let message = hickory_proto::op::Message::from_vec(&reply).unwrap();
        assert!(reply.len() <= limit, "{} > {limit}", reply.len());
        assert_eq!(message.metadata.truncation, truncated, "{transport:?} {edns:?}");
        assert_eq!(message.edns.is_some(), edns.is_some());
        if !truncated {
            assert_eq!(message.answers.len(), 200);
            assert_eq!(message.answers[0].data.to_string(), "10.42.1.7", "lists begin at the spread");
        }
    }
}

#[test]
fn broken_messages_are_refused_or_ignored() {
    let records = records();
    let good = query("web.default.svc.cluster.local", 1, Some(1232));
    let mut reply = Vec::new();
    for length in 0..good.len() {
        let answer = answer(&good[..length], Transport::Udp, &records, 0, &mut reply);
        let expected = if length < 12 { Answer::Ignore } else { Answer::Complete };
        assert_eq!(answer, expected, "{length} bytes");
        assert!(length < 12 || reply[3] & 15 == 1, "{length} bytes");
    }
    let with = |index: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[index] = byte;
        bytes
    };
    // what, message, answer, rcode
    let cases = [
        ("a reply", with(2, 0x80), Answer::Ignore, 0),
        ("a notification", with(2, 0x20), Answer::Complete, 4),
        ("two questions", with(5, 2), Answer::Complete, 1),
        ("no question", with(5, 0), Answer::Complete, 1),
        ("a pointer for a name", with(12, 0xc0), Answer::Complete, 1),
        ("a label that is too long", with(12, 64), Answer::Complete, 1),
        ("a newer EDNS", with(good.len() - 5, 1), Answer::Complete, 0),
        ("more records than there are", with(11, 9), Answer::Complete, 1),
        ("another class", with(good.len() - 12, 3), Answer::Complete, 5),
        ("a zero byte in a name", with(13, 0), Answer::Complete, 3),
        ("a dot in a label", with(14, b'.'), Answer::Complete, 3),
    ];
    for (what, message, expected, rcode) in cases {
        let answer = answer(&message, Transport::Udp, &records, 0, &mut reply);
        assert_eq!(answer, expected, "{what}");
        assert!(expected == Answer::Ignore || reply[3] & 15 == rcode, "{what}: {}", reply[3] & 15);
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let records = records();
    let seed = query("_http._tcp.db.default.svc.cluster.local", 33, Some(1232));
    let (mut reply, mut state) = (Vec::new(), 88_172_645_463_325_252_u64);
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for _ in 0..20_000 {
        let mut bytes = seed.clone();
        for _ in 0..random() % 6 {
            let index = random() % bytes.len();
            bytes[index] = random() as u8;
        }
        bytes.truncate(random() % (seed.len() + 1));
        answer(&bytes, Transport::Udp, &records, random() as u32, &mut reply);
        let _ = record_lifetimes(&bytes);
        let _ = record_lifetimes(&reply);
    }
}

#[test]
fn lifetimes_of_replies() {
    let mut reply = Vec::new();
    let records = records();
    answer(&query("db.default.svc.cluster.local", 1, None), Transport::Udp, &records, 0, &mut reply);
    let (places, least) = record_lifetimes(&reply).unwrap();
    assert_eq!((places.len(), least), (2, 5));
    assert!(places.iter().all(|place| reply[*place..*place + 4] == 5u32.to_be_bytes()));
    answer(&query("no.default.svc.cluster.local", 1, Some(512)), Transport::Udp, &records, 0, &mut reply);
    assert_eq!(record_lifetimes(&reply).unwrap().1, 5);
    let _ = fail(&query("example.org", 1, None), Rcode::ServerFailure, &mut reply);
    assert_eq!(record_lifetimes(&reply).unwrap(), (vec![], 0), "failures are not kept");
    assert_eq!(record_lifetimes(&reply[..11]), None);
}
