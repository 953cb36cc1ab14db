//! The pure part of the benchmarks: `cargo run --release --package plimsoll-schedule --example decide [nodes]`.

#[path = "../../../../tests/bench/src/decide.rs"]
mod decide;

fn main() {
    decide::run(std::env::args().nth(1).map_or(5000, |nodes| nodes.parse().expect("a number")));
}
