//! The cluster's resolver on every node.
