//! The image configuration while instructions change it.
//!
//! It is kept as JSON, so that fields of a base image that nobody here knows
//! stay as they are.

use serde_json::{Map, Value, json};

use super::dockerfile::{Command, Healthcheck};
use crate::document::architecture;
use crate::error::{Error, Result};

/// What docker gives an image that says nothing of its own.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The document of a stage.
#[derive(Clone, Debug)]
pub(super) struct Config {
    document: Map<String, Value>,
    /// Whether this Dockerfile has set CMD: then ENTRYPOINT leaves it.
    command_is_own: bool,
}

impl Config {
    /// The configuration of `FROM scratch`.
    pub(super) fn scratch() -> Self {
        let document = json!({
            "architecture": architecture(),
            "os": "linux",
            "config": {"Env": [format!("PATH={PATH}")], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": []},
        });
        Self { document: into_map(document), command_is_own: false }
    }

    /// Goes on from a base image.
    pub(super) fn of(bytes: &[u8]) -> Result<Self> {
        let document: Value =
            serde_json::from_slice(bytes).map_err(|error| Error::document("image configuration", error))?;
        if !document.is_object() {
            return Err(Error::document("image configuration", "not an object"));
        }
        let mut config = Self { document: into_map(document), command_is_own: false };
        // What a build of docker's left about its own containers is not true of this image.
        for key in ["container", "container_config", "docker_version", "id", "parent", "history", "created"] {
            config.document.remove(key);
        }
        if let Some(triggers) = config.get("OnBuild").and_then(Value::as_array)
            && !triggers.is_empty()
        {
            return Err(Error::document("base image", "its ONBUILD instructions are not supported"));
        }
        Ok(config)
    }

    /// For another stage that begins where this one ended.
    pub(super) fn inherit(&self) -> Self {
        Self { command_is_own: false, ..self.clone() }
    }

    pub(super) fn environment(&self) -> Vec<(String, String)> {
        let pair = |text: &str| text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.list("Env").iter().filter_map(|text| pair(text)).collect()
    }

    pub(super) fn variable(&self, name: &str) -> Option<String> {
        self.environment().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub(super) fn set_variable(&mut self, name: &str, value: &str) {
        let mut list = self.list("Env");
        let (prefix, entry) = (format!("{name}="), format!("{name}={value}"));
        match list.iter_mut().find(|text| text.starts_with(&prefix)) {
            Some(old) => *old = entry,
            None => list.push(entry),
        }
        self.set("Env", json!(list));
    }

    pub(super) fn directory(&self) -> String {
        let directory = self.get("WorkingDir").and_then(Value::as_str).unwrap_or_default();
        if directory.is_empty() { "/".into() } else { directory.into() }
    }

    pub(super) fn set_directory(&mut self, directory: &str) {
        self.set("WorkingDir", json!(directory));
    }

    pub(super) fn user(&self) -> String {
        self.get("User").and_then(Value::as_str).unwrap_or_default().into()
    }

    pub(super) fn set_user(&mut self, user: &str) {
        self.set("User", json!(user));
    }

    pub(super) fn shell(&self) -> Vec<String> {
        let shell = self.list("Shell");
        if shell.is_empty() { vec!["/bin/sh".into(), "-c".into()] } else { shell }
    }

    pub(super) fn set_shell(&mut self, shell: &[String]) {
        self.set("Shell", json!(shell));
    }

    /// Program and arguments of a command; the shell runs what is no list.
    pub(super) fn arguments(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(list) => list.clone(),
            Command::Shell(text) if text.is_empty() => Vec::new(),
            Command::Shell(text) => [self.shell(), vec![text.clone()]].concat(),
        }
    }

    pub(super) fn set_command(&mut self, command: &Command) {
        let arguments = self.arguments(command);
        self.set("Cmd", json!(arguments));
        self.command_is_own = true;
    }

    /// Resets the base image's CMD, which were arguments of another program.
    pub(super) fn set_entrypoint(&mut self, command: &Command) {
        let arguments = self.arguments(command);
        match arguments.is_empty() {
            true => drop(self.section().remove("Entrypoint")),
            false => self.set("Entrypoint", json!(arguments)),
        }
        if !self.command_is_own {
            self.section().remove("Cmd");
        }
    }

    pub(super) fn add_label(&mut self, name: &str, value: &str) {
        self.entry("Labels", name, json!(value));
    }

    pub(super) fn add_volume(&mut self, path: &str) {
        self.entry("Volumes", path, json!({}));
    }

    /// `80`, `80/udp` and `80-82/tcp`.
    pub(super) fn expose(&mut self, port: &str) -> Result<(), String> {
        let (range, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let protocol = protocol.to_lowercase();
        if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
            return Err(format!("invalid protocol in port {port:?}"));
        }
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<u16>(), last.parse::<u16>()) {
            (Ok(first), Ok(last)) if first > 0 && first <= last => {
                (first..=last)
                    .for_each(|port| self.entry("ExposedPorts", &format!("{port}/{protocol}"), json!({})));
                Ok(())
            }
            _ => Err(format!("invalid port {port:?}")),
        }
    }

