//! One stage: instructions change its configuration and add layers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::cache::{self, Cached, CachedLayer};
use super::config::Config;
use super::copy::{self, Target};
use super::dockerfile::{self, Command, Copy, Heredoc, Instruction, Scope, Step, expand, expand_words};
use super::run::{Rootfs, RunSpec, in_root, in_root_beside};
use super::source::{Found, Source, clamp};
use super::{Build, Event, account};
use crate::digest::{Digest, Hasher, Hashing};
use crate::document::OCI_LAYER_GZIP;
use crate::error::{During, Error, Result};
use crate::layer::tree::Tree;
use crate::layer::{Compression, compressed, write_diff};
use crate::store::{LayerRecord, chains};

/// What a stage has become so far.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) config: Config,
    pub(super) layers: Vec<CachedLayer>,
    pub(super) history: Vec<Value>,
    /// When the last layer was made.
    pub(super) created: Option<String>,
    /// ARG variables that are declared by now.
    pub(super) arguments: BTreeMap<String, String>,
}

/// The directories of a step that changes files.
struct Workshop {
    upper: tempfile::TempDir,
    /// Holds the directories that follow: overlayfs' own, where the root appears, and one for other mounts.
    side: tempfile::TempDir,
    work: PathBuf,
    root: PathBuf,
    other: PathBuf,
    base: PathBuf,
    layers: Vec<PathBuf>,
}

impl Stage {
    pub(super) fn scratch() -> Self {
        Self {
            config: Config::scratch(),
            layers: Vec::new(),
            history: Vec::new(),
            created: None,
            arguments: BTreeMap::new(),
        }
    }

    /// Carries out one instruction.
    pub(super) fn apply(&mut self, build: &mut Build<'_>, step: &Step) -> Result<()> {
        let line = step.line;
        let words = |stage: &Self, text: &str| expand(text, &stage.scope(), build.escape(), line);
        match &step.instruction {
            Instruction::From { .. } => {}
            Instruction::Arg(list) => return self.declare(build, list, line),
            Instruction::Env(pairs) => {
                // All values see the variables as they were before this instruction.
                let pairs = self.expand_pairs(build, pairs, line)?;
                pairs.iter().for_each(|(name, value)| self.config.set_variable(name, value));
            }
            Instruction::Label(pairs) => {
                let pairs = self.expand_pairs(build, pairs, line)?;
                pairs.iter().for_each(|(name, value)| self.config.add_label(name, value));
            }
            Instruction::Maintainer(author) => self.config.set_author(author),
            Instruction::Run { command, heredocs } => return self.run(build, step, command, heredocs),
            Instruction::Copy(copy) => return self.copy(build, step, copy),
            Instruction::Workdir(text) => {
                let directory = Path::new(&self.config.directory()).join(words(self, text)?);
                return self.work_in(build, step, &directory);
            }
            Instruction::User(text) => {
                let user = words(self, text)?;
                self.config.set_user(&user);
            }
            Instruction::Expose(text) => {
                let ports = expand_words(text, &self.scope(), build.escape(), line)?;
                for port in ports {
                    self.config.expose(&port).map_err(|reason| Error::Dockerfile { line, reason })?;
                }
            }
            Instruction::Volume(list) => {
                for text in list {
                    let path = words(self, text)?;
                    self.config.add_volume(&path);
                }
            }
            Instruction::Entrypoint(command) => self.config.set_entrypoint(command),
            Instruction::Cmd(command) => self.config.set_command(command),
            Instruction::Shell(shell) => self.config.set_shell(shell),
            Instruction::StopSignal(text) => {
                let signal = words(self, text)?;
                self.config.set_stop_signal(&signal);
            }
            Instruction::Healthcheck(check) => self.config.set_healthcheck(check.as_ref()),
        }
        self.add_history(&step.text, None);
        Ok(())
    }

