//! The cluster that is measured.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

/// An instance in a folder of its own, gone when dropped.
pub(crate) struct Instance {
    program: PathBuf,
    folder: PathBuf,
    listen: String,
}

impl Instance {
    pub(crate) fn new(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let free = TcpListener::bind("127.0.0.1:0").context("find a free port")?;
        let listen = free.local_addr()?.to_string();
        Ok(Self {
            program: program.canonicalize().context("find the program")?,
            folder: folder.to_owned(),
            listen,
        })
    }

    fn run(&self, action: &str, flags: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        command.arg(action).arg("--data-dir").arg(&self.folder).args(flags);
        let output = command.output().with_context(|| format!("run {action}"))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("plimsoll {action}: {text}{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(text)
    }

    /// Starts it; milliseconds from the program's start to a Ready node, as it tells itself.
    pub(crate) fn up(&self) -> anyhow::Result<u64> {
        let text = self.run("up", &["--listen", &self.listen, "--node-name", "bench", "--detach"])?;
        let last = text.lines().last().unwrap_or_default();
        let number = last.strip_prefix("ready in ").and_then(|rest| rest.strip_suffix(" ms"));
        number.and_then(|number| number.parse().ok()).with_context(|| format!("read {last:?}"))
    }

    /// Ends the program and leaves the data.
    pub(crate) fn stop(&self) -> anyhow::Result<()> {
        self.run("down", &["--keep-data"]).map(drop)
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        let text = fs::read_to_string(self.folder.join("plimsoll.pid")).context("read the process id")?;
        text.trim().parse().context("read the process id")
    }

    pub(crate) async fn client(&self) -> anyhow::Result<kube::Client> {
        let client = plimsoll_client::connect_kubeconfig(&self.folder.join("admin.kubeconfig")).await?;
        // The account that pods run as comes with the namespace.
        let accounts: kube::Api<k8s_openapi::api::core::v1::ServiceAccount> =
            kube::Api::default_namespaced(client.clone());
        while accounts.get_opt("default").await?.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(client)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Err(error) = self.run("down", &[]) {
            eprintln!("{error:#}");
        }
        // The harness removes the folder, which `down` has removed already.
        let _ = fs::create_dir_all(&self.folder);
    }
}
