//! The API server: one path for every kind.
//!
//! What enters are HTTP requests, over TLS or from inside the process. What leaves are objects,
//! lists, watch streams and `Status` errors, read from and committed to the store. The stages are
//! listed in [`stages`]; a kind is a row of the catalogue and never has a handler of its own.
//! The server decides nothing about the cluster: controllers are its clients like everybody else.

mod address;
mod admit;
mod aggregate;
mod audit;
mod authenticate;
mod authorize;
mod binding;
mod body;
mod bootstrap;
mod cbor;
mod collection;
mod compress;
mod config;
mod connect;
mod custom;
mod deadline;
mod decode;
mod delete;
mod discovery;
mod document;
mod encode;
mod encryption;
mod eviction;
mod features;
mod follow;
mod frame;
mod guarded;
mod health;
mod lean;
mod limits;
mod list_body;
mod list_options;
mod listen;
mod metrics;
mod negotiate;
mod object;
mod openapi;
mod openapi_proto;
mod options;
mod page_token;
mod patch;
mod present;
mod probes;
mod protobuf;
mod query;
mod quota;
mod reach;
mod registry;
mod review;
mod safeguards;
mod scale;
mod server;
mod shape;
mod stages;
mod subresource;
mod table;
mod target;
mod token;
mod transcode;
mod tunnel;
mod user;
mod version;
mod warning;
mod watch;
mod write;

pub use audit::{AuditLog, AuditMode, AuditOptions, AuditWebhook, Compression};
pub use body::{Error as BodyError, ResponseBody};
pub use config::{Config, Credentials};
pub use features::{FeatureError, Features, Gate};
pub use limits::Limits;
pub use listen::server_tls;
pub use safeguards::{AdmissionOptions, EncryptionOptions, Reload, Safeguards};
pub use server::{Server, StartError};
pub use user::User;
pub use version::VERSION;