    /// Variables of ENV win over those of ARG.
    fn scope(&self) -> impl Scope + '_ {
        |name: &str| self.config.variable(name).or_else(|| self.arguments.get(name).cloned())
    }

    fn declare(
        &mut self,
        build: &mut Build<'_>,
        list: &[(String, Option<String>)],
        line: usize,
    ) -> Result<()> {
        for (name, default) in list {
            let name = expand(name, &self.scope(), build.escape(), line)?;
            let default = match default {
                Some(text) => Some(expand(text, &self.scope(), build.escape(), line)?),
                None => None,
            };
            if let Some(value) = build.argument(&name, default) {
                self.arguments.insert(name, value);
            }
        }
        Ok(())
    }

    fn expand_pairs(
        &self,
        build: &Build<'_>,
        pairs: &[(String, String)],
        line: usize,
    ) -> Result<Vec<(String, String)>> {
        let word = |text: &str| expand(text, &self.scope(), build.escape(), line);
        pairs.iter().map(|(name, value)| Ok((word(name)?, word(value)?))).collect()
    }

    fn run(
        &mut self,
        build: &mut Build<'_>,
        step: &Step,
        command: &Command,
        heredocs: &[Heredoc],
    ) -> Result<()> {
        let mut environment = self.config.environment();
        for (name, value) in &self.arguments {
            if !environment.iter().any(|(known, _)| known == name) {
                environment.push((name.clone(), value.clone()));
            }
        }
        let spec = RunSpec {
            arguments: self.config.arguments(&with_heredocs(command, heredocs)),
            environment,
            user: self.config.user(),
            directory: self.config.directory(),
        };
        let key = self.key(&["run", &self.config.fingerprint(), &format!("{spec:?}")]);
        self.make(build, step, key, |build, workshop| {
            let events = build.events;
            let mut output = move |bytes: &[u8]| events(Event::Output(bytes));
            match build.runner.run(&workshop.rootfs(), &spec, &mut output)? {
                0 => Ok(()),
                code => {
                    let reason = format!("the command returned a non-zero code: {code}");
                    Err(Error::Step { step: step.text.clone(), reason })
                }
            }
        })
    }

    fn copy(&mut self, build: &mut Build<'_>, step: &Step, copy: &Copy) -> Result<()> {
        let (escape, line) = (build.escape(), step.line);
        let word = |text: &str| expand(text, &self.scope(), escape, line);
        let sources = copy.sources.iter().map(|text| word(text)).collect::<Result<Vec<_>>>()?;
        let destination = word(&copy.destination)?;
        let many = sources.len() + copy.heredocs.len() > 1;
        if many && !destination.ends_with('/') {
            let reason = "with more than one source, the destination must be a directory and end with a /";
            return Err(Error::Dockerfile { line, reason: reason.into() });
        }
        let mut target = Target {
            path: clamp(&Path::new(&self.config.directory()).join(&destination).to_string_lossy()),
            is_directory: many || destination.ends_with('/') || destination.ends_with("/."),
            owner: None,
            mode: copy.chmod.as_deref().map(|text| mode(&word(text)?, line)).transpose()?,
            unpack: copy.unpack,
            inline: Vec::new(),
        };
        for heredoc in &copy.heredocs {
            let content = match heredoc.expand {
                true => expand_lines(&heredoc.content, &self.scope(), escape, line)?,
                false => heredoc.content.clone(),
            };
            target.inline.push((heredoc.name.clone(), content));
        }
        let chown = copy.chown.as_deref().map(word).transpose()?;
        let inputs = format!("{target:?} {chown:?} {sources:?}");
        let other = match &copy.from {
            dockerfile::Origin::Context => None,
            dockerfile::Origin::Image(name) => Some(build.layers_of(name, line)?),
        };
        if let Some(other) = other {
            // What a stage holds is known by its layers: no file needs to be read for the key.
            let chain = format!("{:?}", other.iter().map(|layer| layer.record.chain).collect::<Vec<_>>());
            let key = self.key(&["copy", &inputs, &chain]);
            return self.make(build, step, key, |build, workshop| {
                let layers = workshop.lower(build, &other);
                in_root_beside(&workshop.rootfs(), &layers, |root, beside| {
                    let source = Source::root(beside)?;
                    let found = source.find_or_none(&sources)?;
                    copy_into(root, &source, &found, target, chown.as_deref())
                })?
            });
        }
        let source = build.context()?;
        let found: Vec<Vec<Found>> = source.find_or_none(&sources)?;
        let mut hasher = Hasher::default();
        source.hash(&found, &mut hasher)?;
        let key = self.key(&["copy", &inputs, &hasher.finish().0.to_string()]);
        self.make(build, step, key, |_, workshop| {
            in_root(&workshop.rootfs(), |root| copy_into(root, &source, &found, target, chown.as_deref()))?
        })
    }

    fn work_in(&mut self, build: &mut Build<'_>, step: &Step, directory: &Path) -> Result<()> {
        let path = clamp(&directory.to_string_lossy());
        let absolute = format!("/{}", path.display());
        self.config.set_directory(&absolute);
        let key = self.key(&["workdir", &absolute]);
        let time = build.time();
        self.make(build, step, key, |_, workshop| {
            in_root(&workshop.rootfs(), |root| {
                let mut tree = Tree::open(root)?;
                copy::make_directories(&mut tree, &path, (0, 0), time)?;
                tree.finish()
            })?
        })
    }

    /// The digest of everything that decides the result of a step.
    fn key(&self, parts: &[&str]) -> Digest {
        let below: Vec<String> = self.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        Digest::of(json!([below, parts]).to_string().as_bytes())
    }

    /// Takes the layer of a step from the cache, or makes it.
    fn make(
        &mut self,
        build: &mut Build<'_>,
        step: &Step,
        key: Digest,
        work: impl FnOnce(&Build<'_>, &Workshop) -> Result<()>,
    ) -> Result<()> {
        let result = match build.look_up(key) {
            Some(known) => {
                build.tell(Event::Cached);
                known
            }
            None => {
                let workshop = Workshop::open(build, &self.layers)?;
                work(build, &workshop)?;
                let layer = workshop.commit(build, &self.layers)?;
                Cached { layer, created: build.now() }
            }
        };
        build.used.push((key, result.clone()));
        self.created = Some(result.created.clone());
        self.add_history(&step.text, Some(&result));
        self.layers.extend(result.layer);
        Ok(())
    }

    fn add_history(&mut self, text: &str, result: Option<&Cached>) {
        let created = result.map(|result| result.created.clone()).or(self.created.clone());
        let mut entry = json!({"created_by": text});
        if let Some(created) = created {
            entry["created"] = json!(created);
        }
        if result.is_none_or(|result| result.layer.is_none()) {
            entry["empty_layer"] = json!(true);
        }
        self.history.push(entry);
    }
}

