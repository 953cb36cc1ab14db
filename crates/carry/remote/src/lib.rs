//! HTTPS to servers that configuration names: webhooks, identity providers, extension API servers.
//!
//! What enters are whom to trust, who one is, how names become addresses, and requests whose bodies are whole.
//! What leaves are answers of bounded size before a deadline, or an error worded as Go's HTTP client words it,
//! because users search for those words. Connections are kept and used again. It never decides whether to ask.

mod client;
mod connect;
mod error;
mod pinned;
mod trust;

pub use client::Remote;
pub use connect::{Resolve, SystemNames};
pub use error::RemoteError;
pub use trust::{Authorities, Identity, client_tls};
