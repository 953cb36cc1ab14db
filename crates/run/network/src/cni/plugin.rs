//! Running plugins: a request in, what the plugin prints out, or why it failed.

use std::path::PathBuf;
use std::process::Stdio;

use plimsoll_netplan::cni::{Command, failure};
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

use super::INTERFACE;
use super::records::Record;

/// Where plugins are.
#[derive(Debug, Clone)]
pub(super) struct Plugins {
    pub(super) programs: Vec<PathBuf>,
}

impl Plugins {
    pub(super) fn new(programs: Vec<PathBuf>) -> Self {
        Self { programs }
    }

    fn find(&self, kind: &str) -> Result<PathBuf, String> {
        let good = !kind.is_empty() && !kind.contains('/');
        let found = self.programs.iter().map(|folder| folder.join(kind)).find(|path| good && path.is_file());
        found.ok_or_else(|| {
            let folders: Vec<_> = self.programs.iter().map(|folder| folder.display().to_string()).collect();
            format!("failed to find plugin {kind:?} in path [{}]", folders.join(" "))
        })
    }

    /// Asks a plugin, about a sandbox where the command is about one.
    pub(super) async fn ask(
        &self,
        kind: &str,
        command: Command,
        request: &Value,
        sandbox: Option<&Record>,
    ) -> Result<String, String> {
        let path = std::env::join_paths(&self.programs).unwrap_or_default();
        let mut program = tokio::process::Command::new(self.find(kind)?);
        program.env("CNI_COMMAND", command.name()).env("CNI_PATH", path);
        if let Some(sandbox) = sandbox {
            program
                .env("CNI_CONTAINERID", &sandbox.id)
                .env("CNI_NETNS", &sandbox.netns)
                .env("CNI_IFNAME", INTERFACE)
                .env("CNI_ARGS", sandbox.arguments());
        }
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let failed = |error: std::io::Error| failure(kind, command, "", &error.to_string(), "");
        let mut child = program.spawn().map_err(failed)?;
        if let Some(mut input) = child.stdin.take() {
            // A plugin that does not read what it is told says so by how it ends.
            let _ = input.write_all(request.to_string().as_bytes()).await;
        }
        let output = child.wait_with_output().await.map_err(failed)?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(printed);
        }
        let complaints = String::from_utf8_lossy(&output.stderr);
        Err(failure(kind, command, &printed, &complaints, &output.status.to_string()))
    }
}