fn copy_into(
    root: &Path,
    source: &Source,
    found: &[Vec<Found>],
    mut target: Target,
    chown: Option<&str>,
) -> Result<()> {
    let mut tree = Tree::open(root)?;
    if let Some(text) = chown {
        target.owner = Some(account::owner(&tree, text)?);
    }
    copy::copy(&mut tree, source, found, &target)
}

/// A script in a heredoc is the command; one that is only mentioned is passed to the shell.
fn with_heredocs(command: &Command, heredocs: &[Heredoc]) -> Command {
    match (command, heredocs) {
        (Command::Shell(text), [only]) if *text == only.marker => match only.content.strip_prefix("#!") {
            // A script for another interpreter is passed to it as its text.
            Some(_) => Command::Exec(interpreter(&only.content)),
            None => Command::Shell(only.content.clone()),
        },
        (Command::Shell(text), [_, ..]) => {
            let bodies = heredocs.iter().map(|heredoc| format!("{}{}\n", heredoc.content, heredoc.name));
            Command::Shell(format!("{text}\n{}", bodies.collect::<String>()))
        }
        _ => command.clone(),
    }
}

/// The interpreter that the first line names, with the script in a file that goes again.
fn interpreter(script: &str) -> Vec<String> {
    let first = script.lines().next().unwrap_or_default();
    let line = first.trim_start_matches("#!").trim();
    let quoted = script.replace('\'', "'\\''");
    let text = format!(
        "f=$(mktemp) && printf '%s' '{quoted}' > \"$f\" && {line} \"$f\"; r=$?; rm -f \"$f\"; exit $r"
    );
    vec!["/bin/sh".into(), "-c".into(), text]
}

