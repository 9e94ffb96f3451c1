// SPDX-License-Identifier: GPL-2.0

//! The kernel log: what it said since a mark, and which of it is a defect.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::{
    fs::{Mode, OFlags, SeekFrom},
    io::Errno,
};

/// Text that no test may cause. Matched case-sensitively anywhere in a line.
const DEFECTS: &[&str] = &[
    "BUG:",
    "kernel BUG",
    "WARNING:",
    "Oops",
    "Call Trace:",
    "general protection fault",
    "INFO: possible",
    "INFO: task",
    "INFO: rcu",
    "self-detected stall",
    "detected stalls",
    "possible recursive locking",
    "possible circular locking",
    "suspicious RCU usage",
    "suspicious_rcu",
    "sleeping function called from invalid context",
    "scheduling while atomic",
    "bad unlock balance",
    "held lock freed",
    "still held when returning to user space",
    "KASAN:",
    "KCSAN:",
    "KFENCE:",
    "UBSAN:",
    "ODEBUG:",
    "DEBUG_LOCKS_WARN_ON",
    "refcount_t:",
    "list_add corruption",
    "list_del corruption",
    "VFS: Busy inodes",
    "still in use",
    "memory leak",
    "new suspected memory leaks",
    "Kernel panic",
    "rust_kernel: panicked",
    "unable to handle",
    "EXT4-fs error",
    "XFS (loop0): Corruption",
    "BTRFS error",
    "BTRFS critical",
];

/// A reader of `/dev/kmsg` positioned at a moment in the log.
pub(crate) struct Klog {
    fd: OwnedFd,
}

impl Klog {
    /// Starts reading at the end of the log.
    pub(crate) fn from_now() -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open("/dev/kmsg", flags, Mode::empty()).context("/dev/kmsg")?;
        rustix::fs::seek(&fd, SeekFrom::End(0)).context("/dev/kmsg: seek to the end")?;
        Ok(Self { fd })
    }

    /// Every line logged since the last call (or since the start).
    pub(crate) fn read(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut buf = vec![0u8; 16384];
        loop {
            match rustix::io::read(&self.fd, &mut buf[..]) {
                Ok(0) | Err(Errno::AGAIN) => return lines,
                // Records were overwritten before we read them: go on with the oldest one left.
                Err(Errno::PIPE | Errno::INTR) => {}
                Err(e) => {
                    lines.push(format!("BUG: the test cannot read /dev/kmsg: {e}"));
                    return lines;
                }
                Ok(n) => lines.extend(message(&buf[..n])),
            }
        }
    }
}

/// The text of one record: `prio,seq,time,flags;TEXT\n KEY=value\n...`.
fn message(record: &[u8]) -> Option<String> {
    let record = String::from_utf8_lossy(record);
    let (_, text) = record.split_once(';')?;
    text.lines().next().map(str::to_owned)
}

/// Excerpts around every defect in these lines; `None` when there is none.
pub(crate) fn defects(lines: &[String]) -> Option<String> {
    let bad = |line: &String| DEFECTS.iter().any(|d| line.contains(d));
    let first = lines.iter().position(bad)?;
    let excerpt = &lines[first.saturating_sub(5)..lines.len().min(first + 60)];
    Some(excerpt.join("\n"))
}
