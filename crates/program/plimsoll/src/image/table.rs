//! Images as docker lists them.

use std::fmt::Write as _;
use std::sync::Arc;

use plimsoll_oci::{Image, ImageName};

const HEAD: [&str; 5] = ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"];

/// One name of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    repository: String,
    tag: String,
    pub(super) id: String,
    created: Option<i64>,
    size: u64,
}

/// A row for each name, newest image first; only those of a repository or name if one is given.
pub(super) fn rows(images: &[Arc<Image>], only: Option<&str>, whole_ids: bool) -> Vec<Row> {
    let mut rows: Vec<Row> = images.iter().flat_map(|image| rows_of(image, whole_ids)).collect();
    if let Some(only) = only {
        let (repository, tag) = match ImageName::parse(only) {
            Ok(name) => {
                let tag = only.rsplit('/').next().is_some_and(|last| last.contains(':'));
                (name.familiar_base(), name.tag().filter(|_| tag).map(str::to_owned))
            }
            Err(_) => (only.to_owned(), None),
        };
        rows.retain(|row| row.repository == repository && tag.as_ref().is_none_or(|tag| row.tag == *tag));
    }
    rows.sort_by(|a, b| {
        b.created.cmp(&a.created).then_with(|| (&a.repository, &a.tag).cmp(&(&b.repository, &b.tag)))
    });
    rows
}

fn rows_of(image: &Image, whole_ids: bool) -> Vec<Row> {
    let row = |repository: String, tag: &str| Row {
        repository,
        tag: tag.to_owned(),
        id: if whole_ids { image.id.to_string() } else { image.short_id() },
        // The images of this program are as old as computing.
        created: image.created().filter(|time| *time > 0),
        size: image.size,
    };
    let none = "<none>";
    let named = |name: &String| {
        let name = ImageName::parse(name).ok()?;
        Some(row(name.familiar_base(), name.tag().unwrap_or(none)))
    };
    let mut rows: Vec<Row> = image.repo_tags.iter().filter_map(named).collect();
    if rows.is_empty() {
        // Pulled by digest, an image still has a repository.
        let digest = image.repo_digests.first().and_then(|name| ImageName::parse(name).ok());
        rows.push(row(digest.map_or(none.into(), |name| name.familiar_base()), none));
    }
    rows
}

/// The table, columns three spaces apart.
pub(super) fn render(rows: &[Row], now: i64) -> String {
    let mut cells = vec![HEAD.map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        let created = row.created.map_or("N/A".into(), |time| ago(now - time));
        [row.repository.clone(), row.tag.clone(), row.id.clone(), created, size(row.size)]
    }));
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut out = String::new();
    for row in &cells {
        let line: String = row.iter().zip(&widths).fold(String::new(), |mut line, (cell, width)| {
            // Writing to a string cannot fail.
            let _ = write!(line, "{cell:width$}   ");
            line
        });
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Docker's words for a span of seconds.
fn ago(seconds: i64) -> String {
    let count = |number: i64, unit: &str| match number {
        1 if unit == "minute" || unit == "hour" => {
            format!("About {} {unit} ago", if unit == "hour" { "an" } else { "a" })
        }
        1 => format!("1 {unit} ago"),
        number => format!("{number} {unit}s ago"),
    };
    match seconds {
        ..1 => "Less than a second ago".into(),
        1..60 => count(seconds, "second"),
        60..3600 => count(seconds / 60, "minute"),
        3600..172_800 => count(seconds / 3600, "hour"),
        172_800..1_209_600 => count(seconds / 86_400, "day"),
        1_209_600..5_184_000 => count(seconds / 604_800, "week"),
        5_184_000..63_072_000 => count(seconds / 2_592_000, "month"),
        _ => count(seconds / 31_536_000, "year"),
    }
}

/// Three digits and a decimal unit: `5.43MB`.
pub(super) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while value >= 1000.0
        && let Some(next) = units.next()
    {
        (value, unit) = (value / 1000.0, next);
    }
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// A name as docker shows it.
pub(super) fn familiar(name: &ImageName) -> String {
    match (name.tag(), name.digest()) {
        (_, Some(digest)) => format!("{}@{digest}", name.familiar_base()),
        (tag, None) => format!("{}:{}", name.familiar_base(), tag.unwrap_or("latest")),
    }
}

/// Like [`familiar`]; what is no name stays as it is.
pub(super) fn familiar_text(text: &str) -> String {
    ImageName::parse(text).map_or_else(|_| text.to_owned(), |name| familiar(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, want) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (5_430_000, "5.43MB"),
            (43_200_000, "43.2MB"),
            (133_400_000, "133MB"),
            (2_000_000_000, "2GB"),
        ] {
            assert_eq!(size(bytes), want);
        }
    }

    #[test]
    fn ages_are_docker_s() {
        for (seconds, want) in [
            (0, "Less than a second ago"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (60, "About a minute ago"),
            (150, "2 minutes ago"),
            (3600, "About an hour ago"),
            (100_000, "27 hours ago"),
            (200_000, "2 days ago"),
            (1_300_000, "2 weeks ago"),
            (6_000_000, "2 months ago"),
            (70_000_000, "2 years ago"),
        ] {
            assert_eq!(ago(seconds), want);
        }
    }

    #[test]
    fn tables_line_up() {
        let row = |repository: &str, tag: &str, created| Row {
            repository: repository.into(),
            tag: tag.into(),
            id: "0123456789ab".into(),
            created,
            size: 1000,
        };
        let rows = [row("busybox", "latest", Some(40)), row("a.b/c", "<none>", None)];
        let want = "REPOSITORY   TAG      IMAGE ID       CREATED          SIZE\n\
                    busybox      latest   0123456789ab   About a minute ago   1kB\n";
        let got = render(&rows[..1], 100);
        assert_eq!(got.lines().count(), 2);
        assert_eq!(got.lines().nth(1), want.lines().nth(1));
        assert!(
            render(&rows, 100).ends_with("a.b/c        <none>   0123456789ab   N/A                  1kB\n")
        );
    }
}
