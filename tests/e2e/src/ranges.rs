//! Ranges of addresses that nobody on this machine uses, now or in another run of these tests.

use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

use crate::command::run;

/// The second number of the ranges that are tried: above those that instances choose for themselves, and below those
/// of machines in namespaces.
const NUMBERS: std::ops::Range<u8> = 192..230;

/// Where instances hold their ranges of pods.
const CLAIMS: &str = "/run/plimsoll/ranges";

/// A block of addresses of each family, held as long as this lives.
#[derive(Debug)]
pub struct Block {
    number: u8,
    _held: File,
}

impl Block {
    /// A block that no route of this machine leads to and no other run has.
    ///
    /// # Panics
    ///
    /// When all are taken.
    #[track_caller]
    pub fn free() -> Self {
        let routes = |family: &str| {
            let listing = ["-o", family, "route", "show", "table", "all"];
            run(Command::new("ip").args(listing), b"", Duration::from_secs(10)).stdout
        };
        let known = routes("-4") + &routes("-6");
        let free = |number: &u8| {
            !known.contains(&format!("10.{number}.")) && !known.contains(&format!("fd00:{number}:"))
        };
        fs::create_dir_all(CLAIMS).expect("make a directory");
        let held = NUMBERS.filter(free).find_map(|number| {
            let held = File::create(format!("{CLAIMS}/10.{number}.0.0")).ok()?;
            held.try_lock().ok()?;
            Some(Self { number, _held: held })
        });
        held.expect("a range of addresses is free")
    }

    /// The start of all its IPv4 addresses, two numbers of four: `10.192`.
    pub fn four(&self) -> String {
        format!("10.{}", self.number)
    }

    /// The start of all its IPv6 addresses, 32 bits: `fd00:192`.
    pub fn six(&self) -> String {
        format!("fd00:{}", self.number)
    }
}
