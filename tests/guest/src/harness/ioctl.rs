// SPDX-License-Identifier: GPL-2.0

//! aufs's ioctls as a program calls them: numbers, raw structures, and the calls of 32-bit programs.

use std::os::fd::{AsFd, AsRawFd};

use super::sys::{self, Errno, Res};

pub(crate) const RDU: u32 = 0xc040_4100;
pub(crate) const RDU_INO: u32 = 0xc040_4101;
pub(crate) const WBR_FD: u32 = 0x4008_4102;
pub(crate) const IBUSY: u32 = 0xc018_4103;
pub(crate) const MVDOWN: u32 = 0xc060_4104;
pub(crate) const BRINFO: u32 = 0x5000_4105;
pub(crate) const FHSM_FD: u32 = 0x4004_4106;

/// All of them.
pub(crate) const ALL: [u32; 7] = [RDU, RDU_INO, WBR_FD, IBUSY, MVDOWN, BRINFO, FHSM_FD];

/// An address where nothing is mapped.
pub(crate) const NOWHERE: usize = 0x10;

/// ioctl(2) with a number as argument.
#[track_caller]
pub(crate) fn raw(fd: impl AsFd, command: u32, arg: usize) -> Res<i64> {
    // SAFETY: The kernel checks the address; the callers of this pass none that Rust knows, or
    // memory that is theirs for the call.
    let ret = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), command.into(), arg) };
    sys::on_fd(
        "ioctl",
        if ret < 0 {
            Err(sys::last_errno())
        } else {
            Ok(ret.into())
        },
    )
}

/// ioctl(2) on memory of the caller.
#[track_caller]
pub(crate) fn on(fd: impl AsFd, command: u32, memory: &mut [u8]) -> Res<i64> {
    raw(fd, command, memory.as_mut_ptr() as usize)
}

/// Memory below 4 GiB, where 32-bit programs have theirs.
pub(crate) struct LowMemory {
    start: *mut u8,
    len: usize,
}

impl LowMemory {
    pub(crate) fn new(len: usize) -> Self {
        // SAFETY: A fresh mapping.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
                -1,
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED);
        Self {
            start: start.cast(),
            len,
        }
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: The mapping is ours and lives as long as `self`.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }

    pub(crate) fn address(&self) -> usize {
        self.start as usize
    }
}

impl Drop for LowMemory {
    fn drop(&mut self) {
        // SAFETY: The mapping is ours.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

/// ioctl(2) as a 32-bit program calls it: by `int $0x80`.
#[cfg(target_arch = "x86_64")]
#[track_caller]
pub(crate) fn compat(fd: impl AsFd, command: u32, arg: usize) -> Res<i64> {
    const IOCTL_32: i64 = 54;
    let arg = u32::try_from(arg).expect("an address below 4 GiB");
    let mut ret = IOCTL_32;
    // SAFETY: A system call; the kernel checks the address. `rbx` is saved, as LLVM keeps it.
    unsafe {
        std::arch::asm!(
            "push rbx",
            "mov ebx, {fd:e}",
            "int 0x80",
            "pop rbx",
            fd = in(reg) fd.as_fd().as_raw_fd(),
            inout("rax") ret,
            in("ecx") command,
            in("edx") arg,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
        );
    }
    // The register holds 32 bits.
    let ret = ret as i32;
    let result = match ret {
        0.. => Ok(ret.into()),
        _ => Err(Errno::from_raw_os_error(-ret)),
    };
    sys::on_fd("ioctl of a 32-bit program", result)
}
