// SPDX-License-Identifier: GPL-2.0

//! System calls on paths, with errors that tell which call failed, on what, and where in the test.
//!
//! Every function is one system call (or the obvious short loop around it), does not follow a
//! final symbolic link unless its name says so, and returns [`Res`]: `?` in a test then prints
//! `rename /mnt/u/7/m0/a: Invalid cross-device link (os error 18) at src/tests/rename.rs:40`, and
//! [`errno`] asserts a wanted failure.

use std::{
    collections::BTreeSet,
    fmt,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    panic::Location,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, Gid, Timespec, Timestamps, Uid, CWD},
    io,
};
pub(crate) use rustix::{
    fs::{Access, AtFlags, FileType, Mode, OFlags, RenameFlags, SeekFrom, Stat, XattrFlags},
    io::Errno,
};

/// A failed system call.
#[derive(Debug, Clone)]
pub(crate) struct SysError {
    pub(crate) errno: Errno,
    pub(crate) call: &'static str,
    path: PathBuf,
    place: &'static Location<'static>,
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.path.display().to_string();
        let shown = if shown.len() > 160 {
            format!("{}... ({} bytes)", &shown[..140], shown.len())
        } else {
            shown
        };
        write!(f, "{} {shown}: {} at {}", self.call, self.errno, self.place)
    }
}

impl std::error::Error for SysError {}

/// Result of a system call on a path.
pub(crate) type Res<T> = Result<T, SysError>;

/// Adds call, path and caller to an errno.
#[track_caller]
pub(crate) fn at<T>(call: &'static str, path: impl AsRef<Path>, result: io::Result<T>) -> Res<T> {
    let place = Location::caller();
    result.map_err(|errno| SysError {
        errno,
        call,
        path: path.as_ref().to_owned(),
        place,
    })
}

/// Adds the name of a call on a descriptor to an errno.
#[track_caller]
pub(crate) fn on_fd<T>(call: &'static str, result: io::Result<T>) -> Res<T> {
    at(call, "<fd>", result)
}

/// Asserts that a system call failed with exactly this errno.
#[track_caller]
pub(crate) fn errno<T>(result: Res<T>, wanted: Errno) {
    match result {
        Ok(_) => panic!("succeeded, but {wanted} is wanted"),
        Err(e) if e.errno == wanted => {}
        Err(e) => panic!("{wanted} is wanted, but: {e}"),
    }
}

#[track_caller]
pub(crate) fn open(path: impl AsRef<Path>, flags: OFlags) -> Res<OwnedFd> {
    open_mode(path, flags, 0o666)
}

#[track_caller]
pub(crate) fn open_mode(path: impl AsRef<Path>, flags: OFlags, mode: u32) -> Res<OwnedFd> {
    let path = path.as_ref();
    let fd = fs::open(path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode));
    at("open", path, fd)
}

/// `O_CREAT | O_EXCL | O_RDWR`.
#[track_caller]
pub(crate) fn create(path: impl AsRef<Path>) -> Res<OwnedFd> {
    open(path, OFlags::CREATE | OFlags::EXCL | OFlags::RDWR)
}

#[track_caller]
pub(crate) fn open_ro(path: impl AsRef<Path>) -> Res<OwnedFd> {
    open(path, OFlags::RDONLY)
}

#[track_caller]
pub(crate) fn open_rw(path: impl AsRef<Path>) -> Res<OwnedFd> {
    open(path, OFlags::RDWR)
}

/// Reads from the descriptor's position to the end.
#[track_caller]
pub(crate) fn read_fd(fd: impl AsFd) -> Res<Vec<u8>> {
    let (mut all, mut buf) = (Vec::new(), vec![0u8; 65536]);
    loop {
        match on_fd("read", io::read(&fd, &mut buf[..]))? {
            0 => return Ok(all),
            n => all.extend_from_slice(&buf[..n]),
        }
    }
}

