//! A program that knows credentials: it gets a question on its standard input and answers on its output.

use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use plimsoll_document::Document;
use plimsoll_podlife::image::provider::{Cache, Provider, TokenAttributes, providers};
use plimsoll_podlife::image::record::Coordinates;
use plimsoll_podlife::image::registry::{Entry, Login, Source};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::agent::Agent;
use crate::token;

/// The longest that a program may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program and what it said.
pub(super) struct Plugin {
    provider: Provider,
    program: PathBuf,
    cache: Mutex<Cache>,
    /// Held while it is asked the same: who asks meanwhile gets the same answer.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// For which pods an answer holds.
#[derive(Default)]
struct Asker {
    token: String,
    annotations: BTreeMap<String, String>,
    key: String,
    account: Option<Coordinates>,
}

/// The programs that a configuration names: a file, or a folder of files.
pub(super) fn open(config: &Path, folder: &Path) -> Result<Vec<Plugin>, String> {
    if let Err(error) = std::fs::metadata(folder) {
        let folder = folder.display();
        return Err(match error.kind() {
            std::io::ErrorKind::NotFound => format!("plugin binary directory {folder} did not exist"),
            _ => format!("error inspecting binary directory {folder}: {error}"),
        });
    }
    let documents = files(config)?.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
    providers(&documents)?.into_iter().map(|provider| Plugin::new(provider, folder)).collect()
}

fn files(config: &Path) -> Result<Vec<PathBuf>, String> {
    let path = config.display();
    if config.as_os_str().is_empty() {
        return Err("credential provider config path is empty".into());
    }
    let found =
        std::fs::metadata(config).map_err(|error| format!("unable to access path \"{path}\": {error}"))?;
    if !found.is_dir() {
        return Ok(vec![config.to_owned()]);
    }
    let entries =
        std::fs::read_dir(config).map_err(|error| format!("unable to read directory \"{path}\": {error}"))?;
    let is_config = |file: &PathBuf| {
        let ending = file.extension().and_then(|ending| ending.to_str());
        matches!(ending, Some("json" | "yaml" | "yml")) && !file.is_dir()
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(is_config).collect();
    files.sort();
    if files.is_empty() {
        return Err(format!("no configuration files found in directory \"{path}\""));
    }
    Ok(files)
}

fn read(file: &Path) -> Result<(String, Value), String> {
    let name = file.display().to_string();
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("unable to read file {name:?}: {error}"))?;
    let undecoded = |why: String| format!("error decoding config {name:?}: {why}");
    let document = match Document::json(text.as_bytes()) {
        Ok(document) => document,
        Err(_) => Document::yaml(&text).map_err(|error| undecoded(error.to_string()))?,
    };
    let twice: Vec<String> = document.duplicates.told().collect();
    if !twice.is_empty() {
        return Err(undecoded(format!("strict decoding error: {}", twice.join(", "))));
    }
    Ok((name, document.value))
}

impl Plugin {
    fn new(provider: Provider, folder: &Path) -> Result<Self, String> {
        let program = folder.join(&provider.name);
        let shown = program.display();
        let found = std::fs::metadata(&program).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("plugin binary executable {shown} did not exist"),
            _ => format!("error inspecting binary executable {shown}: {error}"),
        })?;
        if found.is_dir() || found.permissions().mode() & 0o111 == 0 {
            return Err(format!("error inspecting binary executable {shown}: permission denied"));
        }
        Ok(Self { provider, program, cache: Mutex::default(), turns: Mutex::default() })
    }

    /// Whether it is asked about a repository.
    pub(super) fn serves(&self, repository: &str) -> bool {
        self.provider.serves(repository)
    }

    /// What it knows about a repository for a pod.
    ///
    /// # Errors
    /// It, or the API, does not say.
    pub(super) async fn logins(
        &self,
        agent: &Agent,
        pod: &Pod,
        repository: &str,
        start: Instant,
    ) -> Result<Vec<Entry>, String> {
        let asker = match &self.provider.token_attributes {
            Some(attributes) => asker(agent, pod, attributes).await?,
            None => Some(Asker::default()),
        };
        let Some(asker) = asker else { return Ok(Vec::new()) };
        let turn = self.turn(format!("{repository} {} {}", asker.key, asker.token));
        let _turn = turn.lock().await;
        let known = self.cache().get(repository, &asker.key, start.elapsed());
        let logins = match known {
            Some(logins) => logins,
            None => self.ask(agent, repository, &asker, start).await?,
        };
        let source = asker.account.map_or(Source::Node, Source::Account);
        Ok(logins.into_iter().map(|(place, login)| Entry { place, login, source: source.clone() }).collect())
    }

    async fn ask(
        &self,
        agent: &Agent,
        repository: &str,
        asker: &Asker,
        start: Instant,
    ) -> Result<BTreeMap<String, Login>, String> {
        let begun = Instant::now();
        let run = self.run(self.provider.request(repository, &asker.token, &asker.annotations));
        let outcome = tokio::time::timeout(PATIENCE, run)
            .await
            .unwrap_or_else(|_| Err("context deadline exceeded".to_owned()));
        agent.metrics.credentials_asked(&self.provider.name, begun.elapsed(), outcome.is_ok());
        let bytes = outcome.map_err(|why| {
            format!(
                "error execing credential provider plugin {} for image {repository}: {why}",
                self.provider.name
            )
        })?;
        let answer = self.provider.answer(&bytes)?;
        self.cache().keep(repository, &asker.key, &answer, start.elapsed());
        Ok(answer.logins)
    }

    async fn run(&self, question: String) -> Result<Vec<u8>, String> {
        let env = self.provider.env.iter().map(|one| (&one.name, &one.value));
        let mut child = Command::new(&self.program)
            .args(&self.provider.args)
            .envs(env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut input = child.stdin.take().expect("it is piped");
        // A program that does not read is as good as one that does.
        let write = async { input.write_all(question.as_bytes()).await.map(|()| drop(input)) };
        let (_, output) = tokio::join!(write, child.wait_with_output());
        let output = output.map_err(|error| error.to_string())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{}: {}", output.status, said.trim_end()));
        }
        Ok(output.stdout)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self, question: String) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(question).or_default().clone()
    }
}

/// The account for which a program is asked; nothing if it is not asked for this pod.
async fn asker(agent: &Agent, pod: &Pod, attributes: &TokenAttributes) -> Result<Option<Asker>, String> {
    let spec = pod.spec.as_ref();
    let name = spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default();
    if name.is_empty() {
        return Ok((!attributes.requires_account()).then(Asker::default));
    }
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let accounts = kube::Api::<ServiceAccount>::namespaced(agent.client.clone(), &namespace);
    let account = accounts
        .get(&name)
        .await
        .map_err(|error| format!("Failed to get service account {namespace}/{name}: {error}"))?;
    let known = account.metadata.annotations.unwrap_or_default();
    let Some(annotations) = attributes.annotations(&known) else { return Ok(None) };
    let audience = &attributes.service_account_token_audience;
    let status = token::request(agent, pod, audience, None)
        .await
        .map_err(|error| format!("Error getting service account token {namespace}/{name}: {error}"))?;
    let token = status.token.unwrap_or_default();
    let at = Coordinates { namespace, name, uid: account.metadata.uid.unwrap_or_default() };
    let key = attributes.key(&at, &annotations, &token);
    Ok(Some(Asker { token, annotations, key, account: Some(at) }))
}
