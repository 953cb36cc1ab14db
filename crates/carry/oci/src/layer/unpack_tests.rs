//! Tables for unpacking: attributes, whiteouts, attempts to leave the root, bombs.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::Cursor;
use std::os::unix::fs::FileTypeExt;

use ::tar::EntryType;
use flate2::write::GzEncoder;

use super::*;
use crate::layer::{Member, TarWriter, write_diff};

/// A layer in few words: path and what it is.
enum Item<'a> {
    File(&'a str, &'a str),
    Dir(&'a str),
    Symlink(&'a str, &'a str),
    Hardlink(&'a str, &'a str),
}
use Item::*;

fn stream(items: &[Item]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = TarWriter::new(&mut bytes);
    for item in items {
        let (path, kind, link, content) = match item {
            File(path, content) => (path, EntryType::Regular, "", *content),
            Dir(path) => (path, EntryType::Directory, "", ""),
            Symlink(path, link) => (path, EntryType::Symlink, *link, ""),
            Hardlink(path, link) => (path, EntryType::Link, *link, ""),
        };
        let mut member = Member::new(Path::new(path), kind).linking_to(link);
        member.size = content.len() as u64;
        writer.append(&member, &mut content.as_bytes()).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

fn unpack_items(items: &[Item]) -> (tempfile::TempDir, Result<Unpacked>) {
    let dir = tempfile::tempdir().unwrap();
    let result = unpack_stream(Cursor::new(stream(items)), dir.path(), Limits::default());
    (dir, result)
}

/// What is in the directory: `d path`, `- path=content`, `l path>target`, `c path` (whiteout), `o path` (opaque).
fn listing(root: &Path) -> Vec<String> {
    fn walk(root: &Path, dir: &Path, out: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let shown = path.strip_prefix(root).unwrap().display().to_string();
            let kind = path.symlink_metadata().unwrap().file_type();
            if kind.is_dir() {
                let opaque = xattr::get(&path, "trusted.overlay.opaque").unwrap().is_some();
                out.push(format!("{} {shown}", if opaque { 'o' } else { 'd' }));
                walk(root, &path, out);
            } else if kind.is_symlink() {
                out.push(format!("l {shown}>{}", fs::read_link(&path).unwrap().display()));
            } else if kind.is_char_device() {
                out.push(format!("c {shown}"));
            } else {
                out.push(format!("- {shown}={}", fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut out = Vec::new();
    walk(root, root, &mut out);
    out.sort_by(|a, b| a[2..].cmp(&b[2..]));
    out
}

#[test]
fn makes_files_and_whiteouts() {
    let rows: &[(&str, &[Item], &[&str])] = &[
        ("files", &[Dir("d"), File("d/a", "1"), Symlink("l", "d/a")], &["d d", "- d/a=1", "l l>d/a"]),
        ("missing parents", &[File("x/y/z", "1")], &["d x", "d x/y", "- x/y/z=1"]),
        ("a later entry wins", &[File("a", "1"), File("a", "2")], &["- a=2"]),
        ("a file replaces a directory", &[File("a/b", "1"), File("a", "2")], &["- a=2"]),
        ("a directory replaces a file", &[File("a", "1"), Dir("a"), File("a/b", "2")], &["d a", "- a/b=2"]),
        (
            "hard link",
            &[File("a", "1"), Hardlink("b", "a"), Hardlink("d/c", "/a")],
            &["- a=1", "- b=1", "d d", "- d/c=1"],
        ),
        ("whiteout", &[File(".wh.gone", "")], &["c gone"]),
        ("whiteout below", &[File("d/.wh.gone", "")], &["d d", "c d/gone"]),
        ("opaque", &[Dir("d"), File("d/.wh..wh..opq", ""), File("d/a", "1")], &["o d", "- d/a=1"]),
        ("whiteout does not touch its own layer", &[File("a", "1"), File(".wh.a", "")], &["- a=1"]),
        ("file after its whiteout", &[File(".wh.a", ""), File("a", "1")], &["- a=1"]),
        (
            "directory after its whiteout",
            &[File(".wh.a", ""), Dir("a"), File("a/b", "1")],
            &["o a", "- a/b=1"],
        ),
        ("implied directory after its whiteout", &[File(".wh.a", ""), File("a/b", "1")], &["o a", "- a/b=1"]),
        ("whiteout of its own directory", &[File("a/b", "1"), File(".wh.a", "")], &["o a", "- a/b=1"]),
        (
            "marks of aufs",
            &[File(".wh..wh.plnk/x", ""), File(".wh..wh.aufs", "")],
            &["d .wh..wh.plnk", "- .wh..wh.plnk/x="],
        ),
        (
            "link to a directory of this layer",
            &[Dir("usr/bin"), Symlink("bin", "usr/bin"), File("bin/a", "1")],
            &["l bin>usr/bin", "d usr", "d usr/bin", "- usr/bin/a=1"],
        ),
        (
            "link to a directory of a lower layer",
            &[Symlink("bin", "usr/bin"), File("bin/a", "1")],
            &["l bin>usr/bin", "d usr", "d usr/bin", "- usr/bin/a=1"],
        ),
    ];
    for (name, items, want) in rows {
        let (dir, result) = unpack_items(items);
        result.unwrap();
        assert_eq!(listing(dir.path()), *want, "{name}");
    }
}

#[test]
fn nothing_is_made_outside_of_the_root() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("victim");
    fs::write(&target, "untouched").unwrap();
    let absolute = target.to_str().unwrap();
    let dotdot = format!("../../../../../../../../../..{absolute}");
    let outside_dir = outside.path().to_str().unwrap();
    let (below_dotdot, below_proc) = (format!("d/l{absolute}"), format!("l{absolute}"));
    // Whether it succeeds inside the root or fails does not matter: outside nothing may change.
    let attempts: Vec<Vec<Item>> = vec![
        vec![Symlink("l", outside_dir), File("l/victim", "owned")],
        vec![Symlink("l", outside_dir), File("l/new", "owned")],
        vec![Symlink("l", absolute), File("l", "owned")],
        vec![Symlink("l", &dotdot), File("l", "owned")],
        vec![Symlink("l", "/"), Symlink("m", "l/.."), File(&dotdot[30..], "x")],
        vec![Symlink("l", outside_dir), File("l/.wh.victim", "")],
        vec![Symlink("l", outside_dir), File("l/.wh..wh..opq", "")],
        vec![Symlink("l", outside_dir), Hardlink("stolen", "l/victim"), File("stolen", "owned")],
        vec![Hardlink("stolen", absolute)],
        vec![Symlink("l", outside_dir), Dir("l/victim")],
        vec![Symlink("a", "b"), Symlink("b", "a"), File("a/x", "1")],
        vec![Dir("d"), Symlink("d/l", "../../../../../../.."), File(&below_dotdot, "owned")],
        vec![Symlink("l", "/proc/self/root"), File(&below_proc, "owned")],
    ];
    for (row, items) in attempts.iter().enumerate() {
        let (dir, _) = unpack_items(items);
        assert_eq!(fs::read_to_string(&target).unwrap(), "untouched", "{row}");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{row}");
        assert_eq!(fs::metadata(&target).unwrap().nlink(), 1, "{row}");
        assert!(xattr::list(outside.path()).unwrap().next().is_none(), "{row}");
        assert!(dir.path().exists(), "{row}");
    }
}

#[test]
fn refuses_names_that_lead_out() {
    for items in [
        vec![File("../x", "")],
        vec![File("a/../../x", "")],
        vec![Hardlink("a", "../../etc/passwd")],
        vec![File(".wh.", "")],
        vec![File(".wh...", "")],
        vec![Hardlink("a", "missing")],
    ] {
        assert!(unpack_items(&items).1.is_err());
    }
}

#[test]
fn bombs_stop_at_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let zeros = vec![0; 8 << 20];
    let mut tar = Vec::new();
    let mut writer = TarWriter::new(&mut tar);
    let mut member = Member::new(Path::new("zeros"), EntryType::Regular);
    member.size = zeros.len() as u64;
    writer.append(&member, &mut zeros.as_slice()).unwrap();
    writer.finish().unwrap();
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::best());
    io::copy(&mut tar.as_slice(), &mut gzip).unwrap();
    let bomb = gzip.finish().unwrap();
    assert!(bomb.len() < 64 << 10);

    let limits = Limits { bytes: 1 << 20, entries: 10 };
    let error = unpack_stream(Cursor::new(&bomb), dir.path(), limits).unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 1_048_576, unit: "bytes", .. }), "{error}");

    let many: Vec<String> = (0..20).map(|n| format!("f{n}")).collect();
    let items: Vec<Item> = many.iter().map(|name| File(name, "")).collect();
    let error = unpack_stream(Cursor::new(stream(&items)), dir.path(), limits).unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 10, unit: "entries", .. }), "{error}");

    // Within the limits, runs of zeros take no space.
    let dir = tempfile::tempdir().unwrap();
    unpack_stream(Cursor::new(&bomb), dir.path(), Limits::default()).unwrap();
    let file = fs::metadata(dir.path().join("zeros")).unwrap();
    assert_eq!(file.len(), 8 << 20);
    assert!(file.blocks() < 100, "{} blocks", file.blocks());
}

