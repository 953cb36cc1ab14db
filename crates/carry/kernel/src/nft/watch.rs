//! Being told that somebody else changed a table.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use nix::sys::socket::{MsgFlags, recv};
use rtnetlink::sys::{Socket, SocketAddr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{NETFILTER_FAMILY, SUBSYSTEM, text};
use crate::netlink::{attributes, messages};
use crate::readiness::register;

/// The group that is told of all changes of packet rules.
const CHANGES: u32 = 7;

/// The last message of each change, which names no table.
const GENERATION: u16 = SUBSYSTEM | 15;

/// The numbers of this process' conversations, by which the kernel names who changed something.
static OWN: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

/// Notes a conversation of this process.
pub(super) fn note_own(number: u32) {
    OWN.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
}

/// What became known of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// Somebody else changed it.
    Changed,
    /// There was more than could be told; nothing may have happened to it.
    Missed,
}

/// Tells what other processes do to the tables of one name, in all families.
#[derive(Debug)]
pub struct Watch {
    socket: AsyncFd<OwnedFd>,
    table: String,
}

impl Watch {
    /// Listens in the calling thread's namespace, in the caller's runtime.
    pub fn open(table: &str) -> io::Result<Self> {
        let mut socket = Socket::new(NETFILTER_FAMILY)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.add_membership(CHANGES)?;
        socket.set_non_blocking(true)?;
        let socket = socket.as_fd().try_clone_to_owned()?;
        Ok(Self { socket: register(socket, Interest::READABLE)?, table: table.to_owned() })
    }

    /// Waits until somebody else changed the table, and takes all that is known by then. Waits for ever when
    /// the kernel tells nothing any more.
    pub async fn disturbed(&self) -> Disturbance {
        match self.wait().await {
            Ok(disturbance) => disturbance,
            Err(_) => std::future::pending().await,
        }
    }

    async fn wait(&self) -> io::Result<Disturbance> {
        let mut buffer = vec![0; 64 << 10];
        let mut found = None;
        loop {
            let mut ready = self.socket.readable().await?;
            let received = ready.try_io(|socket| {
                Ok(recv(std::os::fd::AsRawFd::as_raw_fd(socket.get_ref()), &mut buffer, MsgFlags::empty())?)
            });
            match (received, found) {
                (Ok(Ok(length)), _) if self.is_about(&buffer[..length]) => found = Some(Disturbance::Changed),
                (Ok(Ok(_)), _) => {}
                (Ok(Err(error)), _) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => {
                    found = found.or(Some(Disturbance::Missed));
                }
                (Ok(Err(error)), _) => return Err(error),
                // Nothing more is waiting.
                (Err(_), Some(found)) => return Ok(found),
                (Err(_), None) => {}
            }
        }
    }

    /// Whether a message tells of a change of the table by another process.
    fn is_about(&self, bytes: &[u8]) -> bool {
        let own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
        messages(bytes)
            .filter(|message| message.kind & 0xff00 == SUBSYSTEM && message.kind != GENERATION)
            .filter(|message| !own.contains(&message.sender))
            .any(|message| {
                let body = message.body.get(4..).unwrap_or_default();
                attributes(body).any(|(kind, name)| kind == 1 && text(name) == self.table)
            })
    }
}