/// Reads the whole file from offset 0 whatever the position is.
#[track_caller]
pub(crate) fn pread_fd(fd: impl AsFd) -> Res<Vec<u8>> {
    let (mut all, mut buf) = (Vec::new(), vec![0u8; 65536]);
    loop {
        match on_fd("pread", io::pread(&fd, &mut buf[..], all.len() as u64))? {
            0 => return Ok(all),
            n => all.extend_from_slice(&buf[..n]),
        }
    }
}

#[track_caller]
pub(crate) fn write_fd(fd: impl AsFd, mut data: &[u8]) -> Res<()> {
    while !data.is_empty() {
        let n = on_fd("write", io::write(&fd, data))?;
        assert!(n > 0, "write(2) returned 0");
        data = &data[n..];
    }
    Ok(())
}

#[track_caller]
pub(crate) fn pwrite_fd(fd: impl AsFd, data: &[u8], offset: u64) -> Res<()> {
    let n = on_fd("pwrite", io::pwrite(&fd, data, offset))?;
    assert_eq!(n, data.len(), "short pwrite(2)");
    Ok(())
}

#[track_caller]
pub(crate) fn read(path: impl AsRef<Path>) -> Res<Vec<u8>> {
    let path = path.as_ref();
    read_fd(open_ro(path)?).map_err(|e| SysError {
        path: path.to_owned(),
        ..e
    })
}

/// Content as text, for short assertions.
#[track_caller]
pub(crate) fn text(path: impl AsRef<Path>) -> Res<String> {
    Ok(String::from_utf8_lossy(&read(path)?).into_owned())
}

/// `O_CREAT | O_TRUNC | O_WRONLY`, then writes.
#[track_caller]
pub(crate) fn write(path: impl AsRef<Path>, data: impl AsRef<[u8]>) -> Res<()> {
    let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY;
    write_fd(open(path, flags)?, data.as_ref())
}

#[track_caller]
pub(crate) fn append(path: impl AsRef<Path>, data: impl AsRef<[u8]>) -> Res<()> {
    write_fd(open(path, OFlags::APPEND | OFlags::WRONLY)?, data.as_ref())
}

#[track_caller]
pub(crate) fn mkdir(path: impl AsRef<Path>) -> Res<()> {
    mkdir_mode(path, 0o777)
}

#[track_caller]
pub(crate) fn mkdir_mode(path: impl AsRef<Path>, mode: u32) -> Res<()> {
    let path = path.as_ref();
    at("mkdir", path, fs::mkdir(path, Mode::from_raw_mode(mode)))
}

/// Device number.
pub(crate) fn dev(major: u32, minor: u32) -> u64 {
    fs::makedev(major, minor)
}

#[track_caller]
pub(crate) fn mknod(path: impl AsRef<Path>, kind: FileType, mode: u32, dev: u64) -> Res<()> {
    let path = path.as_ref();
    let result = fs::mknodat(CWD, path, kind, Mode::from_raw_mode(mode), dev);
    at("mknod", path, result)
}

#[track_caller]
pub(crate) fn symlink(target: impl AsRef<Path>, path: impl AsRef<Path>) -> Res<()> {
    let path = path.as_ref();
    at("symlink", path, fs::symlink(target.as_ref(), path))
}

#[track_caller]
pub(crate) fn readlink(path: impl AsRef<Path>) -> Res<String> {
    let path = path.as_ref();
    let target = at("readlink", path, fs::readlink(path, Vec::new()))?;
    Ok(String::from_utf8_lossy(target.as_bytes()).into_owned())
}

#[track_caller]
pub(crate) fn link(old: impl AsRef<Path>, new: impl AsRef<Path>) -> Res<()> {
    let new = new.as_ref();
    at("link", new, fs::link(old.as_ref(), new))
}

