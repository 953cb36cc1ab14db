//! The server as a whole, asked from inside the process: a module for each behaviour.

mod support;
mod webhook_server;

mod access;
mod addresses;
mod audit;
mod connections;
mod conversions;
mod custom;
mod discovery;
mod encodings;
mod encryption;
mod evictions;
mod extensions;
mod fairness;
mod gateways;
mod hostile;
mod kms;
mod lists;
mod messages;
mod metrics;
mod objects;
mod openapi;
mod patches;
mod plugins;
mod pod_security;
mod policies;
mod proportional;
mod quotas;
mod remote;
mod roles;
mod space;
mod usage;
mod walk;
mod watches;
mod webhooks;
