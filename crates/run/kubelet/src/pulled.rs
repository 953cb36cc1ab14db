//! Which images the agent pulled, and with whose credentials: files below `image_manager` of its folder, as upstream's
//! agent keeps them, and the same in memory. Reading asks no disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use plimsoll_cri::v1;
use plimsoll_podlife::image::record::{Access, Intent, Pulled, file_name};
use plimsoll_podlife::image::registry::Entry;
use plimsoll_podlife::image::verification::Verification;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Config;

/// What was pulled.
pub(crate) struct Records {
    pulling: PathBuf,
    pulled: PathBuf,
    policy: Verification,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How often an image is being pulled; not at all for pulls that the last agent began.
    pulling: HashMap<String, usize>,
    pulled: BTreeMap<String, Pulled>,
    /// Files that nobody can read: their images were pulled by nobody knows whom.
    damaged: BTreeSet<String>,
}

impl Records {
    /// Takes up what was there before.
    ///
    /// # Errors
    /// The folders cannot be made.
    pub(crate) fn open(config: &Config) -> std::io::Result<Self> {
        let folder = config.data_dir.join("image_manager");
        let (pulling, pulled) = (folder.join("pulling"), folder.join("pulled"));
        let mut state = State::default();
        for folder in [&pulling, &pulled] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut nothing = BTreeSet::new();
        let intents: Vec<Intent> = read(&pulling, &mut nothing)?;
        state.pulling = intents.into_iter().map(|intent| (intent.image, 0)).collect();
        let records: Vec<Pulled> = read(&pulled, &mut state.damaged)?;
        state.pulled = records.into_iter().map(|record| (record.image_ref.clone(), record)).collect();
        Ok(Self { pulling, pulled, policy: config.image_verification.clone(), state: Mutex::new(state) })
    }

    /// Whether the last agent left pulls that nobody saw the end of.
    pub(crate) fn is_unsure(&self) -> bool {
        !self.state().pulling.is_empty()
    }

    /// Pulls of the last agent that came to their end: nobody knows whose credentials they had.
    pub(crate) fn settle(&self, images: &[v1::Image]) {
        let now = Timestamp::now();
        let begun: Vec<String> = self.state().pulling.keys().cloned().collect();
        for image in images {
            let is_named = |name: &&String| {
                image.repo_tags.iter().chain(&image.repo_digests).any(|known| known == *name)
            };
            for name in begun.iter().filter(is_named) {
                if !self.state().pulled.contains_key(&image.id) {
                    self.keep(Pulled::new(&image.id, now));
                }
                self.forget_intent(name);
            }
        }
    }

    /// What a pod needs to use an image that is there.
    pub(crate) fn access(&self, image: &str, id: &str) -> Access {
        let state = self.state();
        let record = state.pulled.get(id);
        let known = record.is_some() || state.pulling.contains_key(image) || state.is_damaged(id);
        match record {
            _ if !self.policy.asks(image, known) => Access::Open,
            Some(record) => record.access(image),
            None => Access::Closed,
        }
    }

    /// Whether a pod's credentials opened an image before.
    pub(crate) fn admits(&self, image: &str, id: &str, credentials: &[Entry]) -> bool {
        let Some(mut record) = self.state().pulled.get(id).cloned() else { return false };
        let (admits, learned) = record.admits(image, credentials, Timestamp::now());
        if learned {
            self.keep(record);
        }
        admits
    }

    /// A pull begins.
    ///
    /// # Errors
    /// It cannot be noted.
    pub(crate) fn begin(&self, image: &str) -> std::io::Result<()> {
        let mut state = self.state();
        write(&self.pulling, &file_name(image), &Intent::new(image))?;
        *state.pulling.entry(image.to_owned()).or_default() += 1;
        Ok(())
    }

