//! Bounds of requests to the API server, as flags.

use std::time::Duration;

use clap::Args;
use plimsoll_apiserver::Limits;

/// How much clients may ask of the API server
#[derive(Args, Clone, Debug)]
pub(crate) struct LimitArgs {
    /// How long a request may take; watches, logs and streams are not bound by it
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = plimsoll_meta::duration::parse)]
    pub(crate) request_timeout: Duration,
}

impl LimitArgs {
    /// As the server takes them.
    pub(crate) fn limits(&self) -> Limits {
        Limits { request_timeout: self.request_timeout }
    }
}
