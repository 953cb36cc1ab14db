//! `plimsoll doctor`: looks at any cluster by a kubeconfig and tells what will hurt later.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use plimsoll_reconcile::leftover::{Pile, Piles, SORTS, Sort};
use serde_json::{Value, json};

use crate::cli::DataDir;
use crate::form::Form;
use crate::up;

/// Objects that are asked for at once.
const PAGE: usize = 500;

/// `plimsoll doctor`
#[derive(Args, Clone, Debug)]
pub(crate) struct Doctor {
    #[command(subcommand)]
    question: Question,
}

#[derive(Clone, Debug, Subcommand)]
enum Question {
    /// Tell what piles up: old revisions, finished Jobs and Pods, Events, released volumes
    History(History),
}

/// `plimsoll doctor history`
#[derive(Args, Clone, Debug)]
struct History {
    #[command(flatten)]
    instance: DataDir,
    /// How the cluster is reached [default: the administrator's of the instance]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Of this namespace alone
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
    /// The form
    #[arg(long, short, value_enum, default_value_t)]
    output: Form,
}

pub(crate) fn run(options: &Doctor) -> anyhow::Result<()> {
    let Question::History(options) = &options.question;
    let kubeconfig =
        options.kubeconfig.clone().unwrap_or_else(|| options.instance.data_dir.join("admin.kubeconfig"));
    let runtime = up::runtime()?;
    let rows = runtime.block_on(async {
        let client = plimsoll_client::connect_kubeconfig(&kubeconfig).await?;
        rows(&client, options.namespace.as_deref()).await
    })?;
    let text = match options.output {
        Form::Table => table(&rows, Timestamp::now()),
        Form::Json => format!("{:#}\n", json(&rows)),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("write"),
    }
}

/// A pile: its namespace, sort and size.
type Row = (String, Sort, Pile);

/// All piles, the largest first.
async fn rows(client: &kube::Client, namespace: Option<&str>) -> anyhow::Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for sort in SORTS {
        let piles = piles(client, *sort).await.with_context(|| format!("list {}", sort.path))?;
        let found = piles.found().iter().map(|(name, pile)| (name.clone(), *sort, *pile));
        rows.extend(found.filter(|(name, ..)| namespace.is_none_or(|wanted| wanted == name)));
    }
    rows.sort_by(|one, two| two.2.count.cmp(&one.2.count).then_with(|| one.0.cmp(&two.0)));
    Ok(rows)
}

async fn piles(client: &kube::Client, sort: Sort) -> anyhow::Result<Piles> {
    let mut piles = Piles::new(sort);
    let mut token = String::new();
    loop {
        let path = format!("{}?limit={PAGE}&continue={token}", sort.path);
        let page: Value = client.request(http::Request::get(path).body(Vec::new())?).await?;
        page["items"].as_array().into_iter().flatten().for_each(|object| piles.take(object));
        match page["metadata"]["continue"].as_str() {
            Some(next) if !next.is_empty() => token = next.to_owned(),
            _ => return Ok(piles),
        }
    }
}

fn table(rows: &[Row], now: Timestamp) -> String {
    if rows.is_empty() {
        return "nothing piles up\n".to_owned();
    }
    let mut lines = vec![["NAMESPACE", "WHAT", "COUNT", "OLDEST", "BOUNDED BY"].map(str::to_owned)];
    lines.extend(rows.iter().map(|(namespace, sort, pile)| {
        let age = pile.oldest.map_or("-".to_owned(), |oldest| age(now.duration_since(oldest)));
        let place = if namespace.is_empty() { "-" } else { namespace };
        [place.to_owned(), sort.name.to_owned(), pile.count.to_string(), age, sort.bound.to_owned()]
    }));
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..5).map(width).collect();
    let line = |line: &[String; 5]| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("   ").trim_end())
    };
    lines.iter().map(line).collect()
}

/// The two largest units are not worth more than one.
fn age(time: SignedDuration) -> String {
    match time.as_secs() {
        seconds if seconds < 120 => format!("{seconds}s"),
        seconds if seconds < 7200 => format!("{}m", seconds / 60),
        seconds if seconds < 172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

fn json(rows: &[Row]) -> Value {
    let row = |(namespace, sort, pile): &Row| {
        let mut row: BTreeMap<&str, Value> = BTreeMap::from([
            ("namespace", json!(namespace)),
            ("what", json!(sort.name)),
            ("count", json!(pile.count)),
            ("boundedBy", json!(sort.bound)),
        ]);
        row.extend(pile.oldest.map(|oldest| ("oldest", json!(oldest.to_string()))));
        json!(row)
    };
    Value::Array(rows.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn piles_stand_in_a_table() {
        let oldest = "2026-01-01T00:00:00Z".parse().ok();
        let now = "2026-01-03T01:00:00Z".parse().unwrap_or(Timestamp::UNIX_EPOCH);
        let rows = [
            ("default".to_owned(), SORTS[2], Pile { count: 12, oldest }),
            (String::new(), SORTS[7], Pile { count: 1, oldest: None }),
        ];
        let expected = "\
NAMESPACE   WHAT                         COUNT   OLDEST   BOUNDED BY
default     finished Jobs                12      2d       spec.ttlSecondsAfterFinished, or the limits of the CronJob
-           released PersistentVolumes   1       -        nothing: the reclaim policy keeps them
";
        assert_eq!(table(&rows, now), expected);
        assert_eq!(table(&[], now), "nothing piles up\n");
        assert_eq!(json(&rows)[0]["oldest"], "2026-01-01T00:00:00Z");
    }
}
