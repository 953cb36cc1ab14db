//! Errors of compilation, with the form upstream prints, and of evaluation.

use std::fmt;

/// One problem at one place of the text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Issue {
    /// Position in code points; none for problems of the whole.
    at: Option<usize>,
    message: String,
}

impl Issue {
    pub(crate) fn new(at: usize, message: String) -> Self {
        Self { at: Some(at), message }
    }

    pub(crate) fn nowhere(message: String) -> Self {
        Self { at: None, message }
    }
}

/// Why an expression does not compile; prints as upstream does:
///
/// ```text
/// ERROR: <input>:1:5: undefined field 'c'
///  | self.c
///  | ....^
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CompileError {
    text: String,
    issues: Vec<Issue>,
}

/// Longer lines are not shown (cel-go: common/error.go).
const MAX_SNIPPET: usize = 16_384;

/// More issues are only counted (cel-go: common/errors.go).
const MOST: usize = 100;

impl CompileError {
    pub(crate) fn new(text: &str, mut issues: Vec<Issue>) -> Self {
        issues.sort_by_key(|issue| issue.at);
        issues.dedup();
        Self { text: text.to_owned(), issues }
    }

    fn write_issue(&self, issue: &Issue, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(at) = issue.at else {
            return write!(f, "ERROR: <input>:-1:0: {}", issue.message);
        };
        let before: Vec<char> = self.text.chars().take(at).collect();
        let line = before.iter().filter(|c| **c == '\n').count();
        let column = before.iter().rev().take_while(|c| **c != '\n').count();
        write!(f, "ERROR: <input>:{}:{}: {}", line + 1, column + 1, issue.message)?;
        let snippet = self.text.split('\n').nth(line).unwrap_or_default().replace('\t', " ");
        if snippet.chars().count() > MAX_SNIPPET {
            return Ok(());
        }
        write!(f, "\n | {snippet}\n | ")?;
        let mut chars = snippet.chars();
        for c in chars.by_ref().take(column) {
            f.write_str(if c.is_ascii() { "." } else { "\u{ff0e}" })?;
        }
        f.write_str(if chars.next().is_none_or(|c| c.is_ascii()) { "^" } else { "\u{ff3e}" })
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, issue) in self.issues.iter().take(MOST).enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            self.write_issue(issue, f)?;
        }
        match self.issues.len().saturating_sub(MOST) {
            0 => Ok(()),
            more => write!(f, "\n{more} more errors were truncated"),
        }
    }
}

impl std::error::Error for CompileError {}

/// Why an evaluation has no value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvalError {
    /// The expression cost more than a single call may, or than the rest of the budget.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostLimit,
    /// The expression failed; the text is upstream's (`no such key: x`).
    #[error("{0}")]
    Failed(String),
}

impl EvalError {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }

    pub(crate) fn no_such_overload() -> Self {
        Self::failed("no such overload")
    }
}
