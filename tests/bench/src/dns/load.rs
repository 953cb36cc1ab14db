//! Questions over UDP, as many as are answered or at a given rate.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

use super::{NAMES, name};

/// Questions under way at once.
const WINDOW: usize = 100;
const RUN: Duration = Duration::from_secs(4);
const LONGEST: usize = 512;

/// Answers per second with a window of questions under way, and how many they were. They are sent and read many at a time, so that the
/// server is what is measured.
pub(super) fn flood(address: SocketAddr) -> anyhow::Result<(f64, usize)> {
    let socket = client(address)?;
    let queries: Vec<_> = (0..NAMES).map(|number| query(number as u16, number)).collect();
    let (mut out, mut back) = (MultiHeaders::<SockaddrStorage>::preallocate(WINDOW, None), headers());
    let (mut sent, mut answered) = (0_usize, 0_usize);
    let mut space = vec![0; WINDOW * LONGEST];
    let start = Instant::now();
    while start.elapsed() < RUN {
        let more = WINDOW - sent.saturating_sub(answered).min(WINDOW);
        let slices: Vec<_> =
            (sent..sent + more).map(|number| [IoSlice::new(&queries[number * 7919 % NAMES])]).collect();
        let (nobody, plain) = (vec![None; more], MsgFlags::empty());
        sent += sendmmsg(socket.as_raw_fd(), &mut out, &slices, nobody, [], plain)?.count();
        let mut slices: Vec<_> = space.chunks_mut(LONGEST).map(|chunk| [IoSliceMut::new(chunk)]).collect();
        let flags = MsgFlags::MSG_WAITFORONE;
        match recvmmsg(socket.as_raw_fd(), &mut back, slices.iter_mut(), flags, None) {
            Ok(replies) => answered += replies.filter(|reply| reply.bytes > 12).count(),
            // Lost: the window is filled again.
            Err(Errno::EAGAIN) => sent = answered,
            Err(error) => return Err(error.into()),
        }
    }
    Ok((answered as f64 / start.elapsed().as_secs_f64(), answered))
}

fn headers() -> MultiHeaders<SockaddrStorage> {
    MultiHeaders::preallocate(WINDOW, None)
}

/// Median and 99th percentile, in seconds, of questions that come at a rate.
pub(super) fn paced(address: SocketAddr, rate: f64) -> anyhow::Result<(f64, f64)> {
    let socket = client(address)?;
    let (receiver, done) = (socket.try_clone()?, Arc::new(AtomicBool::new(false)));
    // When each question was sent, by its identifier, in nanoseconds; 0: not, or it is answered.
    let times: Arc<[AtomicU64]> = (0..=u16::MAX).map(|_| AtomicU64::new(0)).collect();
    let (start, mut sent) = (Instant::now(), 0_usize);
    let now = move || start.elapsed().as_nanos() as u64;
    let (ended, sent_at) = (done.clone(), times.clone());
    let reader = std::thread::spawn(move || {
        let (mut took, mut reply) = (Vec::new(), [0; LONGEST]);
        while !ended.load(Ordering::Relaxed) {
            let Ok(13..) = receiver.recv(&mut reply) else { continue };
            let id = u16::from_be_bytes([reply[0], reply[1]]);
            let since = sent_at[usize::from(id)].swap(0, Ordering::Relaxed);
            if since > 0 {
                took.push(now().saturating_sub(since) as f64 / 1e9);
            }
        }
        took
    });
    while start.elapsed() < RUN {
        let due = (start.elapsed().as_secs_f64() * rate) as usize;
        while sent < due {
            times[usize::from(sent as u16)].store(now().max(1), Ordering::Relaxed);
            socket.send(&query(sent as u16, sent * 7919 % NAMES))?;
            sent += 1;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    done.store(true, Ordering::Relaxed);
    let mut took = reader.join().map_err(|_| anyhow::anyhow!("the reader broke"))?;
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took.get((took.len() as f64 * share) as usize).copied();
    at(0.5).zip(at(0.99)).context("no answers")
}

pub(super) fn client(address: SocketAddr) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    Ok(socket)
}

pub(super) fn query(id: u16, number: usize) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name(number).split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}
