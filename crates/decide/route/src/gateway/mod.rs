//! The Gateway API: what its objects mean for the table, and what is told in their status.

mod kinds;

pub use kinds::{DEFINITIONS, GROUP, GRPCRoute, Gateway, GatewayClass, HTTPRoute, ReferenceGrant};
