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

use std::process::{Command, ExitCode};

use clap::{Parser, ValueEnum};

/// Checks of the workspace
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
enum Task {
    /// Check that dependencies point one way, that pure crates stay pure, that unsafe code is in one
    /// crate, and that each dependency says why it is there
    Layers,
    /// Print the controllers with what they read and write, as text or for Graphviz
    Graph {
        /// The form
        #[arg(value_enum, default_value_t)]
        form: Form,
    },
}

/// How the graph is printed
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Form {
    /// For people
    #[default]
    Text,
    /// For `dot`
    Dot,
}

fn main() -> ExitCode {
    match Task::parse() {
        Task::Layers => layers(),
        Task::Graph { form } => graph(form),
    }
}

/// The controllers' own crate knows the graph; here nothing of it need be compiled for other tasks.
fn graph(form: Form) -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let form = if matches!(form, Form::Dot) { "dot" } else { "text" };
    let arguments = ["run", "--quiet", "--package", "plimsoll-controllers", "--example", "graph", "--", form];
    match Command::new(cargo).args(arguments).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: run cargo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn layers() -> ExitCode {
    match check() {
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
