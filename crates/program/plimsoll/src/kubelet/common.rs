//! Flags that both agents have, the one that runs alone and that of an instance.
//!
//! What enters: the command line. What leaves: fields of the agent's settings that no KubeletConfiguration has.

use std::path::PathBuf;

use clap::Args;
use plimsoll_kubelet::Config;
use plimsoll_podlife::configuration::node_labels;

use super::settings::Pretended;

/// What a node agent is told beside its configuration.
#[derive(Args, Clone, Debug)]
pub(crate) struct CommonArgs {
    /// Labels that the node gets when it registers
    #[arg(long, value_name = "NAME=VALUE,…", default_value = "", hide_default_value = true)]
    node_labels: String,
    /// Which programs know credentials of registries: a CredentialProviderConfig of kubelet.config.k8s.io/v1, or a
    /// folder of such files
    #[arg(long, value_name = "PATH")]
    image_credential_provider_config: Option<PathBuf>,
    /// Folder of these programs
    #[arg(long, value_name = "DIR")]
    image_credential_provider_bin_dir: Option<PathBuf>,
    /// Processors and memory that the node claims to have instead of the machine's, cpu=4,memory=8Gi
    #[arg(long, value_name = "AMOUNTS")]
    pretend_capacity: Option<Pretended>,
}

impl CommonArgs {
    /// Tells the agent.
    pub(crate) fn apply(&self, config: &mut Config) -> anyhow::Result<()> {
        config.labels = node_labels(&self.node_labels).map_err(anyhow::Error::msg)?;
        config.pretended = self.pretend_capacity.map(|it| (it.cpus, it.memory));
        let (file, folder) =
            (&self.image_credential_provider_config, &self.image_credential_provider_bin_dir);
        // One of them alone is an error that the agent tells of.
        config.credential_providers = (file.is_some() || folder.is_some())
            .then(|| (file.clone().unwrap_or_default(), folder.clone().unwrap_or_default()));
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        flags: CommonArgs,
    }

    #[test]
    fn the_agent_is_told() {
        let told = |words: &[&str]| {
            let flags = Only::try_parse_from(std::iter::once(&"x").chain(words)).unwrap().flags;
            let mut config = Config::new("n", "/k".into(), "/s".into(), [192, 0, 2, 1].into());
            flags.apply(&mut config).map(|()| config)
        };
        let (file, folder) =
            ("--image-credential-provider-config=/c", "--image-credential-provider-bin-dir=/b");
        for (words, expected) in [
            (&[][..], None),
            (&[file, folder], Some(("/c".into(), "/b".into()))),
            (&[folder], Some((PathBuf::new(), "/b".into()))),
        ] {
            assert_eq!(told(words).unwrap().credential_providers, expected, "{words:?}");
        }
        let config = told(&["--node-labels=a=b", "--pretend-capacity=cpu=1,memory=2"]).unwrap();
        assert_eq!((config.labels.get("a").map(String::as_str), config.pretended), (Some("b"), Some((1, 2))));
        assert!(told(&["--node-labels=kubernetes.io/x=b"]).is_err());
    }
}
