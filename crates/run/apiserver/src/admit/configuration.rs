//! Which plugins are on, and what they are told.

use std::path::Path;

use plimsoll_admission::plugin_config::{self, Source};
use plimsoll_admission::plugins::Plugins;
use plimsoll_admission::pod_security::Configuration;

use crate::safeguards::{AdmissionOptions, document, wrong};
use crate::server::StartError;

/// What admission is configured with.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    pub(crate) plugins: Plugins,
    pub(crate) pod_security: Configuration,
}

impl Admission {
    /// Reads the files that the options name.
    pub(crate) fn load(options: &AdmissionOptions) -> Result<Self, StartError> {
        let plugins = Plugins::choose(&options.enable, &options.disable)?;
        let mut admission = Self { plugins, ..Self::default() };
        if let Some(path) = &options.configuration {
            admission.read(path)?;
        }
        Ok(admission)
    }

    fn read(&mut self, path: &Path) -> Result<(), StartError> {
        let plugins = plugin_config::read(&document(path)?).map_err(|error| wrong(path, error))?;
        for plugin in plugins {
            let (file, text) = match plugin.source {
                Source::Inline(text) => (path.to_owned(), text),
                Source::Path(name) => {
                    let file = path.parent().unwrap_or(path).join(name);
                    let text = document(&file)?;
                    (file, text)
                }
            };
            match plugin.name.as_str() {
                "PodSecurity" => {
                    self.pod_security = Configuration::read(&text).map_err(|error| wrong(&file, error))?;
                }
                name => return Err(wrong(path, format!("plugin {name:?} takes no configuration"))),
            }
        }
        Ok(())
    }
}
