//! Containers: create, start, stop, remove, change.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_cri::v1::{
    ContainerConfig, ContainerEventType, LinuxContainerResources, LinuxContainerSecurityContext, Mount,
    MountPropagation, NamespaceMode, PodSandboxConfig, Signal as CriSignal,
};
use plimsoll_kernel::pause::Users;
use plimsoll_kernel::{mount, namespace};
use prost::Message as _;
use tokio::sync::watch;

use crate::cdi;
use crate::clock;
use crate::engine::{Engine, blocking};
use crate::error::{Error, Result};
use crate::files;
use crate::group;
use crate::images::{ImageError, ImageFacts};
use crate::pods::{Container, ContainerRecord, Sandbox, Status};
use crate::protocol::{Answer, Call, Exit, Launch};
use crate::sandbox::{clear, new_id};
use crate::spec::{self, Files, Input, Namespaces, PidNamespace, SpecError, user};
use crate::users;
use crate::workdir;

/// The exit code of a container whose program could not be run, as users know it.
const START_FAILED: i32 = 128;

impl Engine {
    /// Makes a container ready to start. Returns its id.
    ///
    /// # Errors
    /// When the image is missing or the configuration makes no sense; nothing is left then.
    pub async fn create_container(
        &self,
        sandbox: &str,
        config: ContainerConfig,
        sandbox_config: Option<PodSandboxConfig>,
    ) -> Result<String> {
        let sandbox = self.shared.pods.sandbox(sandbox)?;
        if !sandbox.state().ready {
            return Err(Error::State(format!("pod sandbox {} is not ready", sandbox.id)));
        }
        let name = config.image.as_ref().map(|image| image.image.clone()).unwrap_or_default();
        let image = self.shared.config.images.find(&name).ok_or(ImageError::NotFound(name))?;
        let id = new_id();
        let cgroup = group::path(&self.pod_cgroup(&sandbox), &id);
        let dir = sandbox.dir.container(&id);
        let container = Arc::new(Container {
            id: id.clone(),
            sandbox: sandbox.clone(),
            config,
            dir,
            cgroup,
            record: std::sync::Mutex::new(ContainerRecord::default()),
            status: watch::channel(Status::Created).0,
        });
        let (engine, made) = (self.clone(), container.clone());
        let sandbox_config = sandbox_config.unwrap_or_else(|| sandbox.config.clone());
        let prepared = blocking(move || {
            engine.prepare(&made, &image, &sandbox_config).inspect_err(|_| {
                // The first error is the one that matters.
                let _ = engine.clean(&made);
            })
        });
        prepared.await?;
        self.shared.pods.insert_container(container);
        self.publish(&sandbox, &id, ContainerEventType::ContainerCreatedEvent);
        Ok(id)
    }

