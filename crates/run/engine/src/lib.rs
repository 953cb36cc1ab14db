//! The container engine behind the container runtime interface.