    pub(super) fn set_stop_signal(&mut self, signal: &str) {
        self.set("StopSignal", json!(signal));
    }

    pub(super) fn set_healthcheck(&mut self, check: Option<&Healthcheck>) {
        let Some(check) = check else { return self.set("Healthcheck", json!({"Test": ["NONE"]})) };
        let test = match &check.command {
            Command::Exec(list) => [vec!["CMD".to_owned()], list.clone()].concat(),
            Command::Shell(text) => vec!["CMD-SHELL".into(), text.clone()],
        };
        let mut value = Map::from_iter([("Test".to_owned(), json!(test))]);
        let durations = [
            ("Interval", check.interval),
            ("Timeout", check.timeout),
            ("StartPeriod", check.start_period),
            ("StartInterval", check.start_interval),
        ];
        for (name, duration) in durations.into_iter().filter(|(_, duration)| !duration.is_zero()) {
            value.insert(name.into(), json!(duration.as_nanos() as u64));
        }
        if check.retries > 0 {
            value.insert("Retries".into(), json!(check.retries));
        }
        self.set("Healthcheck", Value::Object(value));
    }

    pub(super) fn set_author(&mut self, author: &str) {
        self.document.insert("author".into(), json!(author));
    }

    /// The finished document.
    pub(super) fn finish(&self, diff_ids: &[String], history: &[Value], created: &str) -> Vec<u8> {
        let mut document = self.document.clone();
        document.insert("created".into(), json!(created));
        document.insert("rootfs".into(), json!({"type": "layers", "diff_ids": diff_ids}));
        document.insert("history".into(), json!(history));
        serde_json::to_vec(&document).expect("plain JSON")
    }

    /// What decides how a command runs, for the build cache.
    pub(super) fn fingerprint(&self) -> String {
        json!([self.list("Env"), self.directory(), self.user(), self.shell()]).to_string()
    }

    fn section(&mut self) -> &mut Map<String, Value> {
        let section = self.document.entry("config").or_insert_with(|| json!({}));
        if !section.is_object() {
            *section = json!({});
        }
        section.as_object_mut().expect("it was just made one")
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.document.get("config")?.get(key)
    }

    fn list(&self, key: &str) -> Vec<String> {
        let items = self.get(key).and_then(Value::as_array).into_iter().flatten();
        items.filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn set(&mut self, key: &str, value: Value) {
        self.section().insert(key.into(), value);
    }

    fn entry(&mut self, key: &str, name: &str, value: Value) {
        let map = self.section().entry(key).or_insert_with(|| json!({}));
        if !map.is_object() {
            *map = json!({});
        }
        map.as_object_mut().expect("it was just made one").insert(name.into(), value);
    }
}

fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// The history of a base image.
pub(super) fn history_of(bytes: &[u8]) -> Vec<Value> {
    let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
    document.get("history").and_then(Value::as_array).cloned().unwrap_or_default()
}
