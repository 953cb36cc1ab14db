//! Bounds of requests to the API server, as flags.

use std::time::Duration;

use clap::{ArgAction, Args};
use plimsoll_apiserver::{Gate, Limits};

/// How much clients may ask of the API server
#[derive(Args, Clone, Debug)]
pub(crate) struct LimitArgs {
    /// How long a request may take; watches, logs and streams are not bound by it
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = plimsoll_meta::duration::parse)]
    pub(crate) request_timeout: Duration,
    /// How many requests that read are served at once
    #[arg(long, value_name = "COUNT", default_value_t = 400)]
    pub(crate) max_requests_inflight: u32,
    /// How many requests that write are served at once
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    pub(crate) max_mutating_requests_inflight: u32,
    /// Divide the sum of both numbers among priority levels, and queue fairly there
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set,
        default_value_t = true)]
    pub(crate) enable_priority_and_fairness: bool,
    /// How likely it is that a request over HTTP/2 ends its connection, at most 0.02
    #[arg(long, value_name = "CHANCE", default_value_t = 0.0, value_parser = chance)]
    pub(crate) goaway_chance: f64,
    /// How long the server goes on after it was told to stop; /readyz fails meanwhile
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = plimsoll_meta::duration::parse)]
    pub(crate) shutdown_delay_duration: Duration,
}

/// Of every fiftieth request at most, so that connections are of use.
fn chance(text: &str) -> Result<f64, String> {
    let chance: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    match (0.0..=0.02).contains(&chance) {
        true => Ok(chance),
        false => Err("can not be less than 0 or greater than 0.02".to_owned()),
    }
}

impl LimitArgs {
    /// As the server takes them.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            request_timeout: self.request_timeout,
            max_requests_inflight: self.max_requests_inflight,
            max_mutating_requests_inflight: self.max_mutating_requests_inflight,
            priority_and_fairness: if self.enable_priority_and_fairness { Gate::On } else { Gate::Off },
            goaway_chance: self.goaway_chance,
            shutdown_delay: self.shutdown_delay_duration,
            ..Limits::default()
        }
    }
}
