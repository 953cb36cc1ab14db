//! `plimsoll image`: the images of an instance, by hand.
//!
//! It works on the instance's store directly; a running `up` sees the changes at once.

mod bars;
mod table;

use std::collections::{BTreeMap, HashSet};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use plimsoll_oci::build::{BuildOptions, Event, Namespaces};
use plimsoll_oci::{Auth, Image, ImageName, ImageStore, Keep, PAUSE, ProgressFn, Registries, ensure_builtin};

use bars::Bars;

/// `plimsoll image`
#[derive(Args, Clone, Debug)]
pub(crate) struct ImageCommand {
    /// Where the instance keeps everything
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/plimsoll")]
    pub data_dir: PathBuf,
    /// What to do
    #[command(subcommand)]
    pub action: ImageAction,
}

/// What to do with images.
#[derive(Subcommand, Clone, Debug)]
pub(crate) enum ImageAction {
    /// Build an image from a Dockerfile
    Build(Build),
    /// Load images from an archive
    Load {
        /// Archive or OCI layout directory to read instead of standard input
        #[arg(short, long, value_name = "FILE")]
        input: Option<PathBuf>,
    },
    /// Save images to an archive
    Save {
        /// File to write instead of standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Names or ids
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Download an image from a registry
    Pull(Remote),
    /// Upload an image to a registry
    Push(Remote),
    /// Give an image another name
    Tag {
        /// Name or id
        source: String,
        /// New name
        target: String,
    },
    /// List images
    #[command(alias = "list")]
    Ls {
        /// Only ids
        #[arg(short, long)]
        quiet: bool,
        /// Whole ids
        #[arg(long)]
        no_trunc: bool,
        /// Only images of this name
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// Remove images
    #[command(alias = "remove")]
    Rm {
        /// Names or ids
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Print an image's configuration
    Inspect {
        /// Name or id
        image: String,
    },
    /// Remove the build cache and what failed pulls left
    Prune,
}

/// `plimsoll image build`
#[derive(Args, Clone, Debug)]
pub(crate) struct Build {
    /// Name for the image; may be repeated
    #[arg(short, long = "tag", value_name = "NAME[:TAG]")]
    pub tags: Vec<String>,
    /// The Dockerfile [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Value of an ARG; without a value, the one of the environment
    #[arg(long = "build-arg", value_name = "NAME=VALUE")]
    pub arguments: Vec<String>,
    /// Stage to stop at
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Run every step, whatever is known from earlier builds
    #[arg(long)]
    pub no_cache: bool,
    /// Print only the image's id
    #[arg(short, long)]
    pub quiet: bool,
    /// Directory that COPY takes files from
    pub path: PathBuf,
}

/// `plimsoll image pull` and `push`
#[derive(Args, Clone, Debug)]
pub(crate) struct Remote {
    /// Name of the image
    pub name: String,
    /// Speak HTTP without TLS
    #[arg(long)]
    pub plain_http: bool,
    /// Credentials [default: those in docker's config.json]
    #[arg(long, value_name = "USER:PASSWORD")]
    pub creds: Option<String>,
}

/// Carries the command out.
pub(crate) fn run(command: ImageCommand) -> anyhow::Result<()> {
    let store = open(&command.data_dir)?;
    match command.action {
        ImageAction::Build(options) => build(&store, &options),
        ImageAction::Load { input } => load(&store, input.as_deref()),
        ImageAction::Save { output, images } => save(&store, output.as_deref(), &images),
        ImageAction::Pull(remote) => {
            let image = transfer(&remote, |auth, registries, progress| {
                runtime()?
                    .block_on(store.pull(&remote.name, &auth, &registries, progress))
                    .map_err(Into::into)
            })?;
            println!(
                "{}",
                ImageName::parse(&remote.name).map_or(image.id.to_string(), |name| name.to_string())
            );
            Ok(())
        }
        ImageAction::Push(remote) => {
            let digest = transfer(&remote, |auth, registries, progress| {
                runtime()?
                    .block_on(store.push(&remote.name, &auth, &registries, progress))
                    .map_err(Into::into)
            })?;
            println!("{}: digest: {digest}", remote.name);
            Ok(())
        }
        ImageAction::Tag { source, target } => store.tag(&source, &target).map(drop).map_err(Into::into),
        ImageAction::Ls { quiet, no_trunc, name } => list(&store, quiet, no_trunc, name.as_deref()),
        ImageAction::Rm { images } => remove(&store, &images),
        ImageAction::Inspect { image } => inspect(&store, &image),
        ImageAction::Prune => {
            let freed = store.collect_garbage(Keep::OnlyImages)?;
            println!("Total reclaimed space: {}", table::size(freed.bytes));
            Ok(())
        }
    }
}

/// Opens the store of an instance; the images of this program are there even before its first `up`.
fn open(data_dir: &Path) -> anyhow::Result<ImageStore> {
    if !nix::unistd::Uid::effective().is_root() {
        bail!("images belong to root: run this command as root");
    }
    let store = ImageStore::open(data_dir.join("images"))?;
    if store.resolve(PAUSE).is_none() {
        ensure_builtin(&store, Path::new("/proc/self/exe"))?;
    }
    Ok(store)
}

fn build(store: &ImageStore, options: &Build) -> anyhow::Result<()> {
    let known = BuildOptions {
        context: options.path.clone(),
        dockerfile: options.file.clone(),
        tags: options.tags.clone(),
        arguments: options
            .arguments
            .iter()
            .filter_map(|text| build_argument(text))
            .collect::<BTreeMap<_, _>>(),
        target: options.target.clone(),
        no_cache: options.no_cache,
    };
    if !options.path.is_dir() {
        bail!("{}: the build context must be a directory", options.path.display());
    }
    let base = |name: &str| base_image(store, name);
    let image = match options.quiet {
        true => store.build(&known, &Namespaces, &base, &|_| {})?,
        false => store.build(&known, &Namespaces, &base, &tell)?,
    };
    if options.quiet {
        println!("{}", image.id);
        return Ok(());
    }
    eprintln!("Successfully built {}", image.short_id());
    known.tags.iter().for_each(|tag| eprintln!("Successfully tagged {tag}"));
    Ok(())
}

/// `NAME=VALUE`, or `NAME` for what the environment says; nothing if it says nothing.
fn build_argument(text: &str) -> Option<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Some((name.into(), value.into())),
        None => Some((text.into(), std::env::var(text).ok()?)),
    }
}

/// A base image that is not there is pulled.
fn base_image(store: &ImageStore, name: &str) -> plimsoll_oci::Result<Arc<Image>> {
    if let Some(image) = store.resolve(name) {
        return Ok(image);
    }
    eprintln!("pulling {name}");
    let name = ImageName::parse(name)?;
    let auth = docker_auth(&name)?;
    let bars = Bars::new();
    let runtime = runtime().map_err(|error| plimsoll_oci::Error::NotFound(format!("{name}: {error:#}")))?;
    let pulled =
        runtime.block_on(store.pull(&name.to_string(), &auth, &Registries::default(), bars.progress()));
    bars.finish();
    pulled
}

fn tell(event: Event<'_>) {
    let mut out = io::stderr().lock();
    // A closed pipe must not stop the build.
    let _ = match event {
        Event::Step { number, total, text } => writeln!(out, "Step {number}/{total} : {text}"),
        Event::Cached => writeln!(out, " ---> Using cache"),
        Event::Output(bytes) => out.write_all(bytes),
        Event::Layer { bytes, compressed } => {
            writeln!(out, " ---> layer of {}, {} compressed", table::size(bytes), table::size(compressed))
        }
        Event::Warning(text) => writeln!(out, "warning: {text}"),
        _ => Ok(()),
    };
}

fn load(store: &ImageStore, input: Option<&Path>) -> anyhow::Result<()> {
    let loaded = match input {
        Some(path) if path != Path::new("-") => store.load(path)?,
        _ if io::stdin().is_terminal() => {
            bail!("requested load from stdin, but stdin is a terminal: use -i FILE")
        }
        _ => store.load_stream(io::stdin().lock())?,
    };
    for image in loaded {
        match image.names.is_empty() {
            true => println!("Loaded image ID: {}", image.image.id),
            false => image.names.iter().for_each(|name| println!("Loaded image: {}", table::familiar(name))),
        }
    }
    Ok(())
}

fn save(store: &ImageStore, output: Option<&Path>, images: &[String]) -> anyhow::Result<()> {
    match output {
        Some(path) if path != Path::new("-") => Ok(store.save(images, path)?),
        _ if io::stdout().is_terminal() => bail!("cowardly refusing to save to a terminal: use -o FILE"),
        _ => {
            let mut out = io::BufWriter::with_capacity(256 << 10, io::stdout().lock());
            store.save_stream(images, &mut out)?;
            out.flush().context("write archive")
        }
    }
}

/// Runs a pull or push with credentials and progress.
fn transfer<T>(
    remote: &Remote,
    work: impl FnOnce(Auth, Registries, ProgressFn) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let name = ImageName::parse(&remote.name)?;
    let auth = match remote.creds.as_deref().map(|creds| creds.split_once(':')) {
        Some(Some((user, password))) => Auth::Basic { user: user.into(), password: password.into() },
        Some(None) => bail!("--creds must be USER:PASSWORD"),
        None => docker_auth(&name)?,
    };
    let plain_http = if remote.plain_http { vec![name.registry().to_owned()] } else { Vec::new() };
    let registries = Registries { plain_http, ..Registries::default() };
    let bars = Bars::new();
    let result = work(auth, registries, bars.progress());
    bars.finish();
    result
}

/// What `docker login` has left.
fn docker_auth(name: &ImageName) -> plimsoll_oci::Result<Auth> {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".docker")));
    match folder.and_then(|folder| std::fs::read(folder.join("config.json")).ok()) {
        Some(config) => Auth::from_docker_config(&config, name),
        None => Ok(Auth::Anonymous),
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")
}

