//! A working process is stopped at odd moments and its folder copied: that is what a kill would leave. Then the
//! tail of the log is cut as by the power, and files that were deleted lately come back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::child::{self, Acknowledged};
use crate::folder::{copy, cut, frames, journals, revisions, scratch};
use crate::{Dice, setting};

#[tokio::test]
async fn any_moment_of_a_working_store_is_a_good_one_to_stop() {
    let stops = setting("PLIMSOLL_CRASH_STOPS", 24) as usize;
    let seed = setting("PLIMSOLL_CRASH_SEED", u64::from(std::process::id()));
    println!("{stops} stops from seed {seed}");
    let mut dice = Dice(seed);
    // Small values leave much of a file needed, large ones end files soon.
    for (largest, stops, writes) in [(3000, stops * 2 / 3, 240), (60_000, stops / 3, 700)] {
        let folder = scratch();
        let mut run = Run::start(folder.path().join("live"), largest);
        for number in 0..stops {
            let image = folder.path().join("image");
            run.stop(&image, writes, &mut dice);
            run.check(&image, &folder.path().join("cut"), &mut dice).await;
            let _ = fs::remove_dir_all(folder.path().join("before"));
            fs::rename(&image, folder.path().join("before")).unwrap();
            run.before = (number > 0).then(|| folder.path().join("before"));
        }
    }
}

struct Run {
    child: Child,
    live: PathBuf,
    lines: Receiver<String>,
    acknowledged: Acknowledged,
    /// The image before.
    before: Option<PathBuf>,
    largest: usize,
}

impl Run {
    fn start(live: PathBuf, largest: usize) -> Self {
        let mut child = child::command(&live, largest).spawn().unwrap();
        // What is in the pipe when the process stands still was acknowledged before.
        let (sender, lines) = mpsc::channel();
        let reader = child::lines(&mut child);
        std::thread::spawn(move || reader.map(|line| sender.send(line)).take_while(Result::is_ok).count());
        Self { child, live, lines, acknowledged: Acknowledged::new(), before: None, largest }
    }

    /// Lets it work for some acknowledged writes and a moment, then copies what there is. It stands still afterwards.
    fn stop(&mut self, image: &Path, writes: usize, dice: &mut Dice) {
        let process = Pid::from_raw(self.child.id() as i32);
        kill(process, Signal::SIGCONT).unwrap();
        for _ in 0..dice.below(writes) + 1 {
            let write = std::iter::repeat_with(|| self.lines.recv_timeout(Duration::from_secs(30)).unwrap());
            let write = write.map(|line| child::parse(&line)).find_map(|write| write);
            self.acknowledged.extend(write);
        }
        for _ in 0..dice.below(20_000) {
            std::hint::spin_loop();
        }
        kill(process, Signal::SIGSTOP).unwrap();
        waitpid(process, Some(WaitPidFlag::WUNTRACED)).unwrap();
        copy(&self.live, image);
        // Whatever is read from here on was said before: the process stands still.
        while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(20)) {
            self.acknowledged.extend(child::parse(&line));
        }
    }

    async fn check(&self, image: &Path, place: &Path, dice: &mut Dice) {
        for variant in 0..3 {
            let _ = fs::remove_dir_all(place);
            copy(image, place);
            if variant > 0 {
                cut_journal(place, self.acknowledged.last_key_value().unwrap().0.0, dice);
            }
            if variant > 1 {
                self.bring_back(place);
            }
            let store = child::open(place).unwrap();
            child::check(&store, &self.acknowledged, self.largest).await;
        }
    }

    /// Files that were deleted since the image before: nobody synced the folder.
    fn bring_back(&self, place: &Path) {
        for journal in self.before.iter().flat_map(|before| journals(before)) {
            let target = place.join("log").join(journal.file_name().unwrap());
            if !target.exists() {
                fs::copy(&journal, target).unwrap();
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What may not have reached the disk: the last frame, unless somebody was told of it or it had files removed, and
/// whatever lies behind it.
fn cut_journal(folder: &Path, acknowledged: i64, dice: &mut Dice) {
    let written = |path: &PathBuf| fs::read(path).unwrap().first().is_some_and(|byte| *byte != 0);
    let Some(path) = journals(folder).into_iter().rfind(written) else { return };
    let mut bytes = fs::read(&path).unwrap();
    let Some(last) = frames(&bytes).pop() else { return };
    let revisions = revisions(&bytes[last.clone()]);
    let told = revisions.iter().any(|revision| (1..=acknowledged).contains(revision));
    let synced = if told || revisions.is_empty() { last.end } else { last.start };
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1).max(last.end);
    bytes.truncate(used);
    cut(&mut bytes, synced, dice);
    fs::write(path, bytes).unwrap();
}
