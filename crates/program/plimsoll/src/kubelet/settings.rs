//! The settings of a node agent on the command line: files, a folder of drop-ins, a flag for each field.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches, parser::ValueSource};
use plimsoll_document::Document;
use plimsoll_meta::quantity::Quantity;
use plimsoll_podlife::configuration::flags::{FLAGS, Flag, Form, document};
use plimsoll_podlife::configuration::{Configuration, check, combine};
use serde_json::{Value, json};

/// Fields whose relative paths are meant from the file's folder.
const PATHS: [&str; 5] = [
    "/staticPodPath",
    "/authentication/x509/clientCAFile",
    "/tlsCertFile",
    "/tlsPrivateKeyFile",
    "/resolvConf",
];

/// A flag for each field of a KubeletConfiguration, as the documents that they stand for.
#[derive(Clone, Debug, Default)]
pub(crate) struct FieldFlags(Vec<Value>);

impl Args for FieldFlags {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(FLAGS.iter().map(arg))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for FieldFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given =
            FLAGS.iter().filter(|flag| matches.value_source(flag.name) == Some(ValueSource::CommandLine));
        given.map(|flag| read_flag(flag, matches)).collect::<Result<_, _>>().map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn arg(flag: &Flag) -> Arg {
    let arg = Arg::new(flag.name)
        .long(flag.name)
        .value_name(flag.form.shown())
        .help(flag.help)
        .help_heading("Fields of the configuration")
        .allow_hyphen_values(true)
        .action(ArgAction::Append);
    match flag.form {
        Form::Truth => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => arg,
    }
}

fn read_flag(flag: &Flag, matches: &ArgMatches) -> Result<Value, clap::Error> {
    let values: Vec<&str> =
        matches.get_many::<String>(flag.name).into_iter().flatten().map(String::as_str).collect();
    document(flag, &values).map_err(|problem| {
        let text =
            format!("invalid argument {:?} for \"--{}\" flag: {problem}\n", values.join(","), flag.name);
        clap::Error::raw(ErrorKind::ValueValidation, text)
    })
}

/// Processors and memory that a node claims to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pretended {
    pub(crate) cpus: i64,
    pub(crate) memory: i64,
}

impl std::str::FromStr for Pretended {
    type Err = String;

    /// Reads `cpu=4,memory=8Gi`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (mut cpus, mut memory) = (None, None);
        for pair in text.split(',') {
            let (name, amount) = pair.split_once('=').ok_or("expected cpu=N,memory=BYTES")?;
            let amount: Quantity = amount.parse().map_err(|error| format!("{name}: {error}"))?;
            if amount.sign() <= 0 {
                return Err(format!("{name}: must be positive"));
            }
            match name {
                "cpu" => cpus = Some(amount.value()),
                "memory" => memory = Some(amount.value()),
                _ => return Err(format!("{name}: cpu and memory can be pretended")),
            }
        }
        match (cpus, memory) {
            (Some(cpus), Some(memory)) => Ok(Self { cpus, memory }),
            _ => Err("expected both cpu=N and memory=BYTES".to_owned()),
        }
    }
}

/// Where settings come from, the later ones above the earlier ones.
pub(crate) struct Sources<'a> {
    /// What holds when nobody says anything else.
    pub(crate) base: Value,
    pub(crate) file: Option<&'a Path>,
    pub(crate) folder: Option<&'a Path>,
    pub(crate) flags: &'a FieldFlags,
}

impl Sources<'_> {
    /// Reads all of them: the document that they make together, without the base, and what it means with it.
    pub(crate) fn read(&self) -> anyhow::Result<(Value, Configuration)> {
        let mut given = Vec::new();
        if let Some(file) = self.file {
            let load = || format!("failed to load kubelet config file, path: {}", file.display());
            given.push(load_file(file).with_context(load)?);
        }
        if let Some(folder) = self.folder {
            for file in dropins(folder)? {
                let load = || format!("failed to load kubelet dropin file, path: {}", file.display());
                given.push(load_file(&file).with_context(load)?);
            }
        }
        given.extend(self.flags.0.iter().cloned());
        let given = combine(&given);
        let configuration = Configuration::of(&combine([&self.base, &given])).map_err(|refused| {
            anyhow::anyhow!("failed to validate kubelet configuration, error: {refused}")
        })?;
        Ok((given, configuration))
    }
}

