//! Whatever comes in, decoders neither panic nor take long.
//!
//! `PLIMSOLL_HOSTILE_ROUNDS` says how many inputs each decoder gets, `PLIMSOLL_HOSTILE_SEED` which ones, and
//! `PLIMSOLL_HOSTILE_ONLY` which decoder; what ends the whole process (an overflow of the stack) is left in the
//! file that `PLIMSOLL_HOSTILE_LAST` names. The examples go below the folder `PLIMSOLL_HOSTILE_SEEDS` if there is one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use plimsoll_hostile::{Decoder, Mutator, decoders};

/// How many inputs each decoder gets when nobody asks for more.
const ROUNDS: usize = 400;
/// One of so many inputs is long.
const LONG: usize = 25;
/// How long a long input is.
const SIZE: usize = 64 << 10;
/// How long one input may keep a processor, in a build without optimization.
const PATIENCE: Duration = Duration::from_secs(10);

fn setting(name: &str) -> Option<String> {
    std::env::var(format!("PLIMSOLL_HOSTILE_{name}")).ok()
}

fn number(name: &str) -> Option<usize> {
    setting(name)?.parse().ok()
}

/// How long this thread has had a processor; other threads and programs do not count.
fn worked() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// Reads an input; how long that took.
fn read(decoder: &Decoder, bytes: &[u8]) -> Duration {
    if let Some(path) = setting("LAST") {
        std::fs::write(format!("{path}.{}", decoder.name), bytes).expect("written");
    }
    let begun = worked();
    let outcome = catch_unwind(AssertUnwindSafe(|| (decoder.read)(bytes)));
    let shown = &bytes[..bytes.len().min(5000)];
    assert!(outcome.is_ok(), "{} panics at {}", decoder.name, shown.escape_ascii());
    let took = worked() - begun;
    assert!(took < PATIENCE, "{} takes {took:?} for {}", decoder.name, shown.escape_ascii());
    took
}

fn survive(decoder: &Decoder) {
    let rounds = number("ROUNDS").unwrap_or(ROUNDS);
    let seed = number("SEED").unwrap_or(1) as u64;
    let mut mutator = Mutator::new(seed, (decoder.examples)());
    let (mut slowest, mut worst) = (Duration::ZERO, Vec::new());
    for round in 0..rounds {
        let bytes = if round % LONG == 0 { mutator.long(SIZE) } else { mutator.input() };
        let took = read(decoder, &bytes);
        if took > slowest {
            (slowest, worst) = (took, bytes);
        }
    }
    let shown = worst[..worst.len().min(200)].escape_ascii();
    println!("{}: slowest of {rounds}: {slowest:?} for {} bytes: {shown}", decoder.name, worst.len());
}

#[test]
fn decoders_survive_what_nobody_should_send() {
    let only = setting("ONLY");
    let mut chosen = decoders();
    chosen.retain(|decoder| only.as_deref().is_none_or(|only| only == decoder.name));
    assert!(!chosen.is_empty(), "no decoder of that name");
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(2, |number| number.get());
        let share = chosen.len().div_ceil(threads);
        // Threads of the usual size: what overflows their stack would overflow a server's.
        for decoders in chosen.chunks(share) {
            scope.spawn(|| decoders.iter().for_each(survive));
        }
    });
}

#[test]
fn examples_are_read_and_names_are_unique() {
    let mut names: Vec<&str> = decoders().iter().map(|decoder| decoder.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), decoders().len());
    for decoder in decoders() {
        for (number, example) in (decoder.examples)().iter().enumerate() {
            read(&decoder, example);
            if let Some(folder) = setting("SEEDS") {
                let folder = std::path::Path::new(&folder).join(decoder.name);
                std::fs::create_dir_all(&folder).expect("made");
                std::fs::write(folder.join(format!("example-{number}")), example).expect("written");
            }
        }
    }
}

#[test]
fn every_decoder_has_a_fuzz_target() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz");
    let manifest = std::fs::read_to_string(format!("{folder}/Cargo.toml")).expect("a manifest");
    for decoder in decoders() {
        let name = decoder.name;
        let target = std::fs::read_to_string(format!("{folder}/fuzz_targets/{name}.rs")).expect(name);
        assert!(target.contains(&format!("read(\"{name}\"")), "{name}");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
}
