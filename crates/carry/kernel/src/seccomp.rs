//! Installing a compiled system call filter.
#![expect(unsafe_code, reason = "the seccomp system call takes a structure of pointers")]

use std::io;

/// One instruction of a filter, as compilers of filters give it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterInstruction {
    /// Operation.
    pub code: u16,
    /// Jump when true.
    pub jump_true: u8,
    /// Jump when false.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

#[repr(C)]
struct Program {
    length: u16,
    filter: *const FilterInstruction,
}

/// Puts `filter` on this process and all it will run, on top of filters that are there.
///
/// Needs the capability `SYS_ADMIN` or the no-new-privileges flag.
///
/// # Errors
/// When the kernel refuses the filter.
pub fn install(filter: &[FilterInstruction]) -> io::Result<()> {
    const SET_MODE_FILTER: libc::c_uint = 1;
    let length = u16::try_from(filter.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let program = Program { length, filter: filter.as_ptr() };
    // SAFETY: the program and its instructions live until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, 0, &raw const program) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
