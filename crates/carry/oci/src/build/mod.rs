//! Builds images from Dockerfiles.
//!
//! A Dockerfile is parsed as a whole ([`Dockerfile`]), then the stages that the
//! target needs are carried out one after the other. A step that changes files
//! works on an overlay: the layers so far below, an empty directory above. What
//! is in that directory afterwards is the layer, as it is for the store and as
//! a compressed stream for others.

mod account;
mod cache;
mod config;
mod copy;
mod dockerfile;
mod ignore;
mod run;
mod source;
mod stage;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use cache::{cached_layers, forget_cache};
pub use dockerfile::{Command, Copy, Dockerfile, Healthcheck, Instruction, Origin, Step};
pub use run::{Namespaces, Rootfs, RunSpec, RunStep};

use self::cache::{Cached, CachedLayer, Fresh};
use self::config::Config;
use self::dockerfile::{MAX_DOCKERFILE, expand};
use self::ignore::Ignore;
use self::source::Source;
use self::stage::Stage;
use crate::digest::Digest;
use crate::document::{Descriptor, Manifest, OCI_CONFIG, Platform};
use crate::error::{During, Error, Result};
use crate::image::Image;
use crate::name::ImageName;
use crate::store::{ImageStore, Lock, diff_ids, now};

/// The variable that fixes all times of a build, in seconds since 1970.
const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// Build arguments that no ARG needs to declare; they leave no trace in the image.
const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// What to build.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Directory that COPY takes files from.
    pub context: PathBuf,
    /// The Dockerfile; `Dockerfile` in the context unless given.
    pub dockerfile: Option<PathBuf>,
    /// Names for the image.
    pub tags: Vec<String>,
    /// Values for ARG.
    pub arguments: BTreeMap<String, String>,
    /// The stage to stop at; the last one unless given.
    pub target: Option<String>,
    /// Whether every step runs, whatever is known from earlier builds.
    pub no_cache: bool,
}

/// What happens during a build.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// An instruction begins.
    Step {
        /// Which one of all that are needed, from 1.
        number: usize,
        /// How many are needed.
        total: usize,
        /// The instruction.
        text: &'a str,
    },
    /// Its layer is known from an earlier build.
    Cached,
    /// The command of a RUN wrote this.
    Output(&'a [u8]),
    /// A layer was made.
    Layer {
        /// Bytes of its files.
        bytes: u64,
        /// Bytes of its blob.
        compressed: u64,
    },
    /// Something that the author should know.
    Warning(&'a str),
}

/// Finds the images of FROM and COPY --from that are no stages.
pub type BaseFn<'a> = &'a dyn Fn(&str) -> Result<Arc<Image>>;

impl ImageStore {
    /// Builds an image.
    ///
    /// `base` finds base images, and may pull them. `events` is told what happens, from one thread
    /// at a time.
    pub fn build(
        &self,
        options: &BuildOptions,
        runner: &dyn RunStep,
        base: BaseFn<'_>,
        events: &(dyn Fn(Event<'_>) + Sync),
    ) -> Result<Arc<Image>> {
        let tags = options.tags.iter().map(|tag| tag_name(tag)).collect::<Result<Vec<_>>>()?;
        let path = options.dockerfile.clone().unwrap_or_else(|| options.context.join("Dockerfile"));
        let file = Dockerfile::parse(&read_text(&path)?)?;
        let ignore = read_ignore(&path, &options.context)?;
        let mut build = Build {
            store: self,
            options,
            runner,
            base,
            events,
            file: &file,
            plans: plan(&file),
            ignore,
            globals: BTreeMap::new(),
            done: BTreeMap::new(),
            used: Vec::new(),
            fresh: Fresh::default(),
            consumed: BTreeSet::new(),
            number: 0,
            total: 0,
            started: now(),
            adding: self.adding()?,
        };
        let target = build.run();
        // Also what a build did before it failed need not be done again.
        build.fresh.settle(self)?;
        cache::remember(self, &build.used, build.started)?;
        build.finish(target?, &tags)
    }
}

/// A stage as it stands in the file.
#[derive(Clone, Debug)]
struct Plan {
    name: Option<String>,
    /// Positions of its steps, FROM first.
    steps: std::ops::Range<usize>,
}

/// A build in progress.
struct Build<'a> {
    store: &'a ImageStore,
    options: &'a BuildOptions,
    runner: &'a dyn RunStep,
    base: BaseFn<'a>,
    events: &'a (dyn Fn(Event<'_>) + Sync),
    file: &'a Dockerfile,
    plans: Vec<Plan>,
    ignore: Ignore,
    /// ARG before the first FROM.
    globals: BTreeMap<String, String>,
    done: BTreeMap<usize, Stage>,
    /// Steps for the cache.
    used: Vec<(Digest, Cached)>,
    fresh: Fresh,
    /// Build arguments that some ARG took.
    consumed: BTreeSet<String>,
    number: usize,
    total: usize,
    started: i64,
    adding: Lock,
}

