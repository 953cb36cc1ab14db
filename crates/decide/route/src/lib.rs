//! Which request goes to which backend, and under which rules.
//!
//! What enters: Ingresses, IngressClasses and the kinds of the Gateway API ([`gateway`]) as users wrote them, and of each
//! request what the rules ask for. What leaves: for each Ingress a [`Draft`] (its rules with everything checked, and what
//! to tell its owner), of all drafts one immutable [`Table`] (by an [`Assembler`]), and for a request its route
//! ([`Table::find`]), whether it may pass ([`enter`], [`limits`]), who sent it ([`client`], [`proxy_protocol`]) and where
//! it is to go ([`canary`], [`affinity`], [`balance`]); of what a pod answers, where it ends ([`answer`]).
//!
//! A table knows names of backends and Secrets only: whoever builds it links those to what it sends to, so that a
//! change of endpoints or certificates needs no new table. Nothing here reads a clock, a socket or a file.

pub mod affinity;
pub mod answer;
mod assembler;
pub mod balance;
pub mod canary;
pub mod client;
mod draft;
pub mod enter;
pub mod external;
pub mod gateway;
mod hosts;
pub mod limits;
mod paths;
pub mod proxy_protocol;
mod read;
pub mod rewrite;
pub mod settings;
mod table;
mod target;

mod class;

pub use assembler::{Assembler, Assembly};
pub use class::{CONTROLLER, is_ours};
pub use draft::{BackendKey, Draft, Notice, Owner, PathKind, Port, SecretKey};
pub use hosts::{Hosts, host_of, is_host};
pub use table::{Links, Route, Table, Target};
pub use target::normal;
