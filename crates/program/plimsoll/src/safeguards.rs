//! Flags of the API server that have upstream's names: admission plugins and encryption.

use std::path::PathBuf;

use clap::{ArgAction, Args};
use plimsoll_apiserver::{AdmissionOptions, EncryptionOptions, Reload, Safeguards};

/// Admission plugins and encryption at rest
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "API server")]
pub(crate) struct SafeguardArgs {
    /// Admission plugins that are on beside the default ones
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    enable_admission_plugins: Vec<String>,
    /// Default admission plugins that are off
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    disable_admission_plugins: Vec<String>,
    /// AdmissionConfiguration with the configuration of plugins
    #[arg(long, value_name = "FILE")]
    admission_control_config_file: Option<PathBuf>,
    /// EncryptionConfiguration that says how objects are encrypted on disk
    #[arg(long, value_name = "FILE")]
    encryption_provider_config: Option<PathBuf>,
    /// Follow changes of that file
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set,
        default_value_t = false, requires = "encryption_provider_config")]
    encryption_provider_config_automatic_reload: bool,
}

impl SafeguardArgs {
    pub(crate) fn options(&self) -> Safeguards {
        let reload = match self.encryption_provider_config_automatic_reload {
            true => Reload::Automatic,
            false => Reload::AtStart,
        };
        Safeguards {
            admission: AdmissionOptions {
                enable: self.enable_admission_plugins.clone(),
                disable: self.disable_admission_plugins.clone(),
                configuration: self.admission_control_config_file.clone(),
            },
            encryption: self
                .encryption_provider_config
                .clone()
                .map(|configuration| EncryptionOptions { configuration, reload }),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        safeguards: SafeguardArgs,
    }

    #[test]
    fn flags_read_as_upstreams() {
        let line = Line::parse_from([
            "up",
            "--enable-admission-plugins=AlwaysPullImages,NamespaceExists",
            "--disable-admission-plugins=PodSecurity",
            "--encryption-provider-config=/e.yaml",
            "--encryption-provider-config-automatic-reload=true",
        ]);
        let options = line.safeguards.options();
        assert_eq!(options.admission.enable, ["AlwaysPullImages", "NamespaceExists"]);
        assert_eq!(options.admission.disable, ["PodSecurity"]);
        let encryption = options.encryption.expect("given");
        assert_eq!((encryption.configuration, encryption.reload), ("/e.yaml".into(), Reload::Automatic));
        assert!(Line::parse_from(["up"]).safeguards.options().encryption.is_none());
    }
}
