//! Asking a container how it is, or telling it something: HTTP, TCP, a command, gRPC.
//!
//! What enters is the action of a probe or hook and a time limit; what leaves is one outcome in the words that
//! users know (kubelet: pkg/probe, v1.37).

mod answer;
mod dial;
mod grpc;
mod http;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, GRPCAction, HTTPGetAction, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use plimsoll_podlife::env::expand;
use plimsoll_podlife::probe::Outcome;

use crate::engine::{Engine, Executed, text};
pub(crate) use answer::Answer;
pub(crate) use http::PLAIN_ANSWER;

/// How much of an answer is read, in bytes.
const ANSWER: usize = 10 * 1024;

/// Where a container is reached.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) engine: Engine,
    /// The run.
    pub(crate) id: String,
    /// The pod's address.
    pub(crate) ip: String,
    pub(crate) container: Arc<Container>,
}

impl Place {
    /// Runs a command; success is exit code 0.
    pub(crate) async fn exec(&self, command: &[String], timeout: Duration) -> Outcome {
        let command: Vec<_> = command.iter().map(|word| expand(word, |name| self.plain(name))).collect();
        let shown = command.join(" ");
        match self.engine.exec(&self.id, command, timeout).await {
            Ok(Executed { code: 0, .. }) => Outcome::Success,
            Ok(executed) => Outcome::Failure(executed.output(ANSWER)),
            Err(status) if status.code() == tonic::Code::DeadlineExceeded => {
                let seconds = timeout.as_secs();
                Outcome::Failure(format!("command timed out: \"{shown}\" timed out after {seconds}s"))
            }
            Err(status) => Outcome::Error(text(&status)),
        }
    }

    /// Opens a connection; success is that it opens.
    pub(crate) async fn tcp(&self, action: &TCPSocketAction, timeout: Duration) -> Outcome {
        let port = match self.port(&action.port) {
            Ok(port) => port,
            Err(why) => return Outcome::Error(why),
        };
        match dial::open(&dial::join(self.host(action.host.as_deref()), port), timeout).await {
            Ok(()) => Outcome::Success,
            Err(why) => Outcome::Failure(why),
        }
    }

    /// Fetches a page; success is a status from 200 to 299, or a redirection that leads elsewhere.
    pub(crate) async fn http(&self, action: &HTTPGetAction, agent: &str, timeout: Duration) -> Outcome {
        match self.get(action, agent, timeout).await {
            Ok(answer) => answer.outcome(),
            Err(outcome) => outcome,
        }
    }

    /// Fetches a page; the failure says why there is none.
    pub(crate) async fn get(
        &self,
        action: &HTTPGetAction,
        agent: &str,
        timeout: Duration,
    ) -> Result<Answer, Outcome> {
        let port = self.port(&action.port).map_err(Outcome::Error)?;
        let authority = dial::join(self.host(action.host.as_deref()), port);
        http::get(action, &authority, agent, timeout).await
    }

    /// Asks gRPC's own health service.
    pub(crate) async fn grpc(&self, action: &GRPCAction, timeout: Duration) -> Outcome {
        let address = dial::join(&self.ip, u16::try_from(action.port).unwrap_or_default());
        grpc::check(&address, action.service.as_deref().unwrap_or_default(), timeout).await
    }

    fn host<'a>(&'a self, named: Option<&'a str>) -> &'a str {
        named.filter(|host| !host.is_empty()).unwrap_or(&self.ip)
    }

    /// A variable as the specification has it: commands see no others.
    fn plain(&self, name: &str) -> Option<&str> {
        let mut variables = self.container.env.iter().flatten();
        let variable = variables.rfind(|variable| variable.name == name)?;
        Some(variable.value.as_deref().unwrap_or_default())
    }

    fn port(&self, port: &IntOrString) -> Result<u16, String> {
        let number = match port {
            IntOrString::Int(number) => *number,
            IntOrString::String(name) => self.named_port(name)?,
        };
        let valid = u16::try_from(number).ok().filter(|port| *port > 0);
        valid.ok_or_else(|| format!("invalid port number: {number}"))
    }

    fn named_port(&self, name: &str) -> Result<i32, String> {
        let mut ports = self.container.ports.iter().flatten();
        if let Some(port) = ports.find(|port| port.name.as_deref() == Some(name)) {
            return Ok(port.container_port);
        }
        name.parse().map_err(|_| format!("strconv.Atoi: parsing \"{name}\": invalid syntax"))
    }
}