#[test]
fn attributes_survive_a_round_trip() {
    let first = tempfile::tempdir().unwrap();
    let root = first.path();
    fs::write(root.join("suid"), "x").unwrap();
    std::os::unix::fs::chown(root.join("suid"), Some(1234), Some(5_000_000)).unwrap();
    fs::set_permissions(root.join("suid"), fs::Permissions::from_mode(0o4755)).unwrap();
    xattr::set(root.join("suid"), "user.colour", b"blue\n").unwrap();
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    xattr::set(root.join("suid"), "security.capability", capability).unwrap();
    fs::hard_link(root.join("suid"), root.join("zweiter Name ü")).unwrap();
    fs::create_dir_all(root.join("d/empty")).unwrap();
    xattr::set(root.join("d"), "trusted.overlay.opaque", b"y").unwrap();
    std::os::unix::fs::symlink("nowhere", root.join("d").join("l".repeat(150))).unwrap();
    let node = |name: &str, kind, device| {
        nix::sys::stat::mknod(
            &root.join(name),
            kind,
            nix::sys::stat::Mode::from_bits_truncate(0o640),
            device,
        )
        .unwrap();
    };
    node("fifo", nix::sys::stat::SFlag::S_IFIFO, 0);
    node("null", nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::makedev(1, 3));
    node("gone", nix::sys::stat::SFlag::S_IFCHR, 0);

    let mut layer = Vec::new();
    write_diff(root, &mut layer).unwrap();
    let second = tempfile::tempdir().unwrap();
    let unpacked = unpack_stream(Cursor::new(&layer), second.path(), Limits::default()).unwrap();
    assert_eq!(unpacked.diff_id, Digest::of(&layer));
    assert_eq!(unpacked.implied, Vec::<PathBuf>::new());

    let mut again = Vec::new();
    write_diff(second.path(), &mut again).unwrap();
    assert!(layer == again, "the second layer differs");
    let suid = fs::metadata(second.path().join("zweiter Name ü")).unwrap();
    assert_eq!((suid.mode() & 0o7777, suid.uid(), suid.gid(), suid.nlink()), (0o4755, 1234, 5_000_000, 2));
    let got = xattr::get(second.path().join("suid"), "security.capability").unwrap();
    assert_eq!(got.as_deref(), Some(capability.as_slice()));
    assert_eq!(
        fs::symlink_metadata(second.path().join("null")).unwrap().rdev(),
        nix::sys::stat::makedev(1, 3)
    );
}

