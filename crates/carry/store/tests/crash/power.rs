//! The power is cut at every place of a journal: of what was not synced, a disk keeps what it likes.
//!
//! One run of operations is recorded with the length of the journal behind each of them; every crash point is a
//! folder that such a run might have left.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use plimsoll_store::{Change, Expect, Limits, Options, Store, StoreError, Value};

use crate::folder::{copy, cut, journals, scratch};
use crate::reference::{Mark, Reference};
use crate::{Dice, setting};

const OPERATIONS: usize = 64;
/// Crash points in each of these.
const VARIANTS: usize = 4;

pub(crate) fn options() -> Options {
    Options {
        compaction_interval: None,
        window: Limits { events: 8, bytes: 1 << 20 },
        watch_queue: 4,
        ..Options::default()
    }
}

struct Recording {
    reference: Reference,
    /// After each operation: the state, and the length of the journal.
    marks: Vec<(Mark, usize)>,
    journal: Vec<u8>,
    name: String,
}

/// Says how to see a failure again.
struct Replay {
    seed: u64,
}

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("again: PLIMSOLL_CRASH_SEED={} PLIMSOLL_CRASH_POINTS=1", self.seed);
        }
    }
}

#[tokio::test]
async fn a_power_cut_takes_nothing_that_was_acknowledged() {
    let points = setting("PLIMSOLL_CRASH_POINTS", 1024) as usize;
    let first = setting("PLIMSOLL_CRASH_SEED", u64::from(std::process::id()));
    println!("{points} crash points from seed {first}");
    let mut seen = 0;
    for seed in first.. {
        let _replay = Replay { seed };
        seen += play(seed).await;
        if seen >= points {
            break;
        }
    }
}

/// Records a run and cuts the power in each of its operations, several times.
async fn play(seed: u64) -> usize {
    let mut dice = Dice(seed);
    let folder = scratch();
    let recording = record(folder.path(), &mut dice).await;
    let mut points = 0;
    for pair in recording.marks.windows(2) {
        for _ in 0..VARIANTS {
            let image = scratch();
            copy(&folder.path().join("base"), image.path());
            let mut journal = recording.journal[..pair[1].1].to_vec();
            cut(&mut journal, pair[0].1, &mut dice);
            fs::write(image.path().join("db").join(&recording.name), journal).unwrap();
            check(image.path(), &recording, pair[0].0, pair[1].0, &mut dice).await;
            points += 1;
        }
    }
    points
}

/// Whatever was followed by other groups was acknowledged: damage there is found, or did no harm.
#[tokio::test]
async fn damage_of_what_was_acknowledged_is_not_taken_for_a_power_cut() {
    let first = setting("PLIMSOLL_CRASH_SEED", u64::from(std::process::id()));
    let mut refused = 0;
    for seed in first..first + 4 {
        let _replay = Replay { seed };
        let mut dice = Dice(seed);
        let folder = scratch();
        let recording = record(folder.path(), &mut dice).await;
        let (last, _) = *recording.marks.last().unwrap();
        let changed = |pair: &&[(Mark, usize)]| pair[0].0.state() != pair[1].0.state();
        let groups: Vec<_> = recording.marks.windows(2).filter(changed).collect();
        for pair in &groups[..groups.len() - 1] {
            let image = scratch();
            copy(&folder.path().join("base"), image.path());
            let mut journal = recording.journal.clone();
            let range = pair[0].1..pair[1].1;
            let at = range.start + dice.below(range.len());
            journal[at] ^= 0x55;
            let path = image.path().join("db").join(&recording.name);
            fs::write(&path, &journal).unwrap();
            match Store::open(image.path(), options()) {
                Err(StoreError::Torn { .. }) => {
                    assert!(fs::read(&path).unwrap() == journal, "nothing was changed");
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
                Ok(store) => {
                    let right = Mark { compacted: store.compacted().0, ..last };
                    recording.reference.check(&store, right, right, &mut dice).await;
                }
            }
        }
    }
    assert!(refused > 50, "{refused}");
}

async fn record(folder: &Path, dice: &mut Dice) -> Recording {
    let live = folder.join("live");
    let store = Store::open(&live, options()).unwrap();
    copy(&live, &folder.join("base"));
    let path = journals(&live).pop().unwrap();
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    fs::remove_file(folder.join("base/db").join(&name)).unwrap();
    let file = File::open(path).unwrap();
    let mut reference = Reference::default();
    let mut mark = Reference::start();
    let mut journal = Vec::new();
    let mut marks = vec![(mark, 0)];
    for _ in 0..OPERATIONS {
        mark = reference.step(&store, mark, dice).await;
        let mut bytes = vec![0; 1 << 20];
        let length = file.read_at(&mut bytes, journal.len() as u64).unwrap();
        let used = bytes[..length].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        journal.extend_from_slice(&bytes[..used]);
        marks.push((mark, journal.len()));
    }
    Recording { reference, marks, journal, name }
}

/// Opens what is left, twice: a write to a journal that was cut must be there the second time.
async fn check(image: &Path, recording: &Recording, acknowledged: Mark, next: Mark, dice: &mut Dice) {
    let store = Store::open(image, options()).unwrap();
    let found = recording.reference.check(&store, acknowledged, next, dice).await;
    if dice.below(4) == 0 {
        let value = Change::Put(Value::plain("goes on"));
        let entry = store.commit("/more", Expect::Absent, value).await.unwrap();
        assert_eq!(entry.modified.0, found.revision + 1);
        drop(store);
        let store = Store::open(image, options()).unwrap();
        assert_eq!(&*store.get("/more").unwrap().value, b"goes on");
        assert_eq!((store.revision().0, store.compacted().0), (found.revision + 1, found.compacted));
    }
}
