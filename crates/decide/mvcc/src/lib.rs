//! Revisions, history, compaction and watch ordering.
