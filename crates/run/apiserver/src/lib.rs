//! The API server: one path for every kind.