impl Build<'_> {
    /// Builds the target and what it needs, and returns its number.
    fn run(&mut self) -> Result<usize> {
        self.read_globals()?;
        let target = self.target()?;
        let needed = self.needed(target)?;
        self.total = needed.iter().map(|stage| self.plans[*stage].steps.len()).sum();
        for stage in needed {
            let finished = self.stage(stage)?;
            self.done.insert(stage, finished);
        }
        for name in self.options.arguments.keys() {
            if !self.consumed.contains(name) && !PROXIES.contains(&name.as_str()) && name != EPOCH {
                self.tell(Event::Warning(&format!("build argument {name} was not used")));
            }
        }
        Ok(target)
    }

    /// Writes configuration and manifest, and enters the image.
    fn finish(&self, target: usize, tags: &[ImageName]) -> Result<Arc<Image>> {
        let stage = &self.done[&target];
        let created = stage.created.clone().unwrap_or_else(|| self.now());
        let ids: Vec<String> = stage.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
        let config = stage.config.finish(&ids, &stage.history, &created);
        let content = self.store.content();
        let id = content.put_blob(&config)?;
        let layers = stage
            .layers
            .iter()
            .map(|layer| Descriptor::new(&layer.media_type, layer.record.blob, layer.size))
            .collect();
        let manifest = Manifest::new(Descriptor::new(OCI_CONFIG, id, config.len() as u64), layers);
        let manifest = serde_json::to_vec(&manifest).expect("plain JSON");
        let source = crate::store::Source { tags: tags.to_vec(), digests: Vec::new() };
        self.store.import(&manifest, &source, &|_, _| {})
    }

    fn stage(&mut self, at: usize) -> Result<Stage> {
        let steps = self.file.steps[self.plans[at].steps.clone()].to_vec();
        let mut stage = Stage::scratch();
        for step in &steps {
            self.number += 1;
            self.tell(Event::Step { number: self.number, total: self.total, text: &step.text });
            match &step.instruction {
                Instruction::From { image, platform, .. } => {
                    stage = self.from(at, image, platform.as_deref(), step.line)?;
                }
                _ => stage.apply(self, step)?,
            }
        }
        Ok(stage)
    }

    fn from(&mut self, at: usize, image: &str, platform: Option<&str>, line: usize) -> Result<Stage> {
        let image = self.global_word(image, line)?;
        if let Some(platform) = platform {
            let platform = self.global_word(platform, line)?;
            let here = Platform::here().to_string();
            if platform != here && !platform.starts_with(&format!("{here}/")) {
                self.tell(Event::Warning(&format!("FROM --platform={platform} is built for {here}")));
            }
        }
        if let Some(stage) = self.stage_named(&image, at) {
            let below = &self.done[&stage];
            return Ok(Stage { config: below.config.inherit(), arguments: BTreeMap::new(), ..below.clone() });
        }
        if image == "scratch" {
            return Ok(Stage::scratch());
        }
        let image = (self.base)(&image)?;
        let bytes = self.store.configuration(&image)?;
        Ok(Stage {
            config: Config::of(&bytes)?,
            layers: self.image_layers(&image)?,
            history: config::history_of(&bytes),
            created: image.config.created().clone(),
            arguments: BTreeMap::new(),
        })
    }

    /// The layers of an image as a build goes on from them.
    fn image_layers(&self, image: &Image) -> Result<Vec<CachedLayer>> {
        let (manifest, _) = self.store.manifest_of(image)?;
        let ids = diff_ids(&self.store.configuration(image)?)?;
        let parts = manifest.layers.iter().zip(ids).zip(&image.record.layers);
        Ok(parts
            .map(|((descriptor, diff_id), record)| CachedLayer {
                record: record.clone(),
                diff_id,
                media_type: descriptor.media_type.clone(),
                size: descriptor.size,
            })
            .collect())
    }

    /// Layers that COPY --from names: a stage by name or number, or an image.
    fn layers_of(&self, name: &str, line: usize) -> Result<Vec<CachedLayer>> {
        match self.stage_named(name, self.plans.len()).and_then(|stage| self.done.get(&stage)) {
            Some(stage) => Ok(stage.layers.clone()),
            None => (self.base)(name)
                .and_then(|image| self.image_layers(&image))
                .map_err(|error| Error::Dockerfile { line, reason: format!("--from={name}: {error}") }),
        }
    }

    /// The stage of that name or number among the first `before`; the last one of several.
    fn stage_named(&self, name: &str, before: usize) -> Option<usize> {
        let lower = name.to_lowercase();
        let named = (0..before).rev().find(|at| self.plans[*at].name.as_deref() == Some(&lower));
        named.or_else(|| {
            name.parse::<usize>()
                .ok()
                .filter(|at| *at < before && self.plans[*at].name.as_deref() != Some(name))
        })
    }

    fn target(&self) -> Result<usize> {
        match &self.options.target {
            None => Ok(self.plans.len() - 1),
            Some(name) => self.stage_named(name, self.plans.len()).ok_or_else(|| Error::Dockerfile {
                line: 1,
                reason: format!("target stage {name:?} could not be found"),
            }),
        }
    }

    /// The target and the stages that it needs, in order.
    fn needed(&self, target: usize) -> Result<BTreeSet<usize>> {
        let mut needed = BTreeSet::from([target]);
        // Stages refer to earlier ones only: from the last to the first, each is seen after its users.
        for at in (0..=target).rev().filter(|at| *at <= target) {
            if !needed.contains(&at) {
                continue;
            }
            for step in &self.file.steps[self.plans[at].steps.clone()] {
                let name = match &step.instruction {
                    Instruction::From { image, .. } => self.global_word(image, step.line)?,
                    Instruction::Copy(Copy { from: Origin::Image(name), .. }) => name.clone(),
                    _ => continue,
                };
                needed.extend(self.stage_named(&name, at));
            }
        }
        Ok(needed)
    }

    fn read_globals(&mut self) -> Result<()> {
        let steps: Vec<Step> = self.file.steps.iter().take(self.plans[0].steps.start).cloned().collect();
        for step in &steps {
            let Instruction::Arg(list) = &step.instruction else { continue };
            for (name, default) in list {
                let default = default.as_ref().map(|text| self.global_word(text, step.line)).transpose()?;
                let value = self.given(name).or(default);
                self.globals.extend(value.map(|value| (name.clone(), value)));
            }
        }
        Ok(())
    }

    fn global_word(&self, text: &str, line: usize) -> Result<String> {
        let scope = |name: &str| self.globals.get(name).cloned().or_else(|| platform_argument(name));
        expand(text, &scope, self.escape(), line)
    }

    /// The value of an ARG in a stage: given, its default, the one before FROM, or of the platform.
    fn argument(&mut self, name: &str, default: Option<String>) -> Option<String> {
        self.given(name)
            .or(default)
            .or_else(|| self.globals.get(name).cloned())
            .or_else(|| platform_argument(name))
    }

    fn given(&mut self, name: &str) -> Option<String> {
        let value = self.options.arguments.get(name).cloned();
        if value.is_some() {
            self.consumed.insert(name.to_owned());
        }
        value
    }

    fn context(&self) -> Result<Source> {
        Source::context(&self.options.context, self.ignore.clone())
    }

    fn escape(&self) -> char {
        self.file.escape
    }

    /// The time that layers made now get, in seconds since 1970.
    fn time(&self) -> i64 {
        self.options.arguments.get(EPOCH).and_then(|text| text.parse().ok()).unwrap_or_else(now)
    }

    fn now(&self) -> String {
        jiff::Timestamp::from_second(self.time()).map(|time| time.to_string()).unwrap_or_default()
    }

    fn tell(&self, event: Event<'_>) {
        (self.events)(event);
    }
}

