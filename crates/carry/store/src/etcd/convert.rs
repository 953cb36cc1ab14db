//! etcd's requests as the store's, and the store's answers as etcd's.

use bytes::Bytes;
use plimsoll_etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use plimsoll_etcd::etcdserverpb::range_request::{SortOrder, SortTarget};
use plimsoll_etcd::etcdserverpb::{self as pb, RangeRequest};
use plimsoll_etcd::mvccpb::KeyValue;
use plimsoll_mvcc::{Bounds, Compare, Entry, Operand, Order, Put, Query, Relation, Revision, Target};
use tonic::Status;

use super::{key, refusal};

pub(super) fn key_value(entry: &Entry) -> KeyValue {
    KeyValue {
        key: key::bytes(&entry.key),
        create_revision: entry.create.0,
        mod_revision: entry.modified.0,
        version: i64::try_from(entry.version).unwrap_or(i64::MAX),
        value: entry.value.clone(),
        lease: entry.lease,
    }
}

/// The same without its value.
pub(super) fn bare(entry: &Entry) -> KeyValue {
    KeyValue { value: Bytes::new(), ..key_value(entry) }
}

pub(super) fn query(request: &RangeRequest) -> Result<Query, Status> {
    if request.key.is_empty() {
        return Err(refusal::empty_key());
    }
    let bounds = |least, most| Bounds { least: Revision(least), most: Revision(most) };
    Ok(Query {
        span: key::span(&request.key, &request.range_end),
        at: (request.revision > 0).then_some(Revision(request.revision)),
        limit: usize::try_from(request.limit).unwrap_or_default(),
        order: order(request)?,
        modified: bounds(request.min_mod_revision, request.max_mod_revision),
        created: bounds(request.min_create_revision, request.max_create_revision),
    })
}

/// By another target than the key, the order is ascending unless it is said.
fn order(request: &RangeRequest) -> Result<Option<(Target, Order)>, Status> {
    let order = SortOrder::try_from(request.sort_order).map_err(|_| refusal::sort_option())?;
    let target = match SortTarget::try_from(request.sort_target).map_err(|_| refusal::sort_option())? {
        SortTarget::Key => Target::Key,
        SortTarget::Version => Target::Version,
        SortTarget::Create => Target::Create,
        SortTarget::Mod => Target::Modified,
        SortTarget::Value => Target::Value,
    };
    Ok(match order {
        // As they lie.
        SortOrder::None | SortOrder::Ascend if target == Target::Key => None,
        SortOrder::None | SortOrder::Ascend => Some((target, Order::Ascending)),
        SortOrder::Descend => Some((target, Order::Descending)),
    })
}

pub(super) fn put(request: pb::PutRequest) -> Result<Put, Status> {
    if request.key.is_empty() {
        return Err(refusal::empty_key());
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(refusal::value_provided());
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(refusal::lease_provided());
    }
    Ok(Put {
        key: key::text(&request.key).into(),
        value: (!request.ignore_value).then_some(request.value),
        lease: (!request.ignore_lease).then_some(request.lease),
    })
}

pub(super) fn compare(request: &pb::Compare) -> Result<Compare, Status> {
    if request.key.is_empty() {
        return Err(refusal::empty_key());
    }
    let unknown = || Status::invalid_argument("etcdserver: unknown comparison");
    let relation = match CompareResult::try_from(request.result).map_err(|_| unknown())? {
        CompareResult::Equal => Relation::Equal,
        CompareResult::Greater => Relation::Greater,
        CompareResult::Less => Relation::Less,
        CompareResult::NotEqual => Relation::Differs,
    };
    let number = |target, of: fn(&TargetUnion) -> Option<i64>| {
        Operand::Number(target, request.target_union.as_ref().and_then(of).unwrap_or_default())
    };
    let with = match CompareTarget::try_from(request.target).map_err(|_| unknown())? {
        CompareTarget::Version => number(Target::Version, |with| match with {
            TargetUnion::Version(number) => Some(*number),
            _ => None,
        }),
        CompareTarget::Create => number(Target::Create, |with| match with {
            TargetUnion::CreateRevision(number) => Some(*number),
            _ => None,
        }),
        CompareTarget::Mod => number(Target::Modified, |with| match with {
            TargetUnion::ModRevision(number) => Some(*number),
            _ => None,
        }),
        CompareTarget::Lease => number(Target::Lease, |with| match with {
            TargetUnion::Lease(number) => Some(*number),
            _ => None,
        }),
        CompareTarget::Value => Operand::Value(match &request.target_union {
            Some(TargetUnion::Value(value)) => value.clone(),
            _ => Bytes::new(),
        }),
    };
    Ok(Compare { span: key::span(&request.key, &request.range_end), relation, with })
}
