//! What the Corefile says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::support::*;

#[test]
fn the_corefile_counts() {
    const COREFILE: &str = ".:53 {
        template IN A written.example {
            match ^ip-([0-9]*)[.]written[.]example[.]$
            answer \"{{ .Name }} 60 IN A 192.0.2.{{ index .Match 1 }}\"
        }
        template IN ANY alias.example {
            answer \"{{ .Name }} 60 IN CNAME www.example.org.\"
        }
        rewrite name old.example.net www.example.org
        rewrite name suffix .inside.example .default.svc.cluster.local
        hosts {
            192.0.2.77 mirror.example.net
            fallthrough
        }
        kubernetes cluster.local {
            pods disabled
        }
        forward . 127.0.0.20 {
            except nobody.example
        }
        cache 30
    }
    stub.example.org {
        forward . 127.0.0.21
    }
";
    on_a_machine(|| async {
        let (asked, stub) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        upstream(asked.clone()).await;
        upstream_at("127.0.0.21:53", stub.clone()).await;
        let machine = start_with("", Api { answers: true, corefile: Some(COREFILE) }).await;
        eventually("127.0.0.1", "mirror.example.net.", "NoError 192.0.2.77").await;
        for (name, expected) in [
            ("ip-9.written.example.", "NoError 192.0.2.9"),
            ("www.written.example.", "NXDomain"),
            ("a.alias.example.", "NoError www.example.org. 192.0.2.7"),
            ("old.example.net.", "NoError 192.0.2.7"),
            ("web.inside.example.", "NoError 10.43.0.1"),
            ("10-0-0-1.default.pod.cluster.local.", "NXDomain"),
            ("a.nobody.example.", "ServFail"),
        ] {
            assert_eq!(ask(name).await, expected, "{name}");
        }
        assert_eq!((asked.load(Ordering::SeqCst), stub.load(Ordering::SeqCst)), (1, 0));
        assert_eq!(ask("a.stub.example.org.").await, "NoError 192.0.2.7");
        assert_eq!((asked.load(Ordering::SeqCst), stub.load(Ordering::SeqCst)), (1, 1));
        machine.stop.cancel();
    });
}
