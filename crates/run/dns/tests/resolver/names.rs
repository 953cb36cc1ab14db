//! Whose names are known.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;

use super::support::*;

#[test]
fn names_of_the_cluster_and_of_others() {
    on_a_machine(|| async {
        let asked = Arc::new(AtomicUsize::new(0));
        upstream(asked.clone()).await;
        let machine = start("nameserver 127.0.0.10\nnameserver 127.0.0.20\n", true).await;
        let cases = [
            ("web.default.svc.cluster.local.", "NoError 10.43.0.1"),
            ("none.default.svc.cluster.local.", "NXDomain"),
            ("www.example.org.", "NoError 192.0.2.7"),
            ("WWW.Example.ORG.", "NoError 192.0.2.7"),
            ("nowhere.example.net.", "NXDomain"),
            ("nowhere.example.net.", "NXDomain"),
            ("broken.example.com.", "ServFail"),
            ("away.default.svc.cluster.local.", "NoError www.example.org. 192.0.2.7"),
            ("big.example.org.", "NoError cut"),
        ];
        for (name, expected) in cases {
            assert_eq!(ask(name).await, expected, "{name}");
        }
        // Two for www.example.org (without and with EDNS), one for each other name, two for the failure
        // are too many: it is not asked again when a server said so.
        assert_eq!(asked.load(Ordering::SeqCst), 5, "the cache answers the rest");
        let mut stream = TcpStream::connect(OURS).await.unwrap();
        assert_eq!(ask_tcp(&mut stream, "web.default.svc.cluster.local.").await, "NoError 10.43.0.1");
        assert_eq!(ask_tcp(&mut stream, "big.example.org.").await.split(' ').count(), 101);
        machine.stop.cancel();
    });
}

#[test]
fn nothing_is_denied_before_the_cluster_is_known() {
    on_a_machine(|| async {
        let machine = start("", false).await;
        assert_eq!(ask("web.default.svc.cluster.local.").await, "ServFail");
        assert_eq!(ask("none.default.svc.cluster.local.").await, "ServFail");
        machine.stop.cancel();
    });
}

#[test]
fn another_address_is_answered_on_unless_it_is_taken() {
    on_a_machine(|| async {
        let machine = start("", true).await;
        let kind = hickory_proto::rr::RecordType::A;
        let name = "web.default.svc.cluster.local.";
        assert_eq!(ask_at(LOCAL, "127.0.0.1", name, kind).await, "NoError 10.43.0.1");
        machine.stop.cancel();
    });
    on_a_machine(|| async {
        let _taken = std::net::UdpSocket::bind(LOCAL).unwrap();
        let machine = start("", true).await;
        assert_eq!(ask("web.default.svc.cluster.local.").await, "NoError 10.43.0.1");
        machine.stop.cancel();
    });
}

#[test]
fn addresses_are_free_when_the_resolver_has_ended() {
    on_a_machine(|| async {
        let machine = start("", true).await;
        machine.stop.cancel();
        let again = async {
            while tokio::net::UdpSocket::bind(OURS).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(5), again).await.unwrap();
    });
}
