//! End-to-end tests with the real kubectl and real containers.
