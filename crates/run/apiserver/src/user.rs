//! Who asks.

pub(crate) use plimsoll_access::AUTHENTICATED;
pub use plimsoll_access::User;
