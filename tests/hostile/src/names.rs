//! Messages and configuration of the resolver.

use std::collections::BTreeMap;

use plimsoll_netplan::dns::corefile::{DEFAULT, Rules, rewritten, written};
use plimsoll_netplan::dns::{Kind, Query, Records, Searching, Transport, answer, record_lifetimes};

use crate::{Decoder, text, texts};

pub(crate) const DECODERS: &[Decoder] = &[
    Decoder { name: "dns_query", examples: queries, read: read_query },
    Decoder { name: "dns_reply", examples: replies, read: read_reply },
    Decoder { name: "corefile", examples: corefiles, read: read_corefile },
];

fn queries() -> Vec<Vec<u8>> {
    let mut query = b"\0\x01\x01\0\0\x01\0\0\0\0\0\x01".to_vec();
    for label in ["web", "default", "svc", "cluster", "local"] {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(b"\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\x80\0\0\0");
    vec![query]
}

fn read_query(bytes: &[u8]) {
    let records = Records::new("cluster.local", vec![std::net::Ipv4Addr::LOCALHOST.into()]);
    let mut reply = Vec::new();
    drop(answer(bytes, Transport::Udp, &records, 1, &mut reply));
    let Ok(query) = Query::parse(bytes) else { return };
    let searching = Searching::new(["default.svc.cluster.local", "svc.cluster.local"], ["ndots:5"]);
    for name in searching.after(query.name.text().unwrap_or_default()) {
        let about = query.about(&name).unwrap_or_default();
        drop(Query::parse(&about).map(|again| again.name.text().map(str::to_owned)));
    }
}

fn replies() -> Vec<Vec<u8>> {
    let mut reply = queries()[0].clone();
    reply[2] = 0x81;
    reply[7] = 1;
    reply.truncate(reply.len() - 11);
    reply.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01");
    vec![reply]
}

fn read_reply(bytes: &[u8]) {
    drop(record_lifetimes(bytes));
}

fn corefiles() -> Vec<Vec<u8>> {
    texts(&[
        DEFAULT,
        "(snip) {\n cache 30\n}\n10.0.0.0/8, a.example:53 {\n import snip\n import *.x\n rewrite name regex (.*)\\.b {1}.c\n \
         hosts /etc/hosts b {\n 10.0.0.1 a \"b c\"\n fallthrough\n }\n forward . 10.0.0.1 [::1]:53 {\n policy sequential\n }\n \
         template IN A a.example {\n match ^(?P<x>.*)[.]a[.]$\n answer \"{{ .Name }} 60 IN CNAME {{ .Group.x }}.b.\"\n fallthrough\n }\n}\n",
    ])
}

fn read_corefile(bytes: &[u8]) {
    let files = BTreeMap::from([("a.x".to_owned(), text(bytes).into_owned())]);
    let Ok(rules) = Rules::parse(&text(bytes), &files) else { return };
    for name in ["", "a.example", "1.0.0.10.in-addr.arpa"] {
        if let Some(block) = rules.block(name) {
            drop(rewritten(&block.rewrites, name));
            drop(written(&block.templates, name, Kind::A));
        }
    }
}
