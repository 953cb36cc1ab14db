//! How answers of commands are printed.

use clap::ValueEnum;

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Form {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}