/// Variables in the text of a file; quotes in it mean nothing.
fn expand_lines(text: &str, scope: &dyn Scope, escape: char, line: usize) -> Result<String> {
    let protected: String =
        text.chars().flat_map(|c| if matches!(c, '"' | '\'') { vec![escape, c] } else { vec![c] }).collect();
    expand(&protected, scope, escape, line)
}

fn mode(text: &str, line: usize) -> Result<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(|| Error::Dockerfile {
        line,
        reason: format!("invalid chmod {text:?}: want octal digits such as 755"),
    })
}

impl Workshop {
    fn open(build: &Build<'_>, layers: &[CachedLayer]) -> Result<Self> {
        let content = build.store.content();
        let (upper, side) = (content.new_layer()?, content.scratch()?);
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(upper.path(), open).during(|| "chmod".into())?;
        for name in ["work", "root", "other", "empty"] {
            std::fs::create_dir(side.path().join(name)).during(|| format!("make directory {name}"))?;
        }
        let inside = |name| side.path().join(name);
        let (work, root, other) = (inside("work"), inside("root"), inside("other"));
        let mut workshop =
            Self { upper, side, work, root, other, base: content.layers(), layers: Vec::new() };
        workshop.layers = workshop.lower(build, layers);
        Ok(workshop)
    }

    /// Names of lower directories, the lowest an empty one: overlayfs wants one at least, two when read-only.
    fn lower(&self, build: &Build<'_>, layers: &[CachedLayer]) -> Vec<PathBuf> {
        let name = |layer: &CachedLayer| build.fresh.name_of(layer.record.chain);
        [self.side.path().join("empty")].into_iter().chain(layers.iter().map(name)).collect()
    }

    fn rootfs(&self) -> Rootfs<'_> {
        Rootfs {
            base: &self.base,
            layers: &self.layers,
            upper: self.upper.path(),
            work: &self.work,
            target: &self.root,
            scratch: &self.other,
        }
    }

    /// Makes a layer of what changed; nothing if nothing did.
    fn commit(self, build: &mut Build<'_>, below: &[CachedLayer]) -> Result<Option<CachedLayer>> {
        let during = || format!("read {}", self.upper.path().display());
        if std::fs::read_dir(self.upper.path()).during(during)?.next().is_none() {
            return Ok(None);
        }
        let content = build.store.content();
        let during = || "write layer".into();
        let mut plain = Hashing::new(compressed(content.draft()?, Compression::Gzip).during(during)?);
        let bytes = write_diff(self.upper.path(), &mut plain)?;
        let (compressor, diff_id, _) = plain.into_parts();
        let (blob, size) = compressor.finish().during(during)?.commit(content, None)?;
        let diff_ids: Vec<Digest> = below.iter().map(|layer| layer.diff_id).chain([diff_id]).collect();
        let chain = *chains(&diff_ids).last().expect("there is this layer");
        build.fresh.add(chain, self.upper);
        build.tell(Event::Layer { bytes, compressed: size });
        let record = LayerRecord { chain, blob, size: bytes };
        Ok(Some(CachedLayer { record, diff_id, media_type: OCI_LAYER_GZIP.into(), size }))
    }
}

/// Looks a step's layer up.
impl Build<'_> {
    fn look_up(&self, key: Digest) -> Option<Cached> {
        if self.options.no_cache {
            return None;
        }
        cache::look_up(self.store, key, &self.adding)
    }
}