#[test]
fn attributes_of_overlayfs_are_not_taken_from_layers() {
    let mut tar = Vec::new();
    let mut writer = TarWriter::new(&mut tar);
    let member = Member::new(Path::new("d"), EntryType::Directory).with_xattrs(&[
        ("trusted.overlay.redirect", b"/etc"),
        ("user.overlay.opaque", b"y"),
        ("user.mine", b"1"),
    ]);
    writer.append(&member, &mut io::empty()).unwrap();
    writer.finish().unwrap();
    let dir = tempfile::tempdir().unwrap();
    unpack_stream(Cursor::new(&tar), dir.path(), Limits::default()).unwrap();
    let names: Vec<_> = xattr::list(dir.path().join("d")).unwrap().collect();
    assert_eq!(names, ["user.mine"]);
}

#[test]
fn implied_directories_take_the_attributes_of_lower_layers() {
    let (lower, _) = unpack_items(&[Dir("tmp"), Dir("opt")]);
    fs::set_permissions(lower.path().join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let (upper, unpacked) = unpack_items(&[File("tmp/x", ""), Dir("opt"), File("new/y", "")]);
    let implied = unpacked.unwrap().implied;
    assert_eq!(implied, [PathBuf::from("tmp"), PathBuf::from("new")]);
    adopt_implied(upper.path(), &implied, &[lower.path().to_owned()]).unwrap();
    let mode = |path: &str| fs::metadata(upper.path().join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("tmp"), mode("new")), (0o1777, 0o755));
}

#[test]
fn reads_gzip_and_zstd() {
    let plain = stream(&[File("a", "1")]);
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::copy(&mut plain.as_slice(), &mut gzip).unwrap();
    for blob in [plain.clone(), gzip.finish().unwrap(), zstd::encode_all(plain.as_slice(), 1).unwrap()] {
        let dir = tempfile::tempdir().unwrap();
        let unpacked = unpack_stream(Cursor::new(blob), dir.path(), Limits::default()).unwrap();
        assert_eq!(unpacked.diff_id, Digest::of(&plain));
        assert_eq!(listing(dir.path()), ["- a=1"]);
    }
}
