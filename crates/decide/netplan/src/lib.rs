//! Services, policies and DNS as rule sets and records.
//!
//! What enters: Services, EndpointSlices and NetworkPolicies as users and controllers wrote
//! them. What leaves: the elements of the packet rules' maps and the least
//! difference to those in the kernel ([`services`], [`policies`]), answers to DNS queries
//! ([`dns`]), and which pod gets which address ([`addresses`]). Nothing here reads a clock, a socket or a file.

pub mod addresses;
pub mod dns;
pub mod endpoints;
pub mod policies;
pub mod services;
