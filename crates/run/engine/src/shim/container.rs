//! One container as its shim sees it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, fchown, pipe2};
use plimsoll_kernel::cgroup::Hierarchy;

use super::launch::{Console, Streams};
use super::log::{Log, Stream};
use super::pump::{Flow, Pump};
use crate::clock;
use crate::layout::ContainerDir;
use crate::protocol::{Exit, Launch, Process};

/// The shim's ends of a container's streams, made before the container is.
#[derive(Debug)]
pub(crate) struct Wiring {
    pub(crate) launch: Launch,
    log: Option<Log>,
    stdin: Option<OwnedFd>,
    pumps: Vec<Pump>,
    /// Streams that ended before the first client was there.
    over: Vec<Pump>,
}

impl Wiring {
    /// Makes the streams that `launch` asks for and the container's ends of them.
    pub(crate) fn new(dir: &ContainerDir, launch: Launch) -> io::Result<(Self, Streams, Option<Console>)> {
        let log = launch.log.clone().map(Log::open).transpose()?;
        if launch.tty {
            let console = Console::new(dir, "init")?;
            return Ok((
                Self { launch, log, stdin: None, pumps: Vec::new(), over: Vec::new() },
                Streams::default(),
                Some(console),
            ));
        }
        let (out_reader, out_writer) = pipe2(OFlag::O_CLOEXEC)?;
        let (err_reader, err_writer) = pipe2(OFlag::O_CLOEXEC)?;
        let stdin = if launch.stdin { Some(pipe2(OFlag::O_CLOEXEC)?) } else { None };
        let (in_reader, in_writer) = stdin.unzip();
        let in_reader = match in_reader {
            Some(reader) => reader,
            None => File::open("/dev/null")?.into(),
        };
        let pump = |reader, stream| Pump::new(reader, stream, launch.stdin_once);
        let pumps = vec![pump(out_reader, Stream::Stdout)?, pump(err_reader, Stream::Stderr)?];
        if let Some((user, group)) = launch.owner {
            // Programs open their streams anew by `/dev/stdout`.
            for stream in [&out_writer, &err_writer] {
                fchown(stream, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
            }
        }
        let streams = Streams { stdin: Some(in_reader), stdout: Some(out_writer), stderr: Some(err_writer) };
        Ok((Self { launch, log, stdin: in_writer, pumps, over: Vec::new() }, streams, None))
    }

    /// Connects the terminal that the new process handed over.
    pub(crate) fn connect(&mut self, console: Option<Console>) -> io::Result<()> {
        if let Some(console) = console {
            let master = console.take()?;
            self.stdin = Some(master.try_clone()?);
            self.pumps.push(Pump::new(master, Stream::Stdout, self.launch.stdin_once)?);
        }
        Ok(())
    }
}

/// A container that was started.
#[derive(Debug)]
pub(crate) struct Contained {
    pub(crate) process: Process,
    wiring: Wiring,
}

impl Contained {
    pub(crate) fn new(process: Process, wiring: Wiring) -> Self {
        Self { process, wiring }
    }

    pub(crate) fn confinement(&self) -> crate::protocol::Confinement {
        self.wiring.launch.confinement.clone()
    }

    pub(crate) fn oom_score(&self) -> i32 {
        self.wiring.launch.oom_score
    }

    /// The streams to watch for output.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.wiring.pumps.iter().map(AsFd::as_fd)
    }

    /// The slow clients to watch for room.
    pub(crate) fn blocked(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.wiring.pumps.iter().flat_map(Pump::blocked)
    }

    /// Moves output of every stream, and forgets streams that ended.
    pub(crate) fn carry(&mut self, buffer: &mut [u8]) {
        let Wiring { pumps, over, log, .. } = &mut self.wiring;
        let ended = pumps.extract_if(.., |pump| {
            pump.relieve();
            let flow = pump.carry(buffer, log.as_mut());
            if flow == Flow::Ended {
                pump.finish(&mut [], log.as_mut());
            }
            flow == Flow::Ended
        });
        over.extend(ended.filter(Pump::waits));
    }

    /// Copies output to `descriptors` and gives back the way in.
    pub(crate) fn attach(&mut self, descriptors: Vec<OwnedFd>) -> io::Result<Option<OwnedFd>> {
        if self.process.exit.is_some() {
            return Err(io::Error::other("the container is not running"));
        }
        // Those that are over are told once.
        let mut over = std::mem::take(&mut self.wiring.over);
        let mut pumps: Vec<_> = self.wiring.pumps.iter_mut().chain(&mut over).collect();
        let mut descriptors = descriptors.into_iter();
        let (output, error) = (descriptors.next(), descriptors.next());
        for (stream, to) in [(Stream::Stdout, output), (Stream::Stderr, error)] {
            let pump = pumps.iter_mut().find(|pump| pump.stream() == stream);
            if let (Some(pump), Some(to)) = (pump, to) {
                pump.attach(to)?;
            }
        }
        if self.wiring.launch.stdin_once && !self.wiring.launch.tty {
            // The first client's end is the only one, so that its closing is the end of input.
            return Ok(self.wiring.stdin.take());
        }
        self.wiring.stdin.as_ref().map(OwnedFd::try_clone).transpose()
    }

    pub(crate) fn reopen_log(&mut self) -> io::Result<()> {
        self.wiring.log.as_mut().map_or(Ok(()), Log::reopen)
    }

    /// Notes the end of the first process: what it left behind is killed, its last words are kept.
    pub(crate) fn end(&mut self, code: i32, cgroups: &Hierarchy, buffer: &mut [u8]) -> Exit {
        let group = cgroups.group(&self.wiring.launch.cgroup);
        let oom = code != 0 && group.oom_kills() > 0;
        // Processes may remain where the process namespace is shared.
        let _ = group.kill_all();
        let Wiring { pumps, log, .. } = &mut self.wiring;
        for pump in pumps.iter_mut() {
            pump.finish(buffer, log.as_mut());
        }
        pumps.clear();
        self.wiring.over.clear();
        self.wiring.stdin = None;
        let exit = Exit { code, oom, at: clock::now() };
        self.process.exit = Some(exit.clone());
        exit
    }

    pub(crate) fn kill(&self, cgroups: &Hierarchy) {
        let _ = cgroups.group(&self.wiring.launch.cgroup).kill_all();
    }
}
