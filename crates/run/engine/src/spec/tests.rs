//! Golden documents.
