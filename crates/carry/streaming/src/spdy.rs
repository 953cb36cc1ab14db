//! SPDY/3.1 as `kubectl` and client-go speak it (their library: moby/spdystream).
//!
//! That library has no flow control: it neither sends nor honours window updates. What protects us is
//! that we stop reading the connection when a stream's reader is behind.

mod dictionary;
mod frame;
mod headers;
mod session;

pub use frame::{Frame, FrameReader, SpdyError};

pub(crate) use session::{Opened, serve};
