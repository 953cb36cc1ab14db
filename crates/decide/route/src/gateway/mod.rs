//! The Gateway API: what its objects mean for the table, and what is told in their status.
//!
//! What enters: a [`World`] of Gateways, routes (read once for each version, as [`RouteDraft`]s), grants, and what is known
//! of Services, Secrets and ports. What leaves: a [`Plan`] of ports to open, Secrets to read and statuses to write, of which
//! [`crate::assemble`] makes a part of the table.

mod attachments;
mod bundle;
mod changes;
mod conditions;
mod drafts;
mod gates;
mod grants;
mod hostnames;
mod kinds;
mod listeners;
mod matching;
mod plan;
mod world;

pub use bundle::VERSION;
pub use changes::{Changes, Headers, Redirection};
pub use drafts::{RouteDraft, RouteKind};
pub(crate) use gates::Gates;
pub use gates::{Ending, Mirror, Share, Shares, Stream};
pub use kinds::{
    Cors, DEFINITIONS, GROUP, GRPCRoute, Gateway, GatewayClass, HTTPRoute, ReferenceGrant, TLSRoute,
};
pub use matching::Asked;
pub use plan::{CONTROLLER, Plan, Told, plan};
pub use world::{Ports, World};