fn list(store: &ImageStore, quiet: bool, no_trunc: bool, name: Option<&str>) -> anyhow::Result<()> {
    let rows = table::rows(&store.list(), name, no_trunc);
    let mut out = io::stdout().lock();
    if quiet {
        let mut seen = HashSet::new();
        let ids = rows.iter().map(|row| &row.id).filter(|id| seen.insert(*id));
        return ids.into_iter().try_for_each(|id| writeln!(out, "{id}")).context("print images");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    out.write_all(table::render(&rows, now.as_secs() as i64).as_bytes()).context("print images")
}

fn remove(store: &ImageStore, images: &[String]) -> anyhow::Result<()> {
    let mut failed = false;
    for image in images {
        // Layers that are mounted anywhere are known to the store; nothing else is in use here.
        match store.remove(image, &|_| false) {
            Ok(removed) => {
                removed.untagged.iter().for_each(|name| println!("Untagged: {}", table::familiar_text(name)));
                removed.deleted.iter().for_each(|id| println!("Deleted: {id}"));
            }
            Err(error) => {
                eprintln!("plimsoll: {error}");
                failed = true;
            }
        }
    }
    if failed { bail!("not all images were removed") } else { Ok(()) }
}

fn inspect(store: &ImageStore, name: &str) -> anyhow::Result<()> {
    let image = store.find(name)?;
    let configuration: serde_json::Value =
        serde_json::from_slice(&store.configuration(&image)?).context("image configuration")?;
    let document = serde_json::json!([{
        "Id": image.id.to_string(),
        "RepoTags": image.repo_tags,
        "RepoDigests": image.repo_digests,
        "Created": configuration["created"],
        "Architecture": configuration["architecture"],
        "Os": configuration["os"],
        "Size": image.size,
        "Config": configuration["config"],
        "RootFS": {"Type": "layers", "Layers": configuration["rootfs"]["diff_ids"]},
        "Descriptor": {"digest": image.manifest().to_string()},
    }]);
    println!("{}", serde_json::to_string_pretty(&document).context("image configuration")?);
    Ok(())
}
