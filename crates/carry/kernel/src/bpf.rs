//! The little of BPF that device rules need: a few instructions, loading, attaching.
#![expect(unsafe_code, reason = "the bpf system call takes a structure of pointers")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// One instruction as the kernel reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    code: u8,
    registers: u8,
    /// Distance of a jump, or of a load from its base.
    pub(crate) offset: i16,
    immediate: i32,
}

impl Instruction {
    pub(crate) fn is_jump(&self) -> bool {
        self.code & 0x07 == 0x05 && self.code != 0x95
    }
}

/// Constructors of instructions.
pub(crate) mod ops {
    use super::Instruction;

    pub(crate) const R0: u8 = 0;
    pub(crate) const R1: u8 = 1;
    pub(crate) const R2: u8 = 2;
    pub(crate) const R3: u8 = 3;
    pub(crate) const R4: u8 = 4;
    pub(crate) const R5: u8 = 5;

    fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
        Instruction { code, registers: to | from << 4, offset, immediate }
    }
    pub(crate) fn load32(to: u8, base: u8, offset: i16) -> Instruction {
        instruction(0x61, to, base, offset, 0)
    }
    pub(crate) fn copy(to: u8, from: u8) -> Instruction {
        instruction(0xbf, to, from, 0, 0)
    }
    pub(crate) fn copy32(to: u8, from: u8) -> Instruction {
        instruction(0xbc, to, from, 0, 0)
    }
    pub(crate) fn set(to: u8, value: i32) -> Instruction {
        instruction(0xb7, to, 0, 0, value)
    }
    pub(crate) fn and(to: u8, value: i32) -> Instruction {
        instruction(0x54, to, 0, 0, value)
    }
    pub(crate) fn shift_right(to: u8, bits: i32) -> Instruction {
        instruction(0x74, to, 0, 0, bits)
    }
    pub(crate) fn jump_unless_equal(register: u8, value: i32) -> Instruction {
        instruction(0x55, register, 0, 0, value)
    }
    pub(crate) fn jump_if_equal(register: u8, value: i32) -> Instruction {
        instruction(0x15, register, 0, 0, value)
    }
    pub(crate) fn exit() -> Instruction {
        instruction(0x95, 0, 0, 0, 0)
    }
}

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const PROG_DETACH: i32 = 9;
const PROG_QUERY: i32 = 16;
const PROG_GET_FD_BY_ID: i32 = 13;
const CGROUP_DEVICE_PROGRAM: u32 = 15;
const CGROUP_DEVICE_ATTACH: u32 = 6;
const ALLOW_MULTI: u32 = 2;

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next: u32,
    open_flags: u32,
}

/// Attaches `code` to a group and detaches what was attached before.
pub(crate) fn replace_device_program(group: &File, code: &[Instruction]) -> io::Result<()> {
    let target = group.as_raw_fd() as u32;
    let before = attached(target)?;
    let program = load(code)?;
    let mut attach = Attach {
        target,
        program: program.as_raw_fd() as u32,
        kind: CGROUP_DEVICE_ATTACH,
        flags: ALLOW_MULTI,
    };
    call(PROG_ATTACH, &mut attach)?;
    for id in before {
        let old = by_id(id)?;
        let mut detach =
            Attach { target, program: old.as_raw_fd() as u32, kind: CGROUP_DEVICE_ATTACH, flags: 0 };
        call(PROG_DETACH, &mut detach)?;
    }
    Ok(())
}

fn load(code: &[Instruction]) -> io::Result<OwnedFd> {
    let mut request = Load {
        kind: CGROUP_DEVICE_PROGRAM,
        count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    open(PROG_LOAD, &mut request)
}

fn attached(target: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0u32; 64];
    let mut query = Query {
        target,
        kind: CGROUP_DEVICE_ATTACH,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        ..Query::default()
    };
    call(PROG_QUERY, &mut query)?;
    Ok(ids[..(query.count as usize).min(ids.len())].to_vec())
}

fn by_id(id: u32) -> io::Result<OwnedFd> {
    open(PROG_GET_FD_BY_ID, &mut ById { id, ..ById::default() })
}

fn open<T>(command: i32, request: &mut T) -> io::Result<OwnedFd> {
    let fd = call(command, request)?;
    // SAFETY: the kernel just gave this descriptor to us, nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<T>(command: i32, request: &mut T) -> io::Result<i32> {
    // SAFETY: `request` is a live structure of the size that is passed, and its pointers are live.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(request), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
