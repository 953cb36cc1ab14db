//! Pod addresses, Services and policies in the kernel.
