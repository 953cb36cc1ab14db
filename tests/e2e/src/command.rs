//! Programs that tests run, and what came of them.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What a finished program said.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The command line, for messages.
    pub command: String,
    /// Everything on standard output.
    pub stdout: String,
    /// Everything on standard error.
    pub stderr: String,
    /// The exit code; 124 when it did not end in time.
    pub code: i32,
}

impl Outcome {
    /// Standard output of a program that must succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "`{}` failed\n{}{}", self.command, self.stdout, self.stderr);
        self.stdout
    }

    /// Standard error of a program that must fail.
    #[track_caller]
    pub fn refused(self) -> String {
        assert_ne!(self.code, 0, "`{}` succeeded, but must not\n{}", self.command, self.stdout);
        self.stderr
    }
}

/// Where `PATH` has this program.
pub fn found(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    std::env::split_paths(&paths).map(|folder| folder.join(program)).find(|path| path.exists())
}

/// Runs a program to its end, at most `limit`, with `input` on its standard input.
pub fn run(command: &mut Command, input: &[u8], limit: Duration) -> Outcome {
    let line = line(command);
    // `timeout` of the coreutils ends a program that hangs.
    let mut bounded = Command::new("timeout");
    bounded.arg(format!("{}", limit.as_secs_f32())).arg(command.get_program()).args(command.get_args());
    bounded.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = command.get_current_dir() {
        bounded.current_dir(folder);
    }
    let mut child = bounded
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("`{line}` did not start: {error}"));
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    let output = thread::scope(|scope| {
        // A program may end without reading everything.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("a child can be waited for")
    });
    Outcome {
        command: line,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code().unwrap_or(-1),
    }
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// A program that goes on while the test does, read line by line, ended when dropped.
#[derive(Debug)]
pub struct Background {
    command: String,
    child: Child,
    // Alone so that a running program may be part of what tests share.
    lines: Mutex<Receiver<String>>,
    seen: Vec<String>,
}

impl Background {
    /// Starts a program; its standard output and error are read together.
    pub fn start(command: &mut Command) -> Self {
        let line = line(command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("`{line}` did not start: {error}"));
        let (sender, lines) = channel();
        let stdout = child.stdout.take().expect("standard output is a pipe");
        let stderr = child.stderr.take().expect("standard error is a pipe");
        let errors = sender.clone();
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| errors.send(line))
        });
        Self { command: line, child, lines: Mutex::new(lines), seen: Vec::new() }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that `wanted` accepts.
    #[track_caller]
    pub fn line(&mut self, limit: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + limit;
        loop {
            match self.next(deadline) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if wanted(&line) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("`{}` did not say it in {limit:?}; it said {:#?}", self.command, self.seen)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("`{}` ended; it said {:#?}", self.command, self.seen)
                }
            }
        }
    }

    fn next(&mut self, deadline: Instant) -> Result<String, RecvTimeoutError> {
        let lines = self.lines.get_mut().unwrap_or_else(PoisonError::into_inner);
        lines.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    }

    /// Waits until the program closed its output and returns all lines.
    #[track_caller]
    pub fn rest(&mut self, limit: Duration) -> Vec<String> {
        let deadline = Instant::now() + limit;
        loop {
            match self.next(deadline) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.seen.clone(),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("`{}` did not end in {limit:?}; it said {:#?}", self.command, self.seen)
                }
            }
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
