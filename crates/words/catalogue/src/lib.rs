//! A row for each kind: names, scope, verbs, subresources, storage, columns, defaults, validation.
//!
//! What enters: JSON objects whose types were checked against the schema, and the time where
//! something shows an age. What leaves: the same objects with defaults, lists of
//! [`FieldError`](plimsoll_meta::field::FieldError), table cells. The API server has one path for
//! all kinds; whatever differs from kind to kind is a [`Kind`] here, one file for each group (or
//! for each of its larger kinds), and, where a kind has rules of its own, a [`Strategy`].
//! Nothing here does I/O, allocates addresses or identifiers, or knows who asks.

pub mod access;
pub mod age;
pub mod column;
mod conditions;
pub mod object_meta;
pub mod verbs;

mod addresses;
mod admission_policy_rules;
mod admission_registration;
mod admission_rules;
mod api_extensions;
mod apps;
mod authentication;
mod authorization;
mod autoscaling;
mod batch;
mod certificate_rules;
mod certificates;
mod convert;
mod coordination;
mod core;
mod custom_resource_rules;
mod discovery;
mod events;
mod flow_control;
mod flow_rules;
mod image;
mod kind;
mod label_selector;
mod names;
mod networking;
mod node;
mod pod_spec;
mod policy;
mod quantities;
mod rbac;
mod report;
mod resource;
mod rows;
mod scheduling;
mod storage;
mod strategy;
mod warnings;
mod webhook;

pub use crate::core::service_address_errors;
pub use column::Column;
pub use convert::convert;
pub use kind::{Generation, Kind, Storage, Subresource};
pub use names::NameRule;
pub use pod_spec::qos;
pub use rows::{Group, by_kind, find, groups, groups_of, kinds};
pub use strategy::{Grace, Strategy};
pub use verbs::{Verb, Verbs};