/// Cuts the file into stages.
fn plan(file: &Dockerfile) -> Vec<Plan> {
    let mut plans: Vec<Plan> = Vec::new();
    for (at, step) in file.steps.iter().enumerate() {
        if let Instruction::From { name, .. } = &step.instruction {
            plans.push(Plan { name: name.clone(), steps: at..at });
        }
        if let Some(plan) = plans.last_mut() {
            plan.steps.end = at + 1;
        }
    }
    plans
}

/// Variables that describe the platform without being given.
fn platform_argument(name: &str) -> Option<String> {
    let here = Platform::here();
    match name {
        "TARGETPLATFORM" | "BUILDPLATFORM" => Some(here.to_string()),
        "TARGETOS" | "BUILDOS" => Some(here.os),
        "TARGETARCH" | "BUILDARCH" => Some(here.architecture),
        "TARGETVARIANT" | "BUILDVARIANT" => Some(String::new()),
        _ => None,
    }
}

fn tag_name(text: &str) -> Result<ImageName> {
    let name = ImageName::parse(text)?;
    match name.digest() {
        Some(_) => Err(Error::Name { name: text.into(), reason: "a built image is named by a tag" }),
        None => Ok(name),
    }
}

fn read_text(path: &Path) -> Result<String> {
    let during = || format!("read {}", path.display());
    let mut text = String::new();
    let file = File::open(path).during(during)?;
    let count = file.take(MAX_DOCKERFILE + 1).read_to_string(&mut text).during(during)?;
    if count as u64 > MAX_DOCKERFILE {
        return Err(Error::TooLarge {
            what: path.display().to_string(),
            limit: MAX_DOCKERFILE,
            unit: "bytes",
        });
    }
    Ok(text)
}

/// `<Dockerfile>.dockerignore` goes before `.dockerignore` in the context.
fn read_ignore(dockerfile: &Path, context: &Path) -> Result<Ignore> {
    let mut own = dockerfile.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), context.join(".dockerignore")] {
        if fs::exists(&path).during(|| format!("read {}", path.display()))? {
            return Ok(Ignore::parse(&read_text(&path)?));
        }
    }
    Ok(Ignore::default())
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
