//! Packet rules in a network namespace of their own. Needs root.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use plimsoll_kernel::link::in_namespace;
use plimsoll_kernel::nft::{
    Batch, ChainKind, Expression, Family, Flow, Hook, HookPoint, Register, SetKind, Tables, Value, Verdict,
    forget_flows,
};

fn namespace() -> File {
    let make = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    };
    std::thread::spawn(make).join().unwrap()
}

const MAP: SetKind = SetKind {
    key_type: (7 << 12) | (12 << 6) | 13,
    key_length: 12,
    value: Value::Data { kind: 7 << 6 | 13, length: 8 },
    dynamic: false,
};

fn key(n: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&n.to_be_bytes());
    key[4] = 6;
    key[8..10].copy_from_slice(&80u16.to_be_bytes());
    key
}

#[test]
fn elements_are_read_back_as_they_were_written() {
    in_namespace(namespace().as_fd(), || {
        let mut tables = Tables::open()?;
        let mut batch = Batch::new(Family::Ipv4, "t");
        batch.create_table();
        batch.create_set("m", MAP);
        batch.create_set("v", SetKind { value: Value::Verdict, key_length: 4, key_type: 7, dynamic: false });
        batch.create_chain("target", None);
        let hook = Hook { kind: ChainKind::Nat, point: HookPoint::Output, priority: -100 };
        batch.create_chain("out", Some(hook));
        let r = Register(0);
        batch.add_rule(
            "out",
            &[
                Expression::Payload {
                    base: plimsoll_kernel::nft::PayloadBase::Network,
                    offset: 16,
                    length: 4,
                    to: r,
                },
                Expression::LookupVerdict { map: "v", key: r },
            ],
        );
        batch.add_verdict("v", &[10, 0, 0, 1], &Verdict::Goto("target".to_owned()));
        let keys: Vec<_> = (0..20_000u32).map(key).collect();
        batch.add_elements("m", keys.iter().map(|key| (&key[..], Some(&key[..8]))));
        let start = Instant::now();
        tables.commit(&batch.finish())?;
        println!("20,000 elements in {:?}", start.elapsed());
        assert_eq!(tables.list(Family::Ipv4)?, ["t"]);
        let start = Instant::now();
        let read = tables.elements(Family::Ipv4, "t", "m")?;
        println!("read in {:?}", start.elapsed());
        assert_eq!(read.len(), keys.len());
        let same =
            |((read, value), key): ((&Vec<u8>, &Vec<u8>), &[u8; 12])| read == key && value == &key[..8];
        assert!(read.iter().zip(&keys).all(same));

        let start = Instant::now();
        for _ in 0..100 {
            let mut batch = Batch::new(Family::Ipv4, "t");
            batch.delete_elements("m", [&keys[7][..]]);
            batch.add_elements("m", [(&keys[7][..], Some(&keys[9][..8]))]);
            tables.commit(&batch.finish())?;
        }
        println!("one change in {:?}", start.elapsed() / 100);

        let mut batch = Batch::new(Family::Ipv4, "t");
        batch.flush_set("m");
        batch.delete_elements("v", [&[1, 2, 3, 4][..]]);
        let error = tables.commit(&batch.finish()).unwrap_err();
        assert!(error.to_string().starts_with("table t: delete elements of v"), "{error}");
        assert_eq!(tables.elements(Family::Ipv4, "t", "m")?.len(), keys.len(), "all or nothing");
        assert_eq!(
            tables.elements(Family::Ipv4, "t", "none").unwrap_err().kind(),
            std::io::ErrorKind::NotFound
        );
        forget_flows([
            Flow::AnsweredBy { protocol: 17, address: "10.0.0.1".parse().unwrap(), port: 53 },
            Flow::SentTo { protocol: 17, address: "0.0.0.0".parse().unwrap(), port: 53 },
            Flow::SentTo { protocol: 17, address: "10.0.0.1".parse().unwrap(), port: 53 },
        ])
    })
    .unwrap();
}

#[test]
fn what_is_there_is_told_while_others_change_it() {
    let namespace = namespace();
    let others = namespace.try_clone().unwrap();
    in_namespace(namespace.as_fd(), || {
        let mut batch = Batch::new(Family::Ipv4, "t");
        batch.create_table();
        // More than one read takes.
        (0..2_000).for_each(|n| batch.create_chain(&format!("chain-{n}"), None));
        Tables::open()?.commit(&batch.finish())
    })
    .unwrap();
    let stopped = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            in_namespace(others.as_fd(), || {
                let mut tables = Tables::open()?;
                let mut count = 0;
                while !stopped.load(Ordering::Relaxed) {
                    let mut batch = Batch::new(Family::Ipv4, "other");
                    batch.create_table();
                    if count % 2 == 1 {
                        batch.delete_table();
                    }
                    tables.commit(&batch.finish())?;
                    count += 1;
                    // Others leave the rules alone at times.
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                Ok(count)
            })
        });
        let told = in_namespace(namespace.as_fd(), || {
            let mut tables = Tables::open()?;
            for _ in 0..200 {
                assert_eq!(tables.chains(Family::Ipv4, "t")?.len(), 2_000);
                assert!(tables.list(Family::Ipv4)?.contains(&"t".to_owned()));
            }
            Ok(())
        });
        stopped.store(true, Ordering::Relaxed);
        assert!(changes.join().unwrap().unwrap() > 0);
        told.unwrap();
    });
}
