//! Who a container runs as.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use plimsoll_cri::v1::{LinuxContainerSecurityContext, SupplementalGroupsPolicy};

use super::SpecError;

/// Account files of images are small; longer ones are cut.
const FILE_LIMIT: u64 = 4 * 1024 * 1024;

/// A user with everything that its processes get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Further groups, sorted.
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
}

/// The account files of a root file system.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    pub(crate) passwd: String,
    pub(crate) group: String,
}

impl Accounts {
    /// Reads them without ever leaving the root file system by a link.
    pub(crate) fn read(rootfs: &Path) -> Self {
        let read = |path: &str| read_inside(rootfs, path).unwrap_or_default();
        Self { passwd: read("etc/passwd"), group: read("etc/group") }
    }
}

fn read_inside(rootfs: &Path, path: &str) -> std::io::Result<String> {
    let root = open(rootfs, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let mut bytes = Vec::new();
    File::from(openat2(&root, path, how)?).take(FILE_LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
        Some(Account { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    })
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, gid, members, ..] = fields[..] else { return None };
        Some(Group { name, gid: gid.parse().ok()?, members })
    })
}

/// Decides by container first, then by image (`user`, `uid`, `user:group`, `uid:gid`).
pub(crate) fn resolve(
    security: &LinuxContainerSecurityContext,
    image_user: &str,
    files: &Accounts,
) -> Result<User, SpecError> {
    let (image_user, image_group) = image_user.split_once(':').unwrap_or((image_user, ""));
    let wanted = match (&security.run_as_user, security.run_as_username.as_str()) {
        (Some(uid), _) => uid.value.to_string(),
        (None, "") => image_user.to_owned(),
        (None, name) => name.to_owned(),
    };
    let account =
        accounts(&files.passwd).find(|account| account.name == wanted || account.uid.to_string() == wanted);
    let uid = match (&account, wanted.as_str()) {
        (Some(account), _) => account.uid,
        (None, "") => 0,
        (None, other) => number("user", other)?,
    };
    // An empty wish is root, whose account may still say where home is.
    let account = account.or_else(|| accounts(&files.passwd).find(|account| account.uid == uid));
    let image_decides = security.run_as_user.is_none() && security.run_as_username.is_empty();
    let gid = match (&security.run_as_group, image_group) {
        (Some(gid), _) => id("group", gid.value)?,
        (None, group) if image_decides && !group.is_empty() => {
            match groups(&files.group).find(|known| known.name == group) {
                Some(known) => known.gid,
                None => number("group", group)?,
            }
        }
        _ => account.as_ref().map_or(0, |account| account.gid),
    };
    let mut further = vec![gid];
    for group in &security.supplemental_groups {
        further.push(id("group", *group)?);
    }
    if security.supplemental_groups_policy() == SupplementalGroupsPolicy::Merge
        && let Some(account) = &account
    {
        let member = |group: &Group<'_>| group.members.split(',').any(|name| name == account.name);
        further.extend(groups(&files.group).filter(member).map(|group| group.gid));
    }
    further.sort_unstable();
    further.dedup();
    let home = account.map_or("/", |account| account.home);
    let home = if home.is_empty() { "/" } else { home };
    Ok(User { uid, gid, groups: further, home: home.to_owned() })
}

fn number(what: &str, text: &str) -> Result<u32, SpecError> {
    text.parse()
        .map_err(|_| SpecError::User(format!("unable to find {what} {text}: no such entry in the image")))
}

fn id(what: &str, value: i64) -> Result<u32, SpecError> {
    u32::try_from(value).map_err(|_| SpecError::User(format!("{what} {value} is out of range")))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use plimsoll_cri::v1::Int64Value;

    fn files() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/false\n".to_owned(),
            group: "root:x:0:\nwww:x:34:\nlog:x:50:web,other\n".to_owned(),
        }
    }

    #[test]
    fn users_by_image_and_by_container() {
        type Change = fn(&mut LinuxContainerSecurityContext);
        type Expected = (u32, u32, &'static [u32], &'static str);
        let cases: [(&str, Change, Expected); 9] = [
            ("", |_| {}, (0, 0, &[0], "/root")),
            ("web", |_| {}, (33, 34, &[34, 50], "/srv")),
            ("33", |_| {}, (33, 34, &[34, 50], "/srv")),
            ("web:log", |_| {}, (33, 50, &[50], "/srv")),
            ("1000:1001", |_| {}, (1000, 1001, &[1001], "/")),
            ("web", |s| s.run_as_user = Some(Int64Value { value: 5 }), (5, 0, &[0], "/")),
            ("web:log", |s| s.run_as_user = Some(Int64Value { value: 33 }), (33, 34, &[34, 50], "/srv")),
            ("", |s| s.run_as_group = Some(Int64Value { value: 9 }), (0, 9, &[9], "/root")),
            (
                "web",
                |s| {
                    s.supplemental_groups = vec![7];
                    s.set_supplemental_groups_policy(SupplementalGroupsPolicy::Strict);
                },
                (33, 34, &[7, 34], "/srv"),
            ),
        ];
        for (image, change, (uid, gid, groups, home)) in cases {
            let mut security = LinuxContainerSecurityContext::default();
            change(&mut security);
            let user = resolve(&security, image, &files()).unwrap();
            assert_eq!(user, User { uid, gid, groups: groups.to_vec(), home: home.to_owned() }, "{image}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let error = resolve(&LinuxContainerSecurityContext::default(), "nobody", &files()).unwrap_err();
        assert_eq!(error.to_string(), "unable to find user nobody: no such entry in the image");
    }
}
