//! Why a request is refused: etcd's codes and words (api/v3rpc/rpctypes).

use plimsoll_mvcc::Denial;
use tonic::{Code, Status};

use crate::StoreError;

pub(super) fn empty_key() -> Status {
    Status::invalid_argument("etcdserver: key is not provided")
}

pub(super) fn key_not_found() -> Status {
    Status::invalid_argument("etcdserver: key not found")
}

pub(super) fn value_provided() -> Status {
    Status::invalid_argument("etcdserver: value is provided")
}

pub(super) fn lease_provided() -> Status {
    Status::invalid_argument("etcdserver: lease is provided")
}

pub(super) fn duplicate_key() -> Status {
    Status::invalid_argument("etcdserver: duplicate key given in txn request")
}

pub(super) fn too_many_operations() -> Status {
    Status::invalid_argument("etcdserver: too many operations in txn request")
}

pub(super) fn too_large() -> Status {
    Status::invalid_argument("etcdserver: request is too large")
}

pub(super) fn sort_option() -> Status {
    Status::invalid_argument("etcdserver: invalid sort option")
}

pub(super) fn compacted() -> Status {
    Status::out_of_range(COMPACTED)
}

pub(super) fn future() -> Status {
    Status::out_of_range("etcdserver: mvcc: required revision is a future revision")
}

pub(super) fn lease_too_long() -> Status {
    Status::out_of_range("etcdserver: too large lease TTL")
}

/// What a client hears whose watch cannot begin there.
pub(super) const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

/// What a store refuses.
pub(super) fn of(error: StoreError) -> Status {
    match error {
        StoreError::Compacted { .. } => compacted(),
        StoreError::Future { .. } => future(),
        StoreError::NoSpace => Status::resource_exhausted(StoreError::NoSpace.to_string()),
        StoreError::TooLarge { .. } => too_large(),
        StoreError::Denied(denial) => Status::new(code(denial), denial.to_string()),
        StoreError::Closed => Status::unavailable("etcdserver: server stopped"),
        StoreError::Broken(_) => Status::unavailable(error.to_string()),
        StoreError::Damaged { .. } => Status::data_loss("etcdserver: corrupt cluster"),
        other => Status::internal(other.to_string()),
    }
}

fn code(denial: Denial) -> Code {
    match denial {
        Denial::KeyNotFound | Denial::DuplicateKey => Code::InvalidArgument,
        Denial::LeaseNotFound => Code::NotFound,
        Denial::LeaseExists => Code::FailedPrecondition,
        Denial::Unreadable(_) => Code::OutOfRange,
    }
}
