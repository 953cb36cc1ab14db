//! Images as archives: OCI layouts and what `docker save` writes.

mod load;
mod save;

pub use load::Loaded;
