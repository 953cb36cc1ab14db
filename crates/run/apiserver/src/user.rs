//! Who asks.

pub use plimsoll_access::User;
