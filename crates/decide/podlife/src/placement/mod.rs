//! Which processors and memory nodes containers get for themselves.

mod cpuset;

pub use cpuset::CpuSet;