    /// Everything that can be done before the start.
    fn prepare(&self, container: &Container, image: &ImageFacts, sandbox: &PodSandboxConfig) -> Result<()> {
        let (dir, config) = (&container.dir, &container.config);
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o711);
        for folder in [dir.rootfs(), dir.upper(), dir.work()] {
            builder.create(&folder).map_err(Error::io(&folder))?;
        }
        let range = container.sandbox.users()?;
        match range {
            Some(range) => users::root(&container.sandbox.dir, dir, &image.layers, range)?,
            None => mount::overlay(&image.layers, &dir.upper(), &dir.work(), &dir.rootfs())?,
        }
        let linux = config.linux.clone().unwrap_or_default();
        let (security, resources) =
            (linux.security_context.unwrap_or_default(), linux.resources.unwrap_or_default());
        let image_user = image.config.user().as_deref().unwrap_or_default();
        let mut user = user::resolve(&security, image_user, &user::Accounts::read(&dir.rootfs()))?;
        let names = config.cdi_devices.iter().map(|device| device.name.as_str());
        let edits = cdi::resolve(&self.shared.config.device_folders, names).map_err(SpecError::from)?;
        let more: Vec<u32> = edits.groups.iter().copied().filter(|gid| *gid != 0).collect();
        user.groups.extend(more);
        user.groups.sort_unstable();
        user.groups.dedup();
        let mut devices = spec::host_devices(&config.devices, security.privileged)?;
        let named = edits.devices(&user)?;
        devices.retain(|device| !named.iter().any(|other| other.path == device.path));
        devices.extend(named);
        let group = self.cgroup(&container.cgroup);
        group.create()?;
        group.apply(&spec::limits(&resources, spec::rules(&devices, security.privileged)))?;
        let mounts = self.sources(container, range)?;
        let namespaces = self.namespaces(container, &security)?;
        let input = Input {
            sandbox,
            config,
            mounts: &mounts,
            image: &image.config,
            user: &user,
            namespaces: &namespaces,
            files: &files_of(&container.sandbox),
            cgroup: &container.cgroup,
            cgroup_view: &group.folders(),
            devices: &devices,
            edits: &edits,
            rootfs: dir.rootfs(),
            host: &self.shared.host,
        };
        let document = spec::document(&input)?;
        if let Some(profile) = document["process"]["apparmorProfile"].as_str() {
            self.shared.profiles.provide(profile)?;
        }
        let folder = document["process"]["cwd"].as_str().unwrap_or("/");
        if let Err(error) =
            workdir::ensure(&dir.rootfs(), &mounts, folder, (outside(range, 0), outside(range, 0)))
        {
            // The start tells better what is wrong with it.
            tracing::debug!(container = container.id, folder, %error, "working directory not made");
        }
        let capabilities = spec::capabilities_of(&security, &self.shared.host)?;
        let filters = self.filters(&security, &capabilities)?;
        let launch = Launch {
            cgroup: container.cgroup.clone(),
            oom_score: i32::try_from(resources.oom_score_adj).unwrap_or(0),
            log: container.log_path(),
            stdin: config.stdin,
            stdin_once: config.stdin_once,
            tty: config.tty,
            confinement: spec::confinement(&input, filters)?,
            owner: Some((outside(range, user.uid), outside(range, user.gid))),
        };
        *container.record() = ContainerRecord {
            created_at: clock::now(),
            image_id: image.id.clone(),
            image_ref: image.repo_digests.first().unwrap_or(&image.id).clone(),
            stop_signal: stop_signal(config, image),
            uid: user.uid,
            gid: user.gid,
            groups: user.groups.clone(),
            resources: resources.encode_to_vec(),
            status: Status::Created,
        };
        fs::write(dir.config(), config.encode_to_vec()).map_err(Error::io(dir.config()))?;
        files::replace_json(&dir.spec(), &document).map_err(Error::io(dir.spec()))?;
        files::replace_json(&dir.launch(), &launch).map_err(Error::io(dir.launch()))?;
        self.keep_container(container)
    }

    /// Undoes what preparing and running has done.
    fn clean(&self, container: &Container) -> Result<()> {
        mount::unmount_each(&self.mounts_of(container))?;
        clear(&self.cgroup(&container.cgroup))?;
        match fs::remove_dir_all(container.dir.path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(container.dir.path())(error))
            }
            _ => Ok(()),
        }
    }

    /// Where the engine has mounted something for a container.
    fn mounts_of(&self, container: &Container) -> Vec<PathBuf> {
        let images = container.config.mounts.iter().filter(|mount| mount.image.is_some());
        let volumes = images.enumerate().map(|(index, _)| volume(container, index).join("view"));
        let own_users =
            container.config.mounts.iter().enumerate().map(|(index, _)| container.dir.mount(index));
        let all = std::iter::once(container.dir.rootfs()).chain(volumes);
        all.chain(own_users).collect()
    }

    /// The container's mounts with sources that exist: folders are made, images are unpacked.
    fn sources(&self, container: &Container, range: Option<Users>) -> Result<Vec<Mount>> {
        let mut found = Vec::new();
        let mut images = 0;
        for mount in &container.config.mounts {
            let mut mount = mount.clone();
            if let Some(image) = mount.image.take() {
                mount.host_path = self.image_volume(container, images, &image.image, &mount)?;
                mount.readonly = true;
                // Nobody writes to it, and views of several layers cannot be shown as owned by others.
                mount.uid_mappings.clear();
                images += 1;
            } else {
                mount.host_path = existing(&mount)?;
            }
            if range.is_some() {
                mount.host_path = users::volume(&container.sandbox.dir, &container.dir, found.len(), &mount)?;
                // It is read-only already; from inside the pod the kernel would not change it.
                (mount.readonly, mount.recursive_read_only) = (false, false);
            }
            found.push(mount);
        }
        Ok(found)
    }

    /// Mounts an image for a container to look into.
    fn image_volume(&self, container: &Container, index: usize, name: &str, mount: &Mount) -> Result<String> {
        let image =
            self.shared.config.images.find(name).ok_or_else(|| ImageError::NotFound(name.to_owned()))?;
        let base = volume(container, index);
        let [upper, work, view] = ["upper", "work", "view"].map(|part| base.join(part));
        for folder in [&upper, &work, &view] {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        mount::overlay(&image.layers, &upper, &work, &view)?;
        let path = Path::new(&mount.image_sub_path);
        let inside = view.join(path.strip_prefix("/").unwrap_or(path));
        let real = fs::canonicalize(&inside).map_err(Error::io(&inside))?;
        if !real.starts_with(&view) {
            let reason = format!("{} leads out of the image", mount.image_sub_path);
            return Err(SpecError::Mount { path: mount.container_path.clone(), reason }.into());
        }
        Ok(real.to_string_lossy().into_owned())
    }

    fn namespaces(
        &self,
        container: &Container,
        security: &LinuxContainerSecurityContext,
    ) -> Result<Namespaces> {
        let sandbox = &container.sandbox;
        let pause = sandbox.state().pause.map(|pause| pause.pid);
        let pause =
            pause.ok_or_else(|| Error::State(format!("pod sandbox {} has no pause process", sandbox.id)))?;
        let options = security.namespace_options.clone().unwrap_or_else(|| sandbox.namespaces());
        let own_users = sandbox.users()?.is_some();
        let of_pause = |kind: &str| match own_users {
            true => sandbox.dir.namespace(kind),
            false => namespace::of_process(pause, kind),
        };
        let pid = match options.pid() {
            NamespaceMode::Container => PidNamespace::Own,
            NamespaceMode::Node => PidNamespace::Host,
            NamespaceMode::Pod => PidNamespace::Of(of_pause("pid")),
            NamespaceMode::Target => match self.shared.pods.container(&options.target_id)?.status() {
                Status::Running { pid, .. } => PidNamespace::Of(namespace::of_process(pid, "pid")),
                _ => {
                    return Err(Error::State(format!(
                        "target container {} is not running",
                        options.target_id
                    )));
                }
            },
        };
        let own_network = sandbox.owns_network();
        Ok(Namespaces {
            user: own_users.then(|| of_pause("user")),
            network: own_network.then(|| match own_users {
                true => of_pause("net"),
                false => self.shared.layout.network_namespace(&sandbox.id),
            }),
            ipc: sandbox.owns_ipc().then(|| of_pause("ipc")),
            uts: own_network.then(|| of_pause("uts")),
            pid,
        })
    }

    /// Starts a container.
    ///
    /// # Errors
    /// When its program cannot be run: the container has ended then, with exit code 128.
    pub async fn start_container(&self, id: &str) -> Result<()> {
        let container = self.shared.pods.container(id)?;
        if container.status() != Status::Created {
            return Err(Error::State(format!("container {id} was started before")));
        }
        let shim = container.sandbox.shim()?;
        match shim.call(Call::Start { container: container.id.clone() }, &[]).await {
            Ok((Answer::Started(process), _)) => {
                let running = Status::Running { pid: process.identity.pid, started_at: process.started };
                // Its end may have been told already.
                container.status.send_if_modified(|status| {
                    let created = *status == Status::Created;
                    if created {
                        *status = running;
                    }
                    created
                });
                self.keep_container(&container)?;
                self.publish(&container.sandbox, &container.id, ContainerEventType::ContainerStartedEvent);
                Ok(())
            }
            Ok(_) => Err(Error::Shim("the shim did not tell the process".to_owned())),
            Err(error) => {
                let exit = Exit { code: START_FAILED, oom: false, at: clock::now() };
                self.end_container(&container, exit, "StartError", &error.to_string()).await;
                Err(error)
            }
        }
    }

    /// Notes the end of a container and tells it.
    pub(crate) async fn end_container(
        &self,
        container: &Arc<Container>,
        exit: Exit,
        reason: &str,
        message: &str,
    ) {
        let ended = container.status.send_if_modified(|status| {
            let started_at = match status {
                Status::Created => exit.at,
                Status::Running { started_at, .. } => *started_at,
                Status::Exited { .. } => return false,
            };
            let (reason, message) = (reason.to_owned(), message.to_owned());
            *status = Status::Exited { started_at, exit: exit.clone(), reason, message };
            true
        });
        if !ended {
            return;
        }
        // The shim's file has it too, so a full disk loses nothing that matters.
        if let Err(error) = self.keep_container(container) {
            tracing::warn!(container = container.id, %error, "keeping the end of a container");
        }
        self.publish(&container.sandbox, &container.id, ContainerEventType::ContainerStoppedEvent);
        let group = self.cgroup(&container.cgroup);
        // What stays busy now goes when the container is removed.
        let _ = blocking(move || clear(&group)).await;
    }

    /// Removes a container, ending it first if it runs; one that is not there is no error.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let Ok(container) = self.shared.pods.container(id) else { return Ok(()) };
        self.stop_container(&container.id, Duration::ZERO).await?;
        if let Ok(shim) = container.sandbox.shim() {
            // A shim that never knew it, or is dead, has forgotten it.
            let _ = shim.call(Call::Forget { container: container.id.clone() }, &[]).await;
        }
        let runtime = container.sandbox.dir.runtime().join(&container.id);
        let (engine, removed) = (self.clone(), container.clone());
        blocking(move || {
            match fs::remove_dir_all(&runtime) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(runtime)(error));
                }
                _ => {}
            }
            engine.clean(&removed)
        })
        .await?;
        self.shared.pods.remove_container(&container.id);
        self.publish(&container.sandbox, &container.id, ContainerEventType::ContainerDeletedEvent);
        Ok(())
    }

    /// Changes the limits of a container that exists.
    ///
    /// # Errors
    /// When it has ended, or the kernel refuses a value (memory below what is in use).
    pub async fn update_container(&self, id: &str, change: LinuxContainerResources) -> Result<()> {
        let container = self.shared.pods.container(id)?;
        if matches!(container.status(), Status::Exited { .. }) {
            return Err(Error::State(format!("container {id} has ended")));
        }
        let group = self.cgroup(&container.cgroup);
        let limits = spec::update(&change);
        blocking(move || Ok(group.apply(&limits)?)).await?;
        let mut resources = container.resources();
        spec::merge(&mut resources, &change);
        container.record().resources = resources.encode_to_vec();
        self.keep_container(&container)
    }

    /// Opens the log file of a container anew, after it was moved away.
    ///
    /// # Errors
    /// When the container does not run.
    pub async fn reopen_log(&self, id: &str) -> Result<()> {
        let container = self.shared.pods.container(id)?;
        if !container.running() {
            return Err(Error::State(format!("container {id} is not running")));
        }
        let call = Call::Reopen { container: container.id.clone() };
        container.sandbox.shim()?.call(call, &[]).await.map(drop)
    }

    pub(crate) fn keep_container(&self, container: &Container) -> Result<()> {
        // Written under the lock, so that what is written last is what happened last.
        let mut record = container.record();
        record.status = container.status();
        let path = container.dir.record();
        files::replace_json(&path, &*record).map_err(Error::io(path))
    }
}

