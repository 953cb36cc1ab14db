//! Layers: tar streams in, directories for overlayfs out.

mod compress;
mod diff;
pub(crate) mod tar;
pub(crate) mod tree;
mod unpack;

pub(crate) use compress::{Compression, compressed, decompressed};
pub(crate) use diff::{Member, TarWriter, tree_size, write_diff, xattrs_of_open};
pub use unpack::Limits;
pub(crate) use unpack::{Unpacked, adopt_implied, unpack};
