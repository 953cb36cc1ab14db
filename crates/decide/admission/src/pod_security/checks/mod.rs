//! The checks: each looks at one pod and tells what is wrong with it.

pub(crate) mod host;
pub(crate) mod privilege;
pub(crate) mod profile;
pub(crate) mod volume;
