//! The life of a pod as a state machine.
