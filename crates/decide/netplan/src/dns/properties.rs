//! Whatever another's codec writes is read alike here, and whatever is answered here the other can read.

#![expect(clippy::unwrap_used, reason = "tests")]

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RecordType};
use proptest::prelude::*;

use super::tests::records;
use super::*;

/// The number of an EDNS option that clients send.
const COOKIE: u16 = 10;

/// Labels that make names of the cluster likely.
fn label() -> impl Strategy<Value = String> {
    let known =
        ["web", "WEB", "db", "db-0", "default", "svc", "pod", "cluster", "local", "_http", "_tcp", "dns"];
    prop_oneof![6 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned),
        1 => "10-42-0-[0-9]", 1 => "[a-zA-Z0-9_-]{1,63}"]
}

fn name() -> impl Strategy<Value = Name> {
    let below = |zone: &'static str| {
        let labels = prop::collection::vec(label(), 0..4);
        labels.prop_map(move |mut labels| {
            labels.push(zone.to_owned());
            labels.join(".")
        })
    };
    let text = prop_oneof![
        4 => below("default.svc.cluster.local."),
        2 => below("cluster.local."),
        1 => below("in-addr.arpa."),
        1 => below("example.org."),
        1 => Just("1.0.96.10.in-addr.arpa.".to_owned()),
    ];
    text.prop_filter_map("too long", |text| Name::from_ascii(text).ok())
}

fn message() -> impl Strategy<Value = Message> {
    let kinds = vec![1u16, 2, 5, 6, 12, 15, 16, 28, 33, 64, 65, 255, 257];
    let edns = prop::option::of((
        any::<u16>(),
        any::<bool>(),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
    ));
    (any::<u16>(), name(), proptest::sample::select(kinds), any::<bool>(), edns).prop_map(
        |(id, name, kind, recursion, edns)| {
            let mut message = Message::new(id, MessageType::Query, OpCode::Query);
            message.metadata.recursion_desired = recursion;
            message.queries.push(Question::query(name, RecordType::from(kind)));
            message.edns = edns.map(|(payload, dnssec, option)| {
                let mut edns = Edns::new();
                edns.set_max_payload(payload).set_dnssec_ok(dnssec);
                if let Some(bytes) = option {
                    edns.options_mut().insert(EdnsOption::Unknown(COOKIE, bytes));
                }
                edns
            });
            message
        },
    )
}

fn lower(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

proptest! {
    #[test]
    fn queries_are_read_as_others_write_them(message in message()) {
        let bytes = message.to_vec().unwrap();
        let query = Query::parse(&bytes).unwrap();
        let question = &message.queries[0];
        prop_assert_eq!(query.id(), message.metadata.id);
        prop_assert_eq!(query.name.text().unwrap(), lower(question.name()));
        prop_assert_eq!(query.kind.number(), u16::from(question.query_type()));
        prop_assert_eq!(query.has_edns(), message.edns.is_some());
        let dnssec = message.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        prop_assert_eq!(query.wants_signatures(), dnssec);
        let payload = message.edns.as_ref().map_or(512, |edns| usize::from(edns.max_payload()));
        prop_assert_eq!(query.payload_limit(), payload.clamp(512, 4096));
    }

    #[test]
    fn answers_are_read_by_others(message in message(), tcp in any::<bool>(), spread in any::<u32>()) {
        let bytes = message.to_vec().unwrap();
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let mut reply = Vec::new();
        let answered = answer(&bytes, transport, &records(), spread, &mut reply);
        if matches!(answered, Answer::Forward | Answer::ForwardOrNothing) {
            prop_assert!(reply.is_empty());
            return Ok(());
        }
        prop_assert!(tcp || reply.len() <= Query::parse(&bytes).unwrap().payload_limit());
        let told = Message::from_vec(&reply).unwrap();
        prop_assert_eq!(told.metadata.id, message.metadata.id);
        prop_assert_eq!(told.metadata.message_type, MessageType::Response);
        prop_assert_eq!(told.metadata.recursion_desired, message.metadata.recursion_desired);
        prop_assert!(told.metadata.authoritative && told.metadata.recursion_available);
        prop_assert_eq!(told.queries[0].name().to_ascii(), message.queries[0].name().to_ascii(), "spelled alike");
        prop_assert_eq!(told.edns.is_some(), message.edns.is_some());
        let kind = message.queries[0].query_type();
        for record in &told.answers {
            let alias = record.record_type() == RecordType::CNAME;
            prop_assert!(alias || kind == RecordType::ANY || record.record_type() == kind, "{}", record);
        }
        // What there is not comes with the time for which that holds.
        if told.answers.is_empty() && !told.metadata.truncation {
            prop_assert_eq!(told.authorities.len(), 1);
            prop_assert!(matches!(told.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain));
        }
    }
}