/// Gives an open file (also an unnamed one) a name, through `/proc/self/fd`.
#[track_caller]
pub(crate) fn link_fd(fd: impl AsFd, new: impl AsRef<Path>) -> Res<()> {
    use std::os::fd::AsRawFd;
    let new = new.as_ref();
    let old = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let result = fs::linkat(CWD, old, CWD, new, AtFlags::SYMLINK_FOLLOW);
    at("linkat", new, result)
}

#[track_caller]
pub(crate) fn unlink(path: impl AsRef<Path>) -> Res<()> {
    let path = path.as_ref();
    at("unlink", path, fs::unlink(path))
}

#[track_caller]
pub(crate) fn rmdir(path: impl AsRef<Path>) -> Res<()> {
    let path = path.as_ref();
    at("rmdir", path, fs::rmdir(path))
}

#[track_caller]
pub(crate) fn rename(old: impl AsRef<Path>, new: impl AsRef<Path>) -> Res<()> {
    let old = old.as_ref();
    at("rename", old, fs::rename(old, new.as_ref()))
}

#[track_caller]
pub(crate) fn rename_with(
    old: impl AsRef<Path>,
    new: impl AsRef<Path>,
    flags: RenameFlags,
) -> Res<()> {
    let old = old.as_ref();
    let result = fs::renameat_with(CWD, old, CWD, new.as_ref(), flags);
    at("renameat2", old, result)
}

#[track_caller]
pub(crate) fn chmod(path: impl AsRef<Path>, mode: u32) -> Res<()> {
    let path = path.as_ref();
    at("chmod", path, fs::chmod(path, Mode::from_raw_mode(mode)))
}

/// `lchown`; `None` leaves that owner (`-1`).
#[track_caller]
pub(crate) fn chown(path: impl AsRef<Path>, uid: Option<u32>, gid: Option<u32>) -> Res<()> {
    let path = path.as_ref();
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    let result = fs::chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
    at("lchown", path, result)
}

/// Seconds and nanoseconds since the epoch.
pub(crate) type Time = (i64, i64);

/// A time for [`utimens`].
pub(crate) fn timespec((tv_sec, tv_nsec): Time) -> Timespec {
    Timespec { tv_sec, tv_nsec }
}

#[track_caller]
pub(crate) fn utimens(path: impl AsRef<Path>, atime: Time, mtime: Time) -> Res<()> {
    let path = path.as_ref();
    let times = Timestamps {
        last_access: timespec(atime),
        last_modification: timespec(mtime),
    };
    let result = fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW);
    at("utimensat", path, result)
}

/// `truncate(2)` through an open descriptor for writing.
#[track_caller]
pub(crate) fn truncate(path: impl AsRef<Path>, len: u64) -> Res<()> {
    let path = path.as_ref();
    let c = std::ffi::CString::new(path.as_os_str().as_bytes()).expect("a path has no NUL");
    // SAFETY: `c` is a NUL-terminated string that lives over the call.
    let ret = unsafe { libc::truncate(c.as_bytes_with_nul().as_ptr().cast(), len as i64) };
    let result = match ret {
        0 => Ok(()),
        _ => Err(last_errno()),
    };
    at("truncate", path, result)
}

/// The current thread runs on the first CPU only.
pub(crate) fn on_first_cpu() -> Res<()> {
    let mask: u64 = 1;
    // SAFETY: the mask has the length that is said.
    let ret = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&mask), &mask) };
    match ret {
        -1 => at("sched_setaffinity", Path::new(""), Err(last_errno())),
        _ => Ok(()),
    }
}

/// The errno of the last call through libc.
pub(crate) fn last_errno() -> Errno {
    let raw = std::io::Error::last_os_error().raw_os_error();
    Errno::from_raw_os_error(raw.unwrap_or(0))
}

#[track_caller]
pub(crate) fn lstat(path: impl AsRef<Path>) -> Res<Stat> {
    let path = path.as_ref();
    at("lstat", path, fs::lstat(path))
}

#[track_caller]
pub(crate) fn fstat(fd: impl AsFd) -> Res<Stat> {
    on_fd("fstat", fs::fstat(fd))
}

