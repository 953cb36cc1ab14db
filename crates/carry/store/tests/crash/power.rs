//! The power is cut at every place of the log: of what was not synced, a disk keeps what it likes.
//!
//! One run of operations is recorded with the length of the log behind each of them; every crash point is a
//! folder that such a run might have left.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use plimsoll_store::{Change, Expect, Limits, Options, Store, StoreError, Value};

use crate::folder::{copy, cut, frames, journals, scratch};
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
        volume: 16 << 10,
        ..Options::default()
    }
}

struct Recording {
    reference: Reference,
    /// After each operation: the state, and how much of each file was written.
    marks: Vec<(Mark, Lengths)>,
    files: BTreeMap<String, Vec<u8>>,
}

/// By the names of the files.
type Lengths = BTreeMap<String, usize>;

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
            recording.cut(&image.path().join("log"), &pair[0].1, &pair[1].1, &mut dice);
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
        let (last, lengths) = recording.marks.last().unwrap();
        let changed = |pair: &&[(Mark, Lengths)]| pair[0].0.state() != pair[1].0.state();
        let groups: Vec<_> = recording.marks.windows(2).filter(changed).collect();
        for pair in &groups[..groups.len() - 1] {
            let frames = recording.frames(&pair[0].1, &pair[1].1);
            let Some((name, range)) = frames.get(dice.below(frames.len())).cloned() else { continue };
            if !lengths.contains_key(&name) {
                continue;
            }
            let image = scratch();
            copy(&folder.path().join("base"), image.path());
            for name in lengths.keys() {
                fs::write(image.path().join("log").join(name), &recording.files[name]).unwrap();
            }
            let path = image.path().join("log").join(&name);
            let mut journal = recording.files[&name].clone();
            let at = range.start + dice.below(range.len());
            journal[at] ^= 0x55;
            fs::write(&path, &journal).unwrap();
            match Store::open(image.path(), options()) {
                Err(StoreError::Torn { .. }) => {
                    assert!(fs::read(&path).unwrap() == journal, "nothing was changed");
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
                Ok(_) => panic!("{name} is damaged at {at}"),
            }
        }
        assert!(last.revision > 1);
    }
    assert!(refused > 50, "{refused}");
}

async fn record(folder: &Path, dice: &mut Dice) -> Recording {
    let live = folder.join("live");
    let store = Store::open(&live, options()).unwrap();
    copy(&live, &folder.join("base"));
    for path in journals(&folder.join("base")) {
        fs::remove_file(path).unwrap();
    }
    let mut recording =
        Recording { reference: Reference::default(), marks: Vec::new(), files: BTreeMap::new() };
    recording.look(&live, Reference::start());
    for _ in 0..OPERATIONS {
        let (before, _) = recording.marks.last().unwrap();
        let mark = recording.reference.step(&store, *before, dice).await;
        recording.look(&live, mark);
    }
    recording
}

impl Recording {
    /// Notes what is in the files now.
    fn look(&mut self, live: &Path, mark: Mark) {
        let mut lengths = Lengths::new();
        for path in journals(live) {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let mut bytes = fs::read(&path).unwrap();
            if let Some(last) = frames(&bytes).pop() {
                bytes.truncate(last.end);
                lengths.insert(name.clone(), last.end);
                self.files.insert(name, bytes);
            }
        }
        self.marks.push((mark, lengths));
    }

    /// The frames that an operation wrote.
    fn frames(&self, before: &Lengths, after: &Lengths) -> Vec<(String, Range<usize>)> {
        let mut found = Vec::new();
        for (name, length) in after {
            let known = before.get(name).copied().unwrap_or(0);
            let frames = frames(&self.files[name][..*length]).into_iter();
            found.extend(frames.filter(|frame| frame.start >= known).map(|frame| (name.clone(), frame)));
        }
        found
    }

    /// The power is cut while one of the frames of an operation is written: those before it were synced.
    fn cut(&self, folder: &Path, before: &Lengths, after: &Lengths, dice: &mut Dice) {
        let frames = self.frames(before, after);
        let torn = (!frames.is_empty()).then(|| frames[dice.below(frames.len())].clone());
        let mut all = before.clone();
        all.extend(after.clone());
        for (name, length) in &all {
            let mut bytes = self.files[name][..*length].to_vec();
            match &torn {
                Some((torn, _)) if name > torn => continue,
                Some((torn, frame)) if name == torn => {
                    bytes.truncate(frame.end);
                    cut(&mut bytes, frame.start, dice);
                }
                Some(_) => {}
                None => cut(&mut bytes, *length, dice),
            }
            fs::write(folder.join(name), bytes).unwrap();
        }
    }
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
