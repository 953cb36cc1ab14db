//! The loop of a shim: requests, reports, ends and output, as they come.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use plimsoll_kernel::cgroup::Hierarchy;
use plimsoll_kernel::packet;
use plimsoll_kernel::process::Identity;

use super::container::{Contained, Wiring};
use super::launch::{self, Console, Order, Report, Streams};
use crate::clock;
use crate::files;
use crate::layout::SandboxDir;
use crate::protocol::{Answer, Call, Launch, Message, Process, Request, State};

/// The kernel's pipes hold this much, so more would never be filled.
const BUFFER: usize = 64 * 1024;

/// The state of a shim.
pub(crate) struct Server {
    dir: SandboxDir,
    cgroups: Hierarchy,
    listener: OwnedFd,
    signals: SignalFd,
    state: State,
    /// Why there is no pause process; every request is answered with it.
    failure: Option<String>,
    connections: Vec<Connection>,
    next_connection: u64,
    containers: BTreeMap<String, Contained>,
    /// Processes being made.
    jobs: Vec<Job>,
    /// Further processes by their numbers.
    execs: HashMap<i32, String>,
    /// Processes that ended before their makers reported them.
    early: HashMap<i32, i32>,
    ending: bool,
    childless: bool,
}

struct Connection {
    id: u64,
    socket: OwnedFd,
    /// Whether it asked for events.
    listens: bool,
    waiting: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
}

/// A process being made by a child.
struct Job {
    connection: u64,
    request: u64,
    report: OwnedFd,
    kind: Kind,
    console: Option<Console>,
}

enum Kind {
    Container(String, Box<Wiring>),
    Exec(String),
}

/// What a descriptor that is ready stands for.
#[derive(Clone, Debug)]
enum Source {
    Listener,
    Signals,
    Connection(u64),
    Job,
    Output(String),
}

type Outcome = Result<(Answer, Option<OwnedFd>), String>;