/// The drop-in files: `*.conf`, also in folders below, in the order of their paths.
fn dropins(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let walk = || format!("failed to walk through kubelet dropin directory {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(walk)? {
        let entry = entry.with_context(walk)?;
        let path = entry.path();
        if entry.file_type().with_context(walk)?.is_dir() {
            found.extend(dropins(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "conf") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn load_file(file: &Path) -> anyhow::Result<Value> {
    let text = fs::read_to_string(file).context("read it")?;
    let read = if text.trim_start().starts_with('{') {
        Document::json(text.as_bytes()).map_err(anyhow::Error::from)
    } else {
        Document::yaml(&text).map_err(anyhow::Error::from)
    };
    let Document { mut value, duplicates } = read.context("decode it")?;
    let twice: Vec<String> = duplicates.told().collect();
    ensure!(twice.is_empty(), "strict decoding error: {}", twice.join(", "));
    if value.is_null() {
        bail!("kubelet config file is empty");
    }
    check(&value)?;
    let parent = file.parent().unwrap_or(Path::new("."));
    for pointer in PATHS {
        let Some(place) = value.pointer_mut(pointer) else { continue };
        let path = place.as_str().filter(|path| !path.is_empty() && !path.starts_with('/'));
        if let Some(path) = path.map(|path| parent.join(path)) {
            let absolute = std::path::absolute(&path).unwrap_or(path);
            *place = json!(absolute);
        }
    }
    Ok(value)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        flags: FieldFlags,
    }

    fn flags(words: &[&str]) -> Result<FieldFlags, String> {
        let words = std::iter::once(&"x").chain(words);
        Only::try_parse_from(words).map(|it| it.flags).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_stand_above_dropins_and_these_above_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        let file = folder.path().join("kubelet.yaml");
        fs::write(
            &file,
            format!("{head}maxPods: 10\nclusterDomain: a\nstaticPodPath: ''\nresolvConf: resolv\n"),
        )
        .unwrap();
        let dropins = folder.path().join("kubelet.conf.d");
        fs::create_dir(&dropins).unwrap();
        fs::write(dropins.join("20-b.conf"), format!("{head}maxPods: 30\n")).unwrap();
        fs::write(dropins.join("10-a.conf"), format!("{head}maxPods: 20\npodsPerCore: 5\n")).unwrap();
        fs::write(dropins.join("note.txt"), "no document").unwrap();
        let flags = flags(&["--cluster-domain=b", "--fail-swap-on", "--pod-max-pids=-1"]).unwrap();
        let base = json!({"port": 1234, "maxPods": 1});
        let sources = Sources { base, file: Some(&file), folder: Some(&dropins), flags: &flags };
        let (given, all) = sources.read().unwrap();
        assert_eq!(
            (all.max_pods, all.pods_per_core, all.cluster_domain.as_str(), all.port),
            (30, 5, "b", 1234)
        );
        assert_eq!(all.resolv_conf, folder.path().join("resolv").to_string_lossy());
        assert_eq!(given.get("port"), None);
    }

    #[test]
    fn what_is_wrong_is_said_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kubelet.yaml");
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        let none = FieldFlags::default();
        for (text, expected) in [
            ("", "kubelet config file is empty"),
            (
                &*format!("{head}maxPods: 1\nmaxPods: 2\n"),
                "strict decoding error: line 4: key \"maxPods\" already set in map",
            ),
            (&*format!("{head}maxpods: 1\n"), "strict decoding error: unknown field \"maxpods\""),
            (&*format!("{head}maxPods: -1\n"), "maxPods (--max-pods) -1 must not be a negative number"),
        ] {
            fs::write(&file, text).unwrap();
            let sources = Sources { base: json!({}), file: Some(&file), folder: None, flags: &none };
            let found = format!("{:#}", sources.read().unwrap_err());
            assert!(found.contains(expected), "{found}");
        }
        assert!(
            flags(&["--max-pods=x"]).unwrap_err().contains("invalid argument \"x\" for \"--max-pods\" flag")
        );
    }

    #[test]
    fn capacity_can_be_pretended() {
        assert_eq!("cpu=4,memory=1Gi".parse(), Ok(Pretended { cpus: 4, memory: 1 << 30 }));
        for wrong in ["cpu=4", "cpu=4,memory=0", "cpu", "cpu=1,memory=1,disk=1"] {
            assert!(wrong.parse::<Pretended>().is_err(), "{wrong}");
        }
    }
}
