//! Real containers on this machine. Needs root; without it there is nothing to test.
//!
//! The program is its own shim: it is run again with `shim` as its first argument.
#![expect(clippy::unwrap_used, reason = "tests")]

mod cases;
mod faults;
mod machine;
mod users;

use std::time::Instant;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let wanted = arguments.find(|argument| !argument.starts_with('-'));
    if wanted.as_deref() == Some("shim") {
        plimsoll_engine::shim_main();
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: containers need root");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let run = |name: &str, case: cases::Case| {
        if wanted.as_deref().is_some_and(|wanted| !name.contains(wanted)) {
            return 0;
        }
        let begin = Instant::now();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(case())));
        if let Err(panic) = result {
            // What a failed case leaves would fail the next one too.
            runtime.block_on(machine::clean_up());
            println!("test {name} ... FAILED");
            std::panic::resume_unwind(panic);
        }
        println!("test {name} ... ok ({} ms)", begin.elapsed().as_millis());
        1
    };
    let passed: u32 = cases::ALL.into_iter().chain(faults::ALL).map(|(name, case)| run(name, case)).sum();
    println!("\ntest result: ok. {passed} passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}
