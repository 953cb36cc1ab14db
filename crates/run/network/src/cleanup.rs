//! Leaving nothing behind.

use std::io;
use std::path::Path;

use plimsoll_kernel::link::Links;
use plimsoll_kernel::nft::{Batch, Family, Tables};
use plimsoll_kernel::pod_network::NetworkError;

use crate::Error;
use crate::config::{Names, folder};
use crate::{cni, hosts};

/// Removes everything an instance has in the kernel: links with their addresses and routes, packet
/// rules. Also forgets its sandboxes' addresses. Works from the name alone, and again.
pub async fn cleanup(data_dir: &Path, instance: &str) -> Result<(), Error> {
    let (names, folder) = (Names::new(instance)?, folder(data_dir));
    cni::cleanup(data_dir).await?;
    let work = move || {
        remove_links(&names).map_err(|error| NetworkError::io("remove links", error))?;
        remove_tables(&names).map_err(|error| NetworkError::io("remove packet rules", error))?;
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(NetworkError::io(format!("folder {}", folder.display()), error).into())
            }
            _ => Ok(()),
        }
    };
    tokio::task::spawn_blocking(work).await.expect("the work does not panic")
}

fn remove_links(names: &Names) -> io::Result<()> {
    let mut links = Links::open()?;
    hosts::forget(&mut links, &names.bridge())?;
    links.remove_group(names.doomed_group())?;
    links.remove_group(names.group())?;
    links.remove(&names.tunnel())?;
    links.remove(&names.bridge())?;
    let prefix = names.veth_prefix();
    for link in links.list()?.iter().filter(|link| is_ours(&link.name, &prefix)) {
        links.remove(&link.name)?;
    }
    Ok(())
}

/// Whether the name is one of our pods' interfaces: the prefix and eight hexadecimal digits.
pub(crate) fn is_ours(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn remove_tables(names: &Names) -> io::Result<()> {
    let mut tables = Tables::open()?;
    for family in [Family::Ipv4, Family::Ipv6] {
        if tables.list(family)?.contains(&names.table()) {
            let mut batch = Batch::new(family, &names.table());
            batch.delete_table();
            tables.commit(&batch.finish())?;
        }
    }
    Ok(())
}
