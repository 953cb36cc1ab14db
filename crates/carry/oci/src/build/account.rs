//! Users and groups by the names that an image gives them.

use std::io::Read;
use std::path::Path;

use crate::error::{During, Error, Result};
use crate::layer::tree::Tree;

/// Larger account files are cut: no real one comes near.
const MAX_FILE: u64 = 4 << 20;

/// Who runs a step or owns a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

/// The account that `user[:group]` means in this file system; empty means root.
pub(super) fn look_up(tree: &Tree, text: &str) -> Result<Account> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let passwd = read(tree, "etc/passwd")?;
    let groups = read(tree, "etc/group")?;
    let user = if user.is_empty() { "0" } else { user };
    let known = rows(&passwd).find(|row| row[0] == user || row.get(2) == Some(&user));
    let number = |row: &[&str], field: usize| row.get(field).and_then(|text| text.parse::<u32>().ok());
    let uid = known.as_ref().and_then(|row| number(row, 2)).or(user.parse().ok());
    let uid = uid.ok_or_else(|| missing("user", user))?;
    let own_group = known.as_ref().and_then(|row| number(row, 3)).unwrap_or(0);
    let gid = match group {
        "" => own_group,
        name => rows(&groups)
            .find(|row| row[0] == name)
            .and_then(|row| number(&row, 2))
            .or(name.parse().ok())
            .ok_or_else(|| missing("group", name))?,
    };
    let name = known.as_ref().map_or(user, |row| row[0]);
    let further = match group {
        "" => rows(&groups)
            .filter(|row| row.get(3).is_some_and(|members| members.split(',').any(|member| member == name)))
            .filter_map(|row| number(&row, 2))
            .collect(),
        _ => Vec::new(),
    };
    let home = known.as_ref().and_then(|row| row.get(5).copied()).filter(|home| !home.is_empty());
    let default = if uid == 0 { "/root" } else { "/" };
    Ok(Account { uid, gid, groups: further, home: home.unwrap_or(default).into() })
}

/// The owner that `--chown` means: a number alone is both user and group.
pub(super) fn owner(tree: &Tree, text: &str) -> Result<(u32, u32)> {
    match text.parse::<u32>() {
        Ok(number) => Ok((number, number)),
        Err(_) => look_up(tree, text).map(|account| (account.uid, account.gid)),
    }
}

fn rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(':').collect())
}

fn read(tree: &Tree, path: &str) -> Result<String> {
    let Some(file) = tree.read(Path::new(path))? else { return Ok(String::new()) };
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).during(|| format!("read {path}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn missing(kind: &str, name: &str) -> Error {
    Error::Step {
        step: "user".into(),
        reason: format!("unable to find {kind} {name}: no matching entries in the image"),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn finds_names_and_numbers() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:100:101::/srv:/bin/false\n";
        std::fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(
            dir.path().join("etc/group"),
            "root:x:0:\nweb:x:101:\nlog:x:4:web,root\nall:x:9:web\n",
        )
        .unwrap();
        let tree = Tree::open(dir.path()).unwrap();
        let row = |uid, gid, groups: &[u32], home: &str| Account {
            uid,
            gid,
            groups: groups.into(),
            home: home.into(),
        };
        for (text, want) in [
            ("", row(0, 0, &[4], "/root")),
            ("web", row(100, 101, &[4, 9], "/srv")),
            ("100", row(100, 101, &[4, 9], "/srv")),
            ("web:log", row(100, 4, &[], "/srv")),
            ("7", row(7, 0, &[], "/")),
            ("7:8", row(7, 8, &[], "/")),
        ] {
            assert_eq!(look_up(&tree, text).unwrap(), want, "{text}");
        }
        assert!(look_up(&tree, "nobody").unwrap_err().to_string().contains("unable to find user nobody"));
        assert!(look_up(&tree, "web:none").unwrap_err().to_string().contains("unable to find group none"));
        assert_eq!((owner(&tree, "5").unwrap(), owner(&tree, "web").unwrap()), ((5, 5), (100, 101)));
    }
}
