//! What `cargo metadata` says of the workspace.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context, ensure};
use serde_json::Value;

/// When a dependency is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Normal,
    Build,
    Tests,
}

/// One package of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    /// Its folder below the root: `crates/words/meta`.
    pub(crate) folder: String,
    pub(crate) dependencies: Vec<(String, Need)>,
}

/// A Rust source or a manifest: its path below the root, and its text.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// All packages, and where they are.
pub(crate) struct Workspace {
    pub(crate) packages: Vec<Package>,
    root: PathBuf,
}

/// Asks cargo.
pub(crate) fn read() -> anyhow::Result<Workspace> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .output()
        .context("run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    let metadata: Value = serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    let root = metadata["workspace_root"].as_str().context("cargo metadata names no workspace_root")?;
    Ok(Workspace { packages: packages(&metadata)?, root: root.into() })
}

/// The packages in the output of `cargo metadata --no-deps`.
pub(crate) fn packages(metadata: &Value) -> anyhow::Result<Vec<Package>> {
    let root = metadata["workspace_root"].as_str().context("cargo metadata names no workspace_root")?;
    let list = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    list.iter().map(|package| one(package, Path::new(root))).collect()
}

fn one(package: &Value, root: &Path) -> anyhow::Result<Package> {
    let name = package["name"].as_str().context("a package without a name")?;
    let manifest =
        Path::new(package["manifest_path"].as_str().with_context(|| format!("{name} has no manifest_path"))?);
    let folder = manifest.parent().and_then(|folder| folder.strip_prefix(root).ok());
    let folder =
        folder.with_context(|| format!("{name} is outside of the workspace: {}", manifest.display()))?;
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    Ok(Package {
        name: name.to_owned(),
        folder: folder.to_string_lossy().into_owned(),
        dependencies: dependencies.filter_map(dependency).collect(),
    })
}

fn dependency(value: &Value) -> Option<(String, Need)> {
    let need = match value["kind"].as_str() {
        Some("dev") => Need::Tests,
        Some("build") => Need::Build,
        _ => Need::Normal,
    };
    Some((value["name"].as_str()?.to_owned(), need))
}

impl Workspace {
    /// The text of the root manifest.
    pub(crate) fn manifest(&self) -> anyhow::Result<String> {
        let path = self.root.join("Cargo.toml");
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    /// All Rust sources and manifests of the packages.
    pub(crate) fn sources(&self) -> anyhow::Result<Vec<Source>> {
        let mut sources = Vec::new();
        for package in &self.packages {
            self.collect(&self.root.join(&package.folder), &mut sources)?;
        }
        Ok(sources)
    }

    fn collect(&self, folder: &Path, sources: &mut Vec<Source>) -> anyhow::Result<()> {
        let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
            if path.is_dir() {
                self.collect(&path, sources)?;
            } else if path.extension().is_some_and(|end| end == "rs" || end == "toml") {
                let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                let below = path.strip_prefix(&self.root).unwrap_or(&path);
                sources.push(Source { path: below.to_string_lossy().into_owned(), text });
            }
        }
        Ok(())
    }
}
