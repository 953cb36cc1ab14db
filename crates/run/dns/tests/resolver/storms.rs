//! Many questions at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::Message;
use tokio::net::UdpSocket;

use super::support::*;

#[test]
fn a_storm_of_many_pods_loses_nothing() {
    on_a_machine(|| async {
        let asked = Arc::new(AtomicUsize::new(0));
        slow_upstream_at(UPSTREAM, asked.clone(), Duration::from_millis(100)).await;
        let machine = start("nameserver 127.0.0.20\n", true).await;
        // 150 pods that ask 100 questions each before they read an answer.
        let pods = (0..150).map(|pod| async move {
            let socket = UdpSocket::bind((format!("127.0.1.{pod}"), 0)).await.unwrap();
            nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &(1 << 20))
                .unwrap();
            socket.connect(OURS).await.unwrap();
            for number in 0..100 {
                socket.send(&query(&format!("n{number}-{}.example.org.", pod % 10), number)).await.unwrap();
            }
            let (mut answers, mut buffer) = (std::collections::HashSet::new(), [0; 512]);
            while answers.len() < 100 {
                let length = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut buffer)).await;
                let length = length.unwrap_or_else(|_| panic!("pod {pod} got {} answers", answers.len()));
                let reply = Message::from_vec(&buffer[..length.unwrap()]).unwrap();
                assert_eq!(reply.answers.len(), 1);
                answers.insert(reply.metadata.id);
            }
        });
        futures::future::join_all(pods).await;
        assert_eq!(asked.load(Ordering::SeqCst), 1000, "each name is asked for once");
        machine.stop.cancel();
    });
}