    /// A pull ended: with which image, and whose credentials if it took any.
    pub(crate) fn end(&self, image: &str, result: Option<(&str, Option<&Entry>)>) {
        if let Some((id, credentials)) = result {
            let now = Timestamp::now();
            let known = self.state().pulled.get(id).cloned();
            let is_new = known.is_none();
            let mut record = known.unwrap_or_else(|| Pulled::new(id, now));
            let learned = match credentials {
                Some(entry) => record.learn(image, entry, now),
                None => record.open(image, now),
            };
            if (is_new || learned) && !self.keep(record) {
                // What is being pulled counts as pulled: the next agent tries again.
                return;
            }
        }
        let is_last = match self.state().pulling.get_mut(image) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            _ => true,
        };
        if is_last {
            self.forget_intent(image);
        }
    }

    /// Forgets images that are not there any more; those that came since are kept.
    pub(crate) fn prune(&self, present: &BTreeSet<String>, since: Timestamp) {
        let mut state = self.state();
        let old = |record: &Pulled| record.last_updated_time.as_second() < since.as_second();
        let gone: Vec<String> = state
            .pulled
            .values()
            .filter(|record| old(record) && !present.contains(&record.image_ref))
            .map(|record| record.image_ref.clone())
            .collect();
        for id in gone {
            match remove(&self.pulled.join(file_name(&id))) {
                Ok(()) => drop(state.pulled.remove(&id)),
                Err(error) => tracing::warn!(image = id, %error, "record of an image that is gone stays"),
            }
        }
    }

    fn keep(&self, record: Pulled) -> bool {
        let name = file_name(&record.image_ref);
        let kept = write(&self.pulled, &name, &record);
        if let Err(error) = &kept {
            tracing::warn!(image = record.image_ref, %error, "pulled image is not noted");
        }
        let mut state = self.state();
        state.damaged.remove(&name);
        state.pulled.insert(record.image_ref.clone(), record);
        kept.is_ok()
    }

    fn forget_intent(&self, image: &str) {
        let mut state = self.state();
        match remove(&self.pulling.join(file_name(image))) {
            Ok(()) => drop(state.pulling.remove(image)),
            Err(error) => tracing::warn!(image, %error, "note of a pull that is over stays"),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_damaged(&self, id: &str) -> bool {
        !self.damaged.is_empty() && self.damaged.contains(&file_name(id))
    }
}

fn read<T: DeserializeOwned>(folder: &Path, damaged: &mut BTreeSet<String>) -> std::io::Result<Vec<T>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("sha256-") || name.ends_with(".tmp") {
            continue;
        }
        let parsed = fs::read(entry.path()).map_err(|error| error.to_string());
        match parsed.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string())) {
            Ok(record) => found.push(record),
            Err(error) => {
                tracing::warn!(file = %entry.path().display(), error, "record of an image cannot be read");
                damaged.insert(name);
            }
        }
    }
    Ok(found)
}

fn write(folder: &Path, name: &str, record: &impl Serialize) -> std::io::Result<()> {
    let fresh = folder.join(format!("{name}.tmp"));
    let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    fs::rename(&fresh, folder.join(name))
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn pulls_that_nobody_saw_the_end_of_are_asked_about() {
        let temp = tempfile::tempdir().unwrap();
        let config = Config::new("n", temp.path().to_owned(), "/x".into(), [192, 0, 2, 1].into());
        let first = Records::open(&config).unwrap();
        assert_eq!(first.access("r.example/a:1", "sha256:1"), Access::Open, "it came from elsewhere");
        first.begin("r.example/a:1").unwrap();
        first.begin("r.example/b:1").unwrap();
        assert_eq!(first.access("r.example/a:1", "sha256:1"), Access::Closed);
        // The agent is killed. The next one finds one of the images.
        let second = Records::open(&config).unwrap();
        assert!(second.is_unsure());
        let image = |id: &str, tag: &str| v1::Image {
            id: id.to_owned(),
            repo_tags: vec![tag.to_owned()],
            ..v1::Image::default()
        };
        second.settle(&[image("sha256:1", "r.example/a:1"), image("sha256:2", "r.example/c:1")]);
        assert_eq!(second.access("r.example/a:1", "sha256:1"), Access::Closed);
        assert_eq!(second.access("r.example/c:1", "sha256:2"), Access::Open);
        second.end("r.example/a:1", Some(("sha256:1", None)));
        assert_eq!(second.access("r.example/a:2", "sha256:1"), Access::Open, "everybody can have it");
        let later = Timestamp::now() + jiff::SignedDuration::from_secs(5);
        second.prune(&BTreeSet::from(["sha256:2".to_owned()]), later);
        assert_eq!(fs::read_dir(temp.path().join("image_manager/pulled")).unwrap().count(), 0);
        // Who cannot read his own records trusts nobody.
        fs::write(temp.path().join("image_manager/pulled").join(file_name("sha256:3")), "{").unwrap();
        let third = Records::open(&config).unwrap();
        assert_eq!(third.access("r.example/c:1", "sha256:3"), Access::Closed);
    }
}
