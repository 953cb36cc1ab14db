//! Plimsoll: Kubernetes in one program.
//!
//! What enters are a command line and the files of an instance; what leaves is a running cluster.
//! The parts know nothing of each other: here they are wired together, and nowhere else.

mod access;
mod cli;
mod component;
mod control_plane;
mod controllers;
mod demo;
mod detach;
mod doctor;
mod down;
mod etcd;
mod form;
mod image;
mod ingress;
mod instance;
mod kubelet;
mod limits;
mod log;
mod network;
mod node;
mod preflight;
mod progress;
mod ranges;
mod safeguards;
mod scheduler;
mod serving;
mod simulate;
mod store;
mod store_client;
mod up;
mod why;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Shims and pause processes are this program, too; they are small and start before anything else does.
    match std::env::args_os().nth(1).as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("shim") => plimsoll_engine::shim_main(),
        Some("pause") => plimsoll_kernel::pause::pause_main(),
        _ => {}
    }

    let outcome = cli::run(cli::parse());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plimsoll: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes, each said once: many errors repeat what caused them.
fn told(error: &anyhow::Error) -> String {
    let mut told: Vec<String> = Vec::new();
    for cause in error.chain() {
        // What follows repeats the same in Rust's form.
        if let Some(kube::Error::Api(status)) = cause.downcast_ref() {
            told.push(status.message.clone());
            break;
        }
        let text = cause.to_string();
        if !told.iter().any(|before| before.contains(&text)) {
            told.push(text);
        }
    }
    told.join(": ")
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    #[derive(Debug)]
    struct Repeating(std::io::Error);

    impl std::fmt::Display for Repeating {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "store x: {}", self.0)
        }
    }

    impl std::error::Error for Repeating {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn each_cause_is_told_once() {
        let cause = || std::io::Error::other("the disk is gone");
        for (error, told) in [
            (
                anyhow::Error::from(Repeating(cause())).context("API server"),
                "API server: store x: the disk is gone",
            ),
            (anyhow::Error::from(cause()).context("read y"), "read y: the disk is gone"),
            (anyhow::anyhow!("alone"), "alone"),
        ] {
            assert_eq!(super::told(&error), told);
        }
    }

    #[test]
    fn what_a_server_says_is_told_as_it_says_it() {
        let status = kube::core::Status::failure("pods \"a\" not found", "NotFound").with_code(404);
        let api = Err::<(), _>(kube::Error::Api(Box::new(status))).context("pod a");
        assert_eq!(api.map_err(|error| super::told(&error)), Err("pod a: pods \"a\" not found".to_owned()));
    }
}
