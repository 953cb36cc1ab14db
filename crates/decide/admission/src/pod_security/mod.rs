//! Pod Security admission (upstream: staging/src/k8s.io/pod-security-admission, v1.37).
//!
//! What enters: the labels of a namespace, the configuration and a pod or what holds a pod's
//! template. What leaves: a [`Verdict`] with the refusal, warnings and notes for the audit log.

mod checks;
mod config;
mod existing;
mod level;
mod pod;
mod registry;
mod review;

pub use config::{ConfigError, Configuration, Exemptions};
pub use level::{Level, LevelVersion, Policy, Version};
pub use review::{Operation, Review, Verdict, template};
