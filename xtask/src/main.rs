//! Checks of the workspace that the compiler cannot make.
//!
//! What enters: `cargo metadata` and the files of the workspace. What leaves: a list of what breaks a
//! rule, and an exit code. Nothing here changes a file.

mod layers;
mod paths;
mod purity;
mod reasons;
mod unsafety;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// Checks of the workspace
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
enum Task {
    /// Check that dependencies point one way, that pure crates stay pure, that unsafe code is in one
    /// crate, and that each dependency says why it is there
    Layers,
}

fn main() -> ExitCode {
    let outcome = match Task::parse() {
        Task::Layers => check(),
    };
    match outcome {
        Ok(problems) if problems.is_empty() => {
            println!("layers: every rule holds");
            ExitCode::SUCCESS
        }
        Ok(problems) => {
            problems.iter().for_each(|problem| eprintln!("layers: {problem}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> anyhow::Result<Vec<String>> {
    let workspace = workspace::read()?;
    let mut problems = layers::problems(&workspace.packages);
    let sources = workspace.sources()?;
    problems.extend(purity::problems(&sources));
    problems.extend(unsafety::problems(&sources));
    problems.extend(reasons::problems(&workspace.manifest()?, &workspace.packages));
    Ok(problems)
}
