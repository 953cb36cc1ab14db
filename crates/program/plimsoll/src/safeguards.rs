//! Flags of the API server that have upstream's names: admission plugins, encryption, the audit log.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use plimsoll_apiserver::{
    AdmissionOptions, AuditLog, AuditMode, AuditOptions, AuditWebhook, Compression, EncryptionOptions,
    Reload, Safeguards, Truncation,
};

/// Admission plugins, encryption at rest and the audit log
#[derive(Args, Clone, Debug)]
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
    /// Policy that says what is recorded of requests
    #[arg(long, value_name = "FILE")]
    audit_policy_file: Option<PathBuf>,
    /// Where events are written as lines of JSON; - is standard output
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    audit_log_path: Option<PathBuf>,
    /// Whether requests wait until their events are written
    #[arg(long, value_name = "MODE", default_value = "blocking")]
    audit_log_mode: Mode,
    /// How many events may wait to be written
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    audit_log_batch_buffer_size: usize,
    /// Megabytes after which a new file is begun
    #[arg(long, value_name = "MB", default_value_t = 100)]
    audit_log_maxsize: u64,
    /// Days after which old files are deleted (0: never)
    #[arg(long, value_name = "DAYS", default_value_t = 366)]
    audit_log_maxage: u64,
    /// How many old files are kept (0: all)
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    audit_log_maxbackup: usize,
    /// Compress old files with gzip
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set,
        default_value_t = false)]
    audit_log_compress: bool,
    /// Shorten and, if need be, lose events that are too large for the log
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set,
        default_value_t = false)]
    audit_log_truncate_enabled: bool,
    /// Bytes of events that are written together
    #[arg(long, value_name = "BYTES", default_value_t = 10_485_760)]
    audit_log_truncate_max_batch_size: usize,
    /// Bytes of an event
    #[arg(long, value_name = "BYTES", default_value_t = 102_400)]
    audit_log_truncate_max_event_size: usize,
    /// kubeconfig of a server that takes events
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    audit_webhook_config_file: Option<PathBuf>,
    /// Whether requests wait until their events are taken
    #[arg(long, value_name = "MODE", default_value = "batch")]
    audit_webhook_mode: Mode,
    /// How many events may wait to be sent
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    audit_webhook_batch_buffer_size: usize,
    /// How many events are sent together at most
    #[arg(long, value_name = "COUNT", default_value_t = 400)]
    audit_webhook_batch_max_size: usize,
    /// How long an event waits for company at most
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    audit_webhook_batch_max_wait: Duration,
    /// How long to wait before the second attempt
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    audit_webhook_initial_backoff: Duration,
    /// Send no more lists than the next two flags say
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set,
        default_value_t = true)]
    audit_webhook_batch_throttle_enable: bool,
    /// Lists in a second on average
    #[arg(long, value_name = "RATE", default_value_t = 10.0)]
    audit_webhook_batch_throttle_qps: f64,
    /// Lists at once after a pause
    #[arg(long, value_name = "COUNT", default_value_t = 15)]
    audit_webhook_batch_throttle_burst: u32,
    /// Shorten and, if need be, lose events that are too large for the server
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set,
        default_value_t = false)]
    audit_webhook_truncate_enabled: bool,
    /// Bytes of events that are sent together
    #[arg(long, value_name = "BYTES", default_value_t = 10_485_760)]
    audit_webhook_truncate_max_batch_size: usize,
    /// Bytes of an event
    #[arg(long, value_name = "BYTES", default_value_t = 102_400)]
    audit_webhook_truncate_max_event_size: usize,
}

/// Whether requests wait for the audit log.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    Batch,
    Blocking,
    BlockingStrict,
}

impl From<Mode> for AuditMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Batch => Self::Batch,
            Mode::Blocking => Self::Blocking,
            Mode::BlockingStrict => Self::BlockingStrict,
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    plimsoll_meta::duration::parse(text)
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
            audit: self.audit(),
        }
    }

    fn audit(&self) -> AuditOptions {
        let log = self.audit_log_path.clone().map(|path| AuditLog {
            path,
            mode: self.audit_log_mode.into(),
            buffer: self.audit_log_batch_buffer_size,
            max_size: self.audit_log_maxsize,
            max_age: self.audit_log_maxage,
            max_backups: self.audit_log_maxbackup,
            compression: if self.audit_log_compress { Compression::Gzip } else { Compression::None },
            truncation: self.audit_log_truncate_enabled.then_some(Truncation {
                event: self.audit_log_truncate_max_event_size,
                batch: self.audit_log_truncate_max_batch_size,
            }),
        });
        let webhook = self.audit_webhook_config_file.clone().map(|configuration| AuditWebhook {
            configuration,
            mode: self.audit_webhook_mode.into(),
            buffer: self.audit_webhook_batch_buffer_size,
            batch_size: self.audit_webhook_batch_max_size,
            batch_wait: self.audit_webhook_batch_max_wait,
            initial_backoff: self.audit_webhook_initial_backoff,
            throttle: self.audit_webhook_batch_throttle_enable.then_some((
                self.audit_webhook_batch_throttle_qps.max(0.001),
                f64::from(self.audit_webhook_batch_throttle_burst.max(1)),
            )),
            truncation: self.audit_webhook_truncate_enabled.then_some(Truncation {
                event: self.audit_webhook_truncate_max_event_size,
                batch: self.audit_webhook_truncate_max_batch_size,
            }),
        });
        AuditOptions { policy: self.audit_policy_file.clone(), log, webhook }
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
        let line = Line::parse_from([
            "up",
            "--audit-policy-file=/p.yaml",
            "--audit-log-path=-",
            "--audit-log-mode=blocking-strict",
            "--audit-webhook-config-file=/w",
            "--audit-webhook-batch-max-wait=1m30s",
        ]);
        let audit = line.safeguards.options().audit;
        let (log, webhook) = (audit.log.expect("given"), audit.webhook.expect("given"));
        assert_eq!((log.mode, log.max_backups, log.max_age), (AuditMode::BlockingStrict, 100, 366));
        assert_eq!((webhook.mode, webhook.batch_wait), (AuditMode::Batch, Duration::from_secs(90)));
        let plain = Line::parse_from(["up"]).safeguards.options();
        assert!(plain.encryption.is_none() && plain.audit.log.is_none());
        assert!(Line::try_parse_from(["up", "--audit-log-path=-"]).is_err(), "nothing without a policy");
    }
}
