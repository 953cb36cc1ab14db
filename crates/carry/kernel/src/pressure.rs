//! Being told that tasks wait for memory, before there is none (pressure stall information).

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// The file of the whole machine.
pub const MEMORY: &str = "/proc/pressure/memory";

/// Something that has priority data when some task has waited for memory for `stall` within `window`.
///
/// # Errors
/// When the kernel does not tell: it has no such file, or the window is not between 0.5 s and 10 s.
pub fn stalls(file: &Path, stall: Duration, window: Duration) -> io::Result<OwnedFd> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(nix::libc::O_NONBLOCK);
    let mut file = options.open(file)?;
    // The kernel wants the whole of it at once, and an end.
    file.write_all(format!("some {} {}\0", stall.as_micros(), window.as_micros()).as_bytes())?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_the_trigger() {
        let file = Path::new(MEMORY);
        let watch = |window| stalls(file, Duration::from_millis(150), window);
        // Kernels without it, and users who may not: nothing to test.
        if !file.exists() || watch(Duration::from_secs(2)).is_err() {
            return;
        }
        assert!(watch(Duration::from_secs(60)).is_err());
    }
}
