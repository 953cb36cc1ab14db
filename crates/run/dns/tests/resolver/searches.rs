//! Whole searches in one reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::rr::RecordType;

use super::support::*;

#[test]
fn a_pods_search_is_answered_with_its_first_question() {
    on_a_machine(|| async {
        let asked = Arc::new(AtomicUsize::new(0));
        upstream(asked.clone()).await;
        let machine = start("nameserver 127.0.0.20\nsearch corp.example\n", true).await;
        eventually(POD, "www.example.org.default.svc.cluster.local.", "NoError 192.0.2.7").await;
        // The host's domain, then the name itself.
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        for (client, name, expected) in [
            (POD, "web.default.default.svc.cluster.local.", "NoError 10.43.0.1"),
            (POD, "nowhere.example.net.default.svc.cluster.local.", "NXDomain"),
            (POD, "broken.example.com.default.svc.cluster.local.", "NXDomain"),
            (POD, "example.default.svc.cluster.local.", "NXDomain"),
            ("127.0.0.1", "www.example.org.default.svc.cluster.local.", "NXDomain"),
        ] {
            assert_eq!(ask_from(client, name).await, expected, "{client} {name}");
        }
        // What has an address of the other family is there at once too, without records.
        let kind = RecordType::AAAA;
        assert_eq!(ask_at(OURS, POD, "www.example.org.default.svc.cluster.local.", kind).await, "NoError");
        machine.stop.cancel();
    });
}

#[test]
fn a_pods_own_options_and_domains_count() {
    on_a_machine(|| async {
        let asked = Arc::new(AtomicUsize::new(0));
        upstream(asked.clone()).await;
        let machine = start("nameserver 127.0.0.20\n", true).await;
        eventually(PICKY_POD, "example.org.default.svc.cluster.local.", "NoError 192.0.2.7").await;
        // Its own domain, then the name itself.
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        // A client with ndots:2 asks for a name of two dots as it is, before any domain.
        let dots = "www.example.org.default.svc.cluster.local.";
        assert_eq!(ask_from(PICKY_POD, dots).await, "NXDomain");
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        machine.stop.cancel();
    });
}
