//! The embedded store beside etcd: the same work on the same disk, one after the other, and how much faster we are.
//!
//! Ours is called in the process that measures, as the API server calls it; etcd is a process of its own, asked over
//! gRPC on connections that are warm. Peers that are not installed (`etcd`, of Debian's `etcd-server`) are left out.

mod churn;
mod keys;
mod peer;
mod puts;
mod ranges;
mod watches;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use plimsoll_store::{Change, Expect, Options, Store, Value};

use crate::report;
use peer::Etcd;

pub(crate) use keys::{COMMAND, reopen};

/// Bytes of a value.
const VALUE: usize = 1024;

type Case = (&'static str, fn(&Path, Option<&Path>) -> anyhow::Result<()>);

const CASES: &[Case] = &[
    ("puts", puts::run),
    ("ranges", ranges::run),
    ("watches", watches::run),
    ("churn", churn::run),
    ("keys", keys::run),
];

/// Runs the cases that are named, or all. The folder for both is made where `TMPDIR` says.
pub(crate) fn run(words: &[&str]) -> anyhow::Result<()> {
    let (mut etcd, mut names) = (find("etcd"), Vec::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--etcd" => etcd = words.next().map(|path| Path::new(path).to_owned()),
            name if CASES.iter().any(|(known, _)| *known == name) => names.push(name),
            other => anyhow::bail!(
                "{other} is none of {:?}",
                CASES.iter().map(|(name, _)| name).collect::<Vec<_>>()
            ),
        }
    }
    if etcd.is_none() {
        println!("etcd is not installed and left out");
    }
    for (name, case) in CASES {
        if names.is_empty() || names.contains(name) {
            let folder = tempfile::tempdir()?;
            case(folder.path(), etcd.as_deref())?;
        }
    }
    Ok(())
}

fn find(name: &str) -> Option<std::path::PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// Who does the work.
#[derive(Clone)]
enum Keeper {
    Ours(Store),
    Etcd(Arc<Etcd>),
}

impl Keeper {
    fn ours(folder: &Path, options: Options) -> anyhow::Result<Self> {
        Ok(Self::Ours(Store::open(&folder.join("ours"), options)?))
    }

    /// Both, ours first.
    async fn all(folder: &Path, etcd: Option<&Path>, options: Options) -> anyhow::Result<Vec<Self>> {
        let mut keepers = vec![Self::ours(folder, options)?];
        if let Some(program) = etcd {
            keepers.push(Self::Etcd(Arc::new(Etcd::start(program, &folder.join("etcd")).await?)));
        }
        Ok(keepers)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Ours(_) => "plimsoll",
            Self::Etcd(_) => "etcd",
        }
    }

    /// `worker` chooses the connection.
    async fn put(&self, worker: usize, key: &str, value: Vec<u8>) -> anyhow::Result<()> {
        match self {
            Self::Ours(store) => {
                store.commit(key, Expect::Any, Change::Put(Value::plain(value))).await?;
            }
            Self::Etcd(etcd) => etcd.put(worker, key, value).await?,
        }
        Ok(())
    }

    async fn delete(&self, worker: usize, key: &str) -> anyhow::Result<()> {
        match self {
            Self::Ours(store) => {
                store.commit(key, Expect::Any, Change::Delete(Value::plain(Vec::new()))).await?;
            }
            Self::Etcd(etcd) => etcd.delete(worker, key).await?,
        }
        Ok(())
    }
}

/// What values are cut from, so that making one costs little beside writing it.
static RANDOM: LazyLock<Vec<u8>> = LazyLock::new(|| {
    const BYTES: usize = 4 << 20;
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(step).take(BYTES / 8).flatten().collect()
});

/// A value that does not compress, and hardly occurs twice.
fn value(seed: u64, size: usize) -> Vec<u8> {
    let start = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let start = usize::try_from(start).unwrap_or_default() % (RANDOM.len() - size);
    RANDOM[start..start + size].to_vec()
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

/// Prints the figures, each beside how it compares with etcd's; `factor` is the aim.
fn compare(what: &str, rates: &[(&'static str, f64)], factor: f64) {
    let etcd = rates.iter().find(|(name, _)| *name == "etcd").map(|(_, rate)| *rate);
    for (name, rate) in rates {
        let aim = match etcd {
            Some(etcd) if *name != "etcd" => format!("{factor} times etcd; is {:.2} times", rate / etcd),
            _ => "-".to_owned(),
        };
        report(&format!("{name}: {what}"), &format!("{rate:.0}"), &aim);
    }
}