impl Server {
    pub(crate) fn new(
        dir: SandboxDir,
        cgroups: Hierarchy,
        listener: OwnedFd,
        state: State,
        failure: Option<String>,
    ) -> io::Result<Self> {
        let mut mask = SigSet::empty();
        // The engine ends a shim by a request. SIGTERM comes from people who mean everything at once.
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self {
            dir,
            cgroups,
            listener,
            signals,
            state,
            failure,
            connections: Vec::new(),
            next_connection: 0,
            containers: BTreeMap::new(),
            jobs: Vec::new(),
            execs: HashMap::new(),
            early: HashMap::new(),
            ending: false,
            childless: false,
        })
    }

    /// Serves until the engine asks for the end.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        let mut packet = vec![0; BUFFER];
        // The last children are waited for: whoever inherits them may take its time.
        while !(self.ending && self.childless) {
            for source in self.wait()? {
                match source {
                    Source::Listener => self.accept()?,
                    Source::Signals => self.children(&mut buffer)?,
                    Source::Connection(id) => self.converse(id, &mut packet),
                    Source::Job => self.reports(&mut buffer),
                    Source::Output(id) => {
                        if let Some(container) = self.containers.get_mut(&id) {
                            container.carry(&mut buffer);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Sleeps until something is ready.
    fn wait(&self) -> io::Result<Vec<Source>> {
        let mut sources = vec![Source::Listener, Source::Signals];
        let mut polled = vec![readable(self.listener.as_fd()), readable(self.signals.as_fd())];
        for connection in &self.connections {
            let mut events = PollFlags::POLLIN;
            events.set(PollFlags::POLLOUT, !connection.waiting.is_empty());
            polled.push(PollFd::new(connection.socket.as_fd(), events));
            sources.push(Source::Connection(connection.id));
        }
        for job in &self.jobs {
            polled.push(readable(job.report.as_fd()));
            sources.push(Source::Job);
        }
        for (id, container) in &self.containers {
            for fd in container.outputs() {
                polled.push(readable(fd));
                sources.push(Source::Output(id.clone()));
            }
            for fd in container.blocked() {
                polled.push(PollFd::new(fd, PollFlags::POLLOUT));
                sources.push(Source::Output(id.clone()));
            }
        }
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready = polled.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        Ok(sources.into_iter().zip(ready).filter(|(_, ready)| *ready).map(|(source, _)| source).collect())
    }

    fn accept(&mut self) -> io::Result<()> {
        let socket = packet::accept(self.listener.as_fd())?;
        let id = self.next_connection;
        self.next_connection += 1;
        self.connections.push(Connection { id, socket, listens: false, waiting: VecDeque::new() });
        Ok(())
    }

    fn converse(&mut self, id: u64, packet: &mut [u8]) {
        let Some(index) = self.connections.iter().position(|connection| connection.id == id) else { return };
        self.connections[index].flush();
        match packet::receive(&self.connections[index].socket, packet) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok((length, descriptors)) if length > 0 => {
                // What is no request cannot be answered: the sender is no engine of ours.
                if let Ok(request) = serde_json::from_slice::<Request>(&packet[..length]) {
                    self.answer(id, request, descriptors);
                } else {
                    self.connections.remove(index);
                }
            }
            _ => drop(self.connections.remove(index)),
        }
    }

    fn answer(&mut self, connection: u64, request: Request, descriptors: Vec<OwnedFd>) {
        let outcome = match &self.failure {
            Some(failure) if !matches!(request.call, Call::Shutdown) => Err(failure.clone()),
            _ => match self.call(connection, &request, descriptors) {
                Ok(Some(outcome)) => Ok(outcome),
                // The reply follows when the job is done.
                Ok(None) => return,
                Err(error) => Err(error.to_string()),
            },
        };
        self.reply(connection, request.id, outcome);
    }

    fn call(
        &mut self,
        connection: u64,
        request: &Request,
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<Option<(Answer, Option<OwnedFd>)>> {
        let done = Ok(Some((Answer::Done, None)));
        match &request.call {
            Call::Hello => {
                self.connection(connection).into_iter().for_each(|connection| connection.listens = true);
                Ok(Some((Answer::State(self.state.clone()), None)))
            }
            Call::Start { container } => self.start(connection, request.id, container).map(|()| None),
            Call::Exec { container, exec, tty } => {
                self.exec(connection, request.id, (container, exec, *tty), descriptors).map(|()| None)
            }
            Call::Signal { container, signal } => {
                let process = &self.contained(container)?.process;
                if process.exit.is_none() {
                    process.identity.signal(*signal)?;
                }
                done
            }
            Call::KillExec { exec } => {
                if let Some((pid, _)) = self.execs.iter().find(|(_, id)| *id == exec) {
                    // It leads a session of its own, so this reaches its children too.
                    let _ = killpg(Pid::from_raw(*pid), Signal::SIGKILL);
                }
                done
            }
            Call::Attach { container } => {
                let stdin = self.contained(container)?.attach(descriptors)?;
                Ok(Some((Answer::Done, stdin)))
            }
            Call::Reopen { container } => self.contained(container)?.reopen_log().and(done),
            Call::Forget { container } => {
                self.containers.remove(container);
                self.state.containers.remove(container);
                self.save()?;
                done
            }
            Call::Shutdown => {
                self.shut_down();
                done
            }
        }
    }

    fn start(&mut self, connection: u64, request: u64, container: &str) -> io::Result<()> {
        if self.containers.contains_key(container) {
            return Err(io::Error::other(format!("container {container} was started before")));
        }
        let dir = self.dir.container(container);
        let launch: Launch = files::read_json(&dir.launch())?;
        let confinement = launch.confinement.clone();
        let oom_score = launch.oom_score;
        let (wiring, streams, console) = Wiring::new(&dir, launch)?;
        let order =
            Order { container: container.to_owned(), exec: None, streams, console, confinement, oom_score };
        self.begin(connection, request, order, Kind::Container(container.to_owned(), Box::new(wiring)))
    }

    fn exec(
        &mut self,
        connection: u64,
        request: u64,
        (container, exec, tty): (&str, &str, bool),
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<()> {
        let dir = self.dir.container(container);
        let contained = self.contained(container)?;
        if contained.process.exit.is_some() {
            return Err(io::Error::other(format!("container {container} is not running")));
        }
        let confinement = contained.confinement();
        let oom_score = contained.oom_score();
        let console = if tty { Some(Console::new(&dir, exec)?) } else { None };
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next();
        let streams = Streams { stdin: next(), stdout: next(), stderr: next() };
        let document = Some(dir.exec(exec));
        let order = Order {
            container: container.to_owned(),
            exec: document,
            streams,
            console,
            confinement,
            oom_score,
        };
        self.begin(connection, request, order, Kind::Exec(exec.to_owned()))
    }

    fn begin(&mut self, connection: u64, request: u64, order: Order, kind: Kind) -> io::Result<()> {
        let report = launch::begin(&self.dir, &order)?;
        // The container's ends of the streams are closed here with the rest of the order.
        self.jobs.push(Job { connection, request, report, kind, console: order.console });
        Ok(())
    }

    /// Takes the reports of jobs that are done.
    fn reports(&mut self, buffer: &mut [u8]) {
        let jobs = std::mem::take(&mut self.jobs);
        for job in jobs {
            let mut polled = [readable(job.report.as_fd())];
            let ready = poll(&mut polled, PollTimeout::ZERO).is_ok_and(|count| count > 0);
            if ready {
                self.finish(job, buffer);
            } else {
                self.jobs.push(job);
            }
        }
    }

    fn finish(&mut self, job: Job, buffer: &mut [u8]) {
        let mut bytes = Vec::new();
        let read = File::from(job.report).read_to_end(&mut bytes);
        let report = read.ok().and_then(|_| serde_json::from_slice(&bytes).ok());
        let report = report.unwrap_or_else(|| Report::Failed("the maker of the process died".to_owned()));
        let (connection, request) = (job.connection, job.request);
        let pid = match report {
            Report::Made(pid) => pid,
            Report::Failed(message) => return self.reply(connection, request, Err(message)),
        };
        let identity = Identity::of(pid).unwrap_or(Identity { pid, started: 0 });
        let process = Process { identity, started: clock::now(), exit: None };
        let outcome = match job.kind {
            Kind::Container(id, wiring) => self.started(id, *wiring, job.console, process),
            Kind::Exec(id) => {
                self.execs.insert(pid, id);
                let master = job.console.map(Console::take).transpose();
                master.map(|master| (Answer::Started(process), master)).map_err(|error| error.to_string())
            }
        };
        self.reply(connection, request, outcome);
        if let Some(code) = self.early.remove(&pid) {
            self.ended(pid, code, buffer);
        }
        if self.jobs.is_empty() {
            self.early.clear();
        }
    }

    fn started(
        &mut self,
        id: String,
        mut wiring: Wiring,
        console: Option<Console>,
        process: Process,
    ) -> Outcome {
        wiring.connect(console).map_err(|error| format!("connecting the terminal: {error}"))?;
        self.state.containers.insert(id.clone(), process.clone());
        self.containers.insert(id, Contained::new(process.clone(), wiring));
        self.save().map_err(|error| format!("keeping the state: {error}"))?;
        Ok((Answer::Started(process), None))
    }

    /// Reaps children.
    fn children(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), 128 + signal as i32),
                Ok(WaitStatus::StillAlive) => return Ok(()),
                Err(nix::errno::Errno::ECHILD) => {
                    self.childless = true;
                    return Ok(());
                }
                Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            self.ended(pid, code, buffer);
        }
    }

    fn ended(&mut self, pid: i32, code: i32, buffer: &mut [u8]) {
        if self.state.pause.is_some_and(|pause| pause.pid == pid) {
            self.state.pause = None;
            let _ = self.save();
            return self.publish(&Message::PauseExited);
        }
        if let Some(exec) = self.execs.remove(&pid) {
            return self.publish(&Message::ExecExited { exec, code });
        }
        let running =
            |contained: &Contained| contained.process.identity.pid == pid && contained.process.exit.is_none();
        let found = self.containers.iter_mut().find(|(_, contained)| running(contained));
        let Some((id, contained)) = found else {
            if !self.jobs.is_empty() {
                self.early.insert(pid, code);
            }
            return;
        };
        let exit = contained.end(code, &self.cgroups, buffer);
        let id = id.clone();
        self.state.containers.insert(id.clone(), contained.process.clone());
        // Keeping it fails on a full disk only; the engine is told all the same.
        let _ = self.save();
        self.publish(&Message::Exited { container: id, exit });
    }

    fn shut_down(&mut self) {
        for container in self.containers.values() {
            container.kill(&self.cgroups);
        }
        if let Some(pause) = self.state.pause.take() {
            let _ = pause.signal(Signal::SIGKILL as i32);
        }
        self.ending = true;
        // With a child left there will be a signal when it ends.
        self.childless = matches!(
            waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT),
            Err(nix::errno::Errno::ECHILD)
        );
    }

    fn contained(&mut self, id: &str) -> io::Result<&mut Contained> {
        self.containers.get_mut(id).ok_or_else(|| io::Error::other(format!("container {id} was not started")))
    }

    fn save(&self) -> io::Result<()> {
        if self.ending {
            // The folder may be gone by now, and must not come back.
            return Ok(());
        }
        files::replace_json(&self.dir.shim_state(), &self.state)
    }

    fn connection(&mut self, id: u64) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id == id)
    }

    fn reply(&mut self, connection: u64, id: u64, outcome: Outcome) {
        let (result, descriptor) = match outcome {
            Ok((answer, descriptor)) => (Ok(answer), descriptor),
            Err(message) => (Err(message), None),
        };
        if let Some(connection) = self.connection(connection) {
            connection.send(&Message::Reply { id, result }, descriptor);
        }
    }

    fn publish(&mut self, message: &Message) {
        for connection in self.connections.iter_mut().filter(|connection| connection.listens) {
            connection.send(message, None);
        }
    }
}

impl Connection {
    fn send(&mut self, message: &Message, descriptor: Option<OwnedFd>) {
        if let Ok(bytes) = serde_json::to_vec(message) {
            self.waiting.push_back((bytes, descriptor));
            self.flush();
        }
    }

    /// Sends what waits; the rest is sent when there is room. A dead engine is noticed by reading.
    fn flush(&mut self) {
        while let Some((bytes, descriptor)) = self.waiting.front() {
            let descriptors: Vec<BorrowedFd<'_>> = descriptor.iter().map(AsFd::as_fd).collect();
            match packet::send(&self.socket, bytes, &descriptors) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                _ => drop(self.waiting.pop_front()),
            }
        }
    }
}

fn readable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}
