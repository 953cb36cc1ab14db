//! Plugins that make themselves known by sockets in a folder ([`watch`]): drivers of volumes, drivers of claimed
//! devices, device plugins. Each is asked who it is and told what came of that ([`register`]).

mod register;
mod watch;

use std::path::PathBuf;

pub(crate) use watch::run;

use crate::config::Config;

/// The folder that plugins put their sockets into.
fn registry(config: &Config) -> PathBuf {
    config.data_dir.join("plugins_registry")
}
