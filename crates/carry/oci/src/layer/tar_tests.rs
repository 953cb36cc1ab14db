//! Tables for the tar reader.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn header(kind: EntryType, path: &str, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header
}

fn member(kind: EntryType, path: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(kind, path, content.len() as u64).as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn pax(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (1..).find(|length: &usize| length.to_string().len() + rest == *length).unwrap();
    let mut record = format!("{length} {key}=").into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

fn first(stream: &[u8]) -> Result<Entry> {
    TarReader::new(stream).next_entry().map(|entry| entry.expect("an entry"))
}

#[test]
fn cleans_paths_and_refuses_those_that_leave_the_root() {
    for (given, want) in [
        ("a/b", Some("a/b")),
        ("./a/./b/", Some("a/b")),
        ("/etc/passwd", Some("etc/passwd")),
        ("//x", Some("x")),
        ("a/../b", Some("b")),
        ("./", Some("")),
        ("..", None),
        ("../x", None),
        ("a/../../x", None),
        ("/../x", None),
    ] {
        let got = clean(given.as_bytes()).ok();
        assert_eq!(got.as_deref(), want.map(Path::new), "{given}");
    }
    assert!(clean(b"a\0b").is_err());
}

#[test]
fn reads_members_and_their_bytes() {
    let mut stream = member(EntryType::Regular, "a", b"hello");
    stream.extend(member(EntryType::Directory, "d/", b""));
    stream.extend(member(EntryType::Regular, "old/", b""));
    stream.extend(member(EntryType::Regular, "b", b"world"));
    stream.extend([0; 1024]);
    let mut reader = TarReader::new(stream.as_slice());
    let mut seen = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut content = String::new();
        // The second file is skipped unread.
        if entry.path != Path::new("b") {
            reader.read_to_string(&mut content).unwrap();
        }
        seen.push((entry.path.display().to_string(), entry.kind, content));
    }
    let row = |path: &str, kind, content: &str| (path.to_owned(), kind, content.to_owned());
    assert_eq!(
        seen,
        [
            row("a", Kind::File, "hello"),
            row("d", Kind::Directory, ""),
            row("old", Kind::Directory, ""),
            row("b", Kind::File, "")
        ]
    );
}

#[test]
fn reads_extensions() {
    let long = format!("long/{}", "n".repeat(200));
    let mut records = pax("path", long.as_bytes());
    records.extend(pax("mtime", b"12.5"));
    records.extend(pax("uid", b"3000000"));
    records.extend(pax("SCHILY.xattr.user.k", b"v=\n\0w"));
    records.extend(pax("comment", b"ignored"));
    let mut stream = member(EntryType::XHeader, "pax", &records);
    stream.extend(member(EntryType::Regular, "short", b"x"));
    let entry = first(&stream).unwrap();
    assert_eq!(entry.path, Path::new(&long));
    assert_eq!(entry.attributes.uid, 3_000_000);
    assert_eq!(entry.attributes.mtime, (12, 500_000_000));
    assert_eq!(entry.attributes.xattrs, [("user.k".into(), b"v=\n\0w".to_vec())]);

    let mut stream = member(EntryType::GNULongName, "././@LongLink", format!("{long}\0").as_bytes());
    stream.extend(member(EntryType::Regular, "short", b""));
    assert_eq!(first(&stream).unwrap().path, Path::new(&long));
}

#[test]
fn numbers_are_octal_or_binary() {
    let rows: [(&[u8; 12], Option<i64>); 8] = [
        (b"00000000644\0", Some(0o644)),
        (b"        644 ", Some(0o644)),
        (b"644\0junk\0\0\0\0", Some(0o644)),
        (&[0; 12], Some(0)),
        (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", Some(1 << 33)),
        (&[0xff; 12], Some(-1)),
        (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        (b"9          \0", None),
    ];
    for (field, want) in rows {
        let mut header = Header::new_ustar();
        header.as_mut_bytes()[MTIME].copy_from_slice(field);
        assert_eq!(number(&header, MTIME).ok(), want, "{field:?}");
    }
}

#[test]
fn times_may_be_before_1970() {
    for (text, want) in [
        ("0", Some((0, 0))),
        ("1.000000001", Some((1, 1))),
        ("-1.5", Some((-2, 500_000_000))),
        ("1.x", None),
        ("", None),
    ] {
        assert_eq!(parse_time(text.as_bytes()), want, "{text}");
    }
}

#[test]
fn refuses_broken_and_hostile_streams() {
    let mut bad_sum = member(EntryType::Regular, "a", b"");
    bad_sum[0] = b'z';
    let mut huge = header(EntryType::XHeader, "pax", 1 << 33).as_bytes().to_vec();
    huge.extend([b'x'; 512]);
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("checksum", bad_sum),
        ("half a header", vec![1; 300]),
        ("not a tar", vec![b'x'; 2048]),
        ("huge extension", huge),
        ("pax length 0", member(EntryType::XHeader, "p", b"0 a=b\n")),
        ("pax too long", member(EntryType::XHeader, "p", b"99 a=b\n")),
        ("pax no newline", member(EntryType::XHeader, "p", b"6 a=bc")),
        ("pax overflow", member(EntryType::XHeader, "p", b"99999999999999999999999 a=b\n")),
        ("sparse", member(EntryType::GNUSparse, "s", b"")),
        ("pax sparse", member(EntryType::XHeader, "p", &pax("GNU.sparse.major", b"1"))),
        ("out of the root", member(EntryType::Regular, "../x", b"")),
        ("unknown type", member(EntryType::new(b'V'), "x", b"")),
    ];
    for (name, stream) in rows {
        assert!(TarReader::new(stream.as_slice()).next_entry().is_err(), "{name}");
    }
    let mut truncated = member(EntryType::Regular, "a", &[1; 700]);
    truncated.truncate(800);
    let mut reader = TarReader::new(truncated.as_slice());
    reader.next_entry().unwrap();
    assert!(reader.next_entry().is_err());
}