/// What an id inside is outside.
fn outside(range: Option<Users>, id: u32) -> u32 {
    range.map_or(id, |range| range.first.saturating_add(id))
}

fn files_of(sandbox: &Sandbox) -> Files {
    let dir = &sandbox.dir;
    let shared_memory = if sandbox.owns_ipc() { dir.shared_memory() } else { PathBuf::from("/dev/shm") };
    Files { resolv_conf: dir.resolv_conf(), hostname: dir.hostname(), hosts: dir.hosts(), shared_memory }
}

fn volume(container: &Container, index: usize) -> PathBuf {
    container.dir.path().join(format!("image-{index}"))
}

/// The source of a mount without links; a folder is made where nothing is.
fn existing(mount: &Mount) -> Result<String> {
    let path = Path::new(&mount.host_path);
    if !path.exists() {
        fs::create_dir_all(path).map_err(Error::io(path))?;
    }
    let real = fs::canonicalize(path).map_err(Error::io(path))?;
    if mount.propagation() == MountPropagation::PropagationBidirectional && !mount::is_shared(&real)? {
        let reason = format!("{} is not on a shared mount", mount.host_path);
        return Err(SpecError::Mount { path: mount.container_path.clone(), reason }.into());
    }
    Ok(real.to_string_lossy().into_owned())
}

fn stop_signal(config: &ContainerConfig, image: &ImageFacts) -> String {
    match config.stop_signal() {
        CriSignal::RuntimeDefault => image
            .config
            .stop_signal()
            .clone()
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "SIGTERM".to_owned()),
        chosen => chosen.as_str_name().to_owned(),
    }
}
