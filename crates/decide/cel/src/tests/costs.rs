//! Runtime costs, as upstream's own tests expect them.