/// Follows symbolic links.
#[track_caller]
pub(crate) fn stat_follow(path: impl AsRef<Path>) -> Res<Stat> {
    let path = path.as_ref();
    at("stat", path, fs::stat(path))
}

#[track_caller]
pub(crate) fn access(path: impl AsRef<Path>, how: Access) -> Res<()> {
    let path = path.as_ref();
    let result = fs::accessat(CWD, path, how, AtFlags::EACCESS);
    at("faccessat", path, result)
}

/// Whether the name exists; any error but `ENOENT` panics.
#[track_caller]
pub(crate) fn exists(path: impl AsRef<Path>) -> bool {
    match lstat(path) {
        Ok(_) => true,
        Err(e) if e.errno == Errno::NOENT => false,
        Err(e) => panic!("{e}"),
    }
}

pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Permission bits with suid, sgid and sticky.
pub(crate) fn mode(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}

#[allow(clippy::unnecessary_cast, reason = "the width differs between targets")]
pub(crate) fn mtime(stat: &Stat) -> Time {
    (stat.st_mtime as i64, stat.st_mtime_nsec as i64)
}

#[allow(clippy::unnecessary_cast, reason = "the width differs between targets")]
pub(crate) fn atime(stat: &Stat) -> Time {
    (stat.st_atime as i64, stat.st_atime_nsec as i64)
}

#[allow(clippy::unnecessary_cast, reason = "the width differs between targets")]
pub(crate) fn ctime(stat: &Stat) -> Time {
    (stat.st_ctime as i64, stat.st_ctime_nsec as i64)
}

/// What `call` puts into a buffer. A small one comes first: the kernel allocates one of the same
/// size each time.
fn xattr_buffer(
    call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    let mut buf = vec![0u8; 1024];
    let n = match call(&mut buf) {
        Err(Errno::RANGE) => {
            buf.resize(65536, 0);
            call(&mut buf)?
        }
        n => n?,
    };
    buf.truncate(n);
    Ok(buf)
}

#[track_caller]
pub(crate) fn get_xattr(path: impl AsRef<Path>, name: &str) -> Res<Vec<u8>> {
    let path = path.as_ref();
    let value = xattr_buffer(|buf| fs::lgetxattr(path, name, buf));
    at("lgetxattr", path, value)
}

#[track_caller]
pub(crate) fn set_xattr(path: impl AsRef<Path>, name: &str, value: impl AsRef<[u8]>) -> Res<()> {
    set_xattr_with(path, name, value, XattrFlags::empty())
}

#[track_caller]
pub(crate) fn set_xattr_with(
    path: impl AsRef<Path>,
    name: &str,
    value: impl AsRef<[u8]>,
    flags: XattrFlags,
) -> Res<()> {
    let path = path.as_ref();
    let result = fs::lsetxattr(path, name, value.as_ref(), flags);
    at("lsetxattr", path, result)
}

#[track_caller]
pub(crate) fn remove_xattr(path: impl AsRef<Path>, name: &str) -> Res<()> {
    let path = path.as_ref();
    at("lremovexattr", path, fs::lremovexattr(path, name))
}

#[track_caller]
pub(crate) fn list_xattr(path: impl AsRef<Path>) -> Res<BTreeSet<String>> {
    let path = path.as_ref();
    let names = xattr_buffer(|buf| fs::llistxattr(path, buf));
    Ok(at("llistxattr", path, names)?
        .split(|b| *b == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect())
}

#[track_caller]
pub(crate) fn seek(fd: impl AsFd, to: SeekFrom) -> Res<u64> {
    on_fd("lseek", fs::seek(fd, to))
}

/// Drops clean caches: page cache, dentries and inodes.
pub(crate) fn drop_caches() {
    rustix::fs::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").expect("drop_caches");
}

/// The time of day.
pub(crate) fn now() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    (now.tv_sec, now.tv_nsec)
}
