//! Why the engine could not do what it was asked.

use std::io;
use std::path::PathBuf;

use plimsoll_kernel::pod_network::NetworkError;
use plimsoll_kernel::{cgroup, mount, namespace};
use tonic::{Code, Status};

use crate::images::ImageError;
use crate::spec::SpecError;

/// An error of the engine; the text names the object.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such sandbox.
    #[error("pod sandbox {0} not found")]
    NoSandbox(String),
    /// There is no such container.
    #[error("container {0} not found")]
    NoContainer(String),
    /// Something is missing in the request, or contradicts itself.
    #[error("{0}")]
    Invalid(String),
    /// The object is not in the state that is needed.
    #[error("{0}")]
    State(String),
    /// It took longer than it was allowed to.
    #[error("{0}")]
    Timeout(String),
    /// The shim said no, or is gone.
    #[error("{0}")]
    Shim(String),
    /// The container cannot be described.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Images.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The pod network.
    #[error("pod network: {0}")]
    Network(#[from] NetworkError),
    /// Control groups.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// Mounts.
    #[error(transparent)]
    Mount(#[from] mount::Error),
    /// Namespaces.
    #[error(transparent)]
    Namespace(#[from] namespace::Error),
    /// Files and sockets.
    #[error("{path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket of the container runtime interface.
    #[error(transparent)]
    Serve(#[from] plimsoll_cri::Error),
}

/// Results of the engine.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// The one place where errors become answers of the interface.
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::NoSandbox(_) | Error::NoContainer(_) | Error::Image(ImageError::NotFound(_)) => {
                Code::NotFound
            }
            Error::Invalid(_) | Error::Spec(_) => Code::InvalidArgument,
            Error::State(_) => Code::FailedPrecondition,
            Error::Timeout(_) => Code::DeadlineExceeded,
            Error::Image(ImageError::Denied(_)) => Code::PermissionDenied,
            _ => Code::Unknown,
        };
        Self::new(code, error.to_string())
    }
}
