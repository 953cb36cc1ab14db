//! The last steps before a container's program runs: filter, capabilities, exec.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libcontainer::capabilities::drop_privileges;
use libcontainer::syscall::syscall::create_syscall;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::errno::Errno;
use oci_spec::runtime::{
    Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder, Process, Spec,
};
use plimsoll_kernel::seccomp::{self, FilterInstruction};

use crate::protocol::Confinement;

/// Runs a program under a [`Confinement`].
///
/// libcontainer is told of no capabilities, so that they are all there until the filter is installed:
/// without the no-new-privileges flag the kernel takes a filter only from the privileged.
#[derive(Clone, Debug)]
pub(crate) struct Confined {
    confinement: Confinement,
}

impl Confined {
    pub(crate) fn new(confinement: Confinement) -> Self {
        Self { confinement }
    }

    fn install_filters(&self) -> Result<(), ExecutorError> {
        for filter in &self.confinement.filters {
            let filter: Vec<FilterInstruction> = filter.iter().copied().map(unpack).collect();
            seccomp::install(&filter).map_err(|error| failed("installing the system call filter", &error))?;
        }
        Ok(())
    }

    fn drop_capabilities(&self) -> Result<(), ExecutorError> {
        let sets = self.sets().map_err(|error| failed("naming capabilities", &error))?;
        drop_privileges(&sets, create_syscall().as_ref())
            .map_err(|error| failed("giving up capabilities", &error))
    }

    fn sets(&self) -> Result<LinuxCapabilities, oci_spec::OciSpecError> {
        let set = |names: &[String]| -> Capabilities {
            names
                .iter()
                .filter_map(|name| name.trim_start_matches("CAP_").parse::<Capability>().ok())
                .collect()
        };
        let allowed = set(&self.confinement.capabilities);
        let ambient = set(&self.confinement.ambient);
        LinuxCapabilitiesBuilder::default()
            .bounding(allowed.clone())
            .effective(allowed.clone())
            .permitted(allowed)
            .inheritable(ambient.clone())
            .ambient(ambient)
            .build()
    }
}

impl Executor for Confined {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let process = spec.process().as_ref().ok_or(ExecutorError::InvalidArg)?;
        let program = find(process).map_err(ExecutorError::Other)?;
        let text = |text: &str| CString::new(text).map_err(|_| ExecutorError::InvalidArg);
        let path = text(&program.to_string_lossy())?;
        let arguments = list(process.args().as_deref(), text)?;
        let environment = list(process.env().as_deref(), text)?;
        if process.no_new_privileges() == Some(true) {
            self.drop_capabilities()?;
            self.install_filters()?;
        } else {
            self.install_filters()?;
            self.drop_capabilities()?;
        }
        let Err(errno) = nix::unistd::execve(&path, &arguments, &environment);
        // The start was reported as done: the container's own error stream is the place to say it.
        eprintln!("exec {}: {}", program.display(), errno.desc().to_lowercase());
        std::process::exit(match errno {
            Errno::EACCES | Errno::EPERM => 126,
            Errno::ENOENT => 127,
            _ => 255,
        })
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        let process = spec.process().as_ref();
        let process =
            process.ok_or_else(|| ExecutorValidationError::ArgValidationError("no process".to_owned()))?;
        find(process).map(drop).map_err(ExecutorValidationError::ArgValidationError)
    }

    /// The program gets its environment with the call that runs it.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

/// The program's file, or the message that users know from other engines.
fn find(process: &Process) -> Result<PathBuf, String> {
    let name = process.args().as_ref().and_then(|args| args.first()).map_or("", String::as_str);
    if name.contains('/') {
        return executable(Path::new(name)).map(|()| PathBuf::from(name)).map_err(|errno| match errno {
            Errno::ENOENT => format!("exec: \"{name}\": stat {name}: no such file or directory"),
            other => format!("exec: \"{name}\": {}", other.desc().to_lowercase()),
        });
    }
    let environment = process.env().as_deref().unwrap_or_default();
    let path = environment.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    let mut denied = false;
    for folder in path.split(':') {
        let candidate = Path::new(if folder.is_empty() { "." } else { folder }).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Errno::EACCES) => denied = true,
            Err(_) => {}
        }
    }
    if denied {
        return Err(format!("exec: \"{name}\": permission denied"));
    }
    Err(format!("exec: \"{name}\": executable file not found in $PATH"))
}

fn executable(path: &Path) -> Result<(), Errno> {
    let meta =
        path.metadata().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::ENOENT)))?;
    if meta.is_dir() {
        Err(Errno::EISDIR)
    } else if meta.permissions().mode() & 0o111 == 0 {
        Err(Errno::EACCES)
    } else {
        Ok(())
    }
}

fn list<'a>(
    texts: Option<&'a [String]>,
    convert: impl Fn(&'a str) -> Result<CString, ExecutorError>,
) -> Result<Vec<CString>, ExecutorError> {
    texts.unwrap_or_default().iter().map(|text| convert(text)).collect()
}

fn failed(what: &str, error: &dyn std::error::Error) -> ExecutorError {
    ExecutorError::Other(format!("{what}: {error}"))
}

/// See [`pack`](crate::spec::seccomp::pack).
fn unpack(packed: u64) -> FilterInstruction {
    FilterInstruction {
        code: (packed >> 48) as u16,
        jump_true: (packed >> 40) as u8,
        jump_false: (packed >> 32) as u8,
        operand: packed as u32,
    }
}
