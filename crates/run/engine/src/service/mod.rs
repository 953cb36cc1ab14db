//! The container runtime interface: each call is one call of the engine.

mod image;
mod runtime;
