//! Dockerfiles: text in, instructions out. No file is touched here.
//!
//! Source of the rules: the Dockerfile reference, version 1 syntax.

mod expand;
mod lines;
mod parse;

pub(super) use expand::{Scope, expand, expand_words};
pub(super) use lines::Heredoc;
pub use parse::{Command, Copy, Dockerfile, Healthcheck, Instruction, Origin, Step};

/// Largest Dockerfile that is read: 1 MiB.
pub(super) const MAX_DOCKERFILE: u64 = 1 << 20;
