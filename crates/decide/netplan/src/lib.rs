//! Services, policies and DNS as rule sets and records.
//!
//! What enters: Services, EndpointSlices and NetworkPolicies as users and controllers wrote
//! them. What leaves: the elements of the packet rules' maps and the least
//! difference to those in the kernel ([`services`], [`policies`]), answers to DNS queries
//! ([`dns`]), which pod gets which address ([`addresses`]), and how the pods of other nodes are reached
//! ([`hosts`]). Nothing here reads a clock, a socket or a file.

pub mod addresses;
pub mod bandwidth;
pub mod cni;
pub mod dns;
pub mod endpoints;
pub mod hosts;
pub mod policies;
pub mod services;

/// FNV-1a, then mixed, because its upper bits say little about short inputs.
pub fn digest(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}
