//! Runs cases several at a time, and prints as cargo's own tests do.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// Cases mostly wait, so more of them than processors run at once.
const AT_ONCE: usize = 4;

/// A named test over something shared.
#[derive(Debug)]
pub struct Case<S> {
    /// What it shows.
    pub name: &'static str,
    /// Panics when it does not hold.
    pub run: fn(&S),
}

impl<S> Clone for Case<S> {
    fn clone(&self) -> Self {
        Self { name: self.name, run: self.run }
    }
}

/// Ends a case that this machine cannot run, with what it lacks: no failure.
pub fn skip(lacking: &str) -> ! {
    std::panic::panic_any(Skipped(lacking.to_owned()))
}

/// What [`skip`] ends a case with.
struct Skipped(String);

/// What became of the cases that did not just pass.
#[derive(Default)]
struct Rest {
    failures: Vec<(&'static str, String)>,
    skipped: usize,
}

/// Runs the cases that the command line names (all without one), then drops `shared`.
///
/// Knows of cargo's options: `--list`, `--exact`, `--skip NAME`, `--test-threads N`; ignores others.
pub fn main<S: Sync>(cases: &[Case<S>], shared: impl FnOnce() -> S) -> ExitCode {
    let options = Options::parse(std::env::args().skip(1));
    let chosen: Vec<&Case<S>> = cases.iter().filter(|case| options.wants(case.name)).collect();
    if options.list {
        chosen.iter().for_each(|case| println!("{}: test", case.name));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    let begin = Instant::now();
    let Rest { failures, skipped } =
        if chosen.is_empty() { Rest::default() } else { run(&chosen, &shared(), options.at_once) };
    for (name, why) in &failures {
        println!("\n---- {name} ----\n{why}");
    }
    let word = if failures.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {} passed; {} failed; {skipped} ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        chosen.len() - failures.len() - skipped,
        failures.len(),
        cases.len() - chosen.len(),
        begin.elapsed().as_secs_f32()
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run<S: Sync>(cases: &[&Case<S>], shared: &S, at_once: usize) -> Rest {
    let next = AtomicUsize::new(0);
    let rest = Mutex::new(Rest::default());
    // The place of a panic is part of why a case failed; the default hook would mix those of several threads.
    std::panic::set_hook(Box::new(|_| {}));
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let begin = Instant::now();
            let outcome = catch_unwind(AssertUnwindSafe(|| (case.run)(shared)));
            let say = |word: &str| {
                println!("test {} ... {word} ({:.1} s)", case.name, begin.elapsed().as_secs_f32());
            };
            let Err(panic) = outcome else {
                say("ok");
                continue;
            };
            let mut rest = rest.lock().expect("no case holds the lock");
            if let Some(Skipped(lacking)) = panic.downcast_ref() {
                say(&format!("ignored, {lacking}"));
                rest.skipped += 1;
            } else {
                say("FAILED");
                rest.failures.push((case.name, message(panic.as_ref())));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..at_once.min(cases.len()) {
            scope.spawn(work);
        }
    });
    rest.into_inner().expect("no case holds the lock")
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "it panicked".to_owned())
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    names: Vec<String>,
    skip: Vec<String>,
    exact: bool,
    list: bool,
    at_once: usize,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Self {
        let mut options =
            Self { names: Vec::new(), skip: Vec::new(), exact: false, list: false, at_once: AT_ONCE };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => options.list = true,
                "--exact" => options.exact = true,
                "--skip" => options.skip.extend(arguments.next()),
                "--format" => drop(arguments.next()),
                "--test-threads" => {
                    options.at_once = arguments
                        .next()
                        .and_then(|count| count.parse().ok())
                        .filter(|count| *count > 0)
                        .unwrap_or(AT_ONCE);
                }
                name if !name.starts_with('-') => options.names.push(argument),
                _ => {}
            }
        }
        options
    }

    fn wants(&self, name: &str) -> bool {
        let named =
            |wanted: &String| if self.exact { name == wanted } else { name.contains(wanted.as_str()) };
        (self.names.is_empty() || self.names.iter().any(named)) && !self.skip.iter().any(named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_chooses_cases() {
        let table = [
            ("", "pods::exec", true),
            ("pods", "pods::exec", true),
            ("jobs", "pods::exec", false),
            ("--exact pods", "pods::exec", false),
            ("--skip pods", "pods::exec", false),
            ("--nocapture pods --test-threads 1", "pods::exec", true),
        ];
        for (line, name, wanted) in table {
            let options = Options::parse(line.split_whitespace().map(str::to_owned));
            assert_eq!(options.wants(name), wanted, "{line}: {name}");
        }
    }
}
