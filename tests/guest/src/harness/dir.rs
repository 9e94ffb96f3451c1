// SPDX-License-Identifier: GPL-2.0

//! Directory listings with everything that getdents64(2) tells.

use std::{
    collections::BTreeSet,
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::fs::{ioctl_getflags, ioctl_setflags, IFlags, RawDir};

use super::sys::{self, FileType, OFlags, Res};

/// One record of getdents64(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DirEntry {
    pub(crate) name: String,
    pub(crate) ino: u64,
    pub(crate) kind: FileType,
    /// Position of the entry after this one (`d_off`).
    pub(crate) next: u64,
}

#[track_caller]
pub(crate) fn open_dir(path: impl AsRef<Path>) -> Res<OwnedFd> {
    sys::open(path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// What one getdents64(2) call with a buffer of `size` bytes returns; empty at the end.
#[track_caller]
pub(crate) fn getdents(fd: impl AsFd, size: usize) -> Res<Vec<DirEntry>> {
    let mut buf = vec![MaybeUninit::uninit(); size];
    let mut dir = RawDir::new(fd, &mut buf);
    let mut entries = Vec::new();
    while let Some(entry) = dir.next() {
        let entry = sys::on_fd("getdents64", entry)?;
        entries.push(DirEntry {
            name: entry.file_name().to_string_lossy().into_owned(),
            ino: entry.ino(),
            kind: entry.file_type(),
            next: entry.next_entry_cookie(),
        });
        if dir.is_buffer_empty() {
            break;
        }
    }
    Ok(entries)
}

/// All records from the present position to the end, `.` and `..` included.
#[track_caller]
pub(crate) fn rest(fd: impl AsFd, size: usize) -> Res<Vec<DirEntry>> {
    let mut all = Vec::new();
    loop {
        let some = getdents(&fd, size)?;
        if some.is_empty() {
            return Ok(all);
        }
        all.extend(some);
    }
}

/// The whole listing without `.` and `..`, in order.
#[track_caller]
pub(crate) fn list(path: impl AsRef<Path>) -> Res<Vec<DirEntry>> {
    let mut all = rest(open_dir(path)?, 32768)?;
    all.retain(|e| e.name != "." && e.name != "..");
    Ok(all)
}

/// The names in a directory; a name listed twice panics.
#[track_caller]
pub(crate) fn names(path: impl AsRef<Path>) -> Res<BTreeSet<String>> {
    let path = path.as_ref();
    Ok(unique(&list(path)?, path))
}

/// The names of a listing; a name listed twice panics.
#[track_caller]
pub(crate) fn unique(entries: &[DirEntry], path: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in entries {
        let fresh = names.insert(entry.name.clone());
        assert!(
            fresh,
            "{:?} is listed twice in {}",
            entry.name,
            path.display()
        );
    }
    names
}

/// A set of names, to compare with [`names`].
pub(crate) fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// Takes the flags that forbid changes (immutable, append-only) away from all that is below.
pub(crate) fn unbind(root: &Path) -> Res<()> {
    const BIND: IFlags = IFlags::IMMUTABLE.union(IFlags::APPEND);
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        for entry in list(&path)? {
            let path = path.join(entry.name);
            if !matches!(entry.kind, FileType::Directory | FileType::RegularFile) {
                continue;
            }
            let fd = sys::open(&path, OFlags::RDONLY | OFlags::NOFOLLOW)?;
            let flags = sys::on_fd("FS_IOC_GETFLAGS", ioctl_getflags(&fd))?;
            if flags.intersects(BIND) {
                let rest = flags.difference(BIND);
                sys::on_fd("FS_IOC_SETFLAGS", ioctl_setflags(&fd, rest))?;
            }
            if entry.kind == FileType::Directory {
                todo.push(path);
            }
        }
    }
    Ok(())
}
