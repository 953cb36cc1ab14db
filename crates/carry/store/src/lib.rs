//! Durable revisions over fjall.
