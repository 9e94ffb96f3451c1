// SPDX-License-Identifier: GPL-2.0

//! File-based hierarchical storage management: how full branches are, for a daemon.
//!
//! The daemon gets a descriptor by the ioctl [`uapi::FHSM_FD`] and reads an array of
//! [`uapi::Stbr`] from it: the branches with the attribute `fhsm` whose statistics
//! changed since it read them last. The lowest of them is where files go in the end;
//! it is not told. When a branch gets full the daemon moves files down
//! ([`crate::union::user::mvdown::mvdown`]).
//!
//! # Terms
//!
//! - *stale*: somebody changed something on the branch, so it must be asked. That is
//!   done by who reads or polls: who writes only says so, and wakes the reader at most
//!   each `fhsm_sec=` seconds. New objects and copies always wake it.
//!
//! # Locking
//!
//! [`Fhsm::news`] is a leaf; branches are asked without it.

#![forbid(unsafe_code)]

use crate::fs::{
    access::{
        descriptor,
        feed::{
            self,
            Feed, //
        },
        statfs::Statfs, //
    },
    base::task::Process,
    objects::file::File, //
};
use crate::logic::{
    branch_spec::Attrs,
    ino,
    uapi::Stbr, //
};
use crate::union::{
    branches::branch::{
        Branch,
        BranchTable, //
    },
    types::Union, //
};
use crate::warn_limited;
use kernel::{
    new_mutex,
    new_poll_condvar,
    prelude::*,
    sync::{
        poll::{
            PollCondVar,
            PollTable, //
        },
        Arc,
        Mutex, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    }, //
};

/// What woke the reader, or is to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A file was written.
    Written,
    /// Objects came or went.
    Changed,
}

/// A branch that is told about.
struct Watched {
    branch: Arc<Branch>,
    index: i16,
    stale: bool,
    /// When a write woke the reader last.
    woken: Option<Instant<Monotonic>>,
    /// What was read.
    told: Option<Stbr>,
}

impl Watched {
    /// Whether `stbr` is about it.
    fn is(&self, stbr: &Stbr) -> bool {
        i16::try_from(self.branch.id.number()).is_ok_and(|id| id == stbr.id)
    }
}

struct News {
    /// The process that has the descriptor.
    daemon: Option<Process>,
    /// The union is unmounted.
    ended: bool,
    branches: KVec<Watched>,
}

/// The state of a union that a descriptor was asked for.
#[pin_data]
pub(crate) struct Fhsm {
    #[pin]
    news: Mutex<News>,
    #[pin]
    bell: PollCondVar,
}

/// The branches of `table` that are told about: none if there is only one to move files to.
fn watched(table: &BranchTable) -> Result<KVec<Watched>> {
    let mut all = KVec::new();
    for (index, branch) in table.order.iter().enumerate() {
        if branch.access.attrs.contains(Attrs::FHSM) {
            let watched = Watched {
                branch: branch.clone(),
                index: i16::try_from(index)?,
                stale: true,
                woken: None,
                told: None,
            };
            all.push(watched, GFP_KERNEL)?;
        }
    }
    drop(all.pop());
    Ok(all)
}

/// What is told about a branch.
fn ask(branch: &Branch, index: i16) -> Result<Stbr> {
    let stat = Statfs::of(branch.root.here())?;
    Ok(Stbr {
        id: i16::try_from(branch.id.number())?,
        index,
        blocks: stat.blocks,
        available: stat.blocks_available,
        files: stat.files,
        free_files: stat.files_free,
    })
}

impl Fhsm {
    fn new() -> impl PinInit<Self> {
        pin_init!(Fhsm {
            news <- new_mutex!(
                News {
                    daemon: None,
                    ended: false,
                    branches: KVec::new(),
                },
                "ruaufs_fhsm"
            ),
            bell <- new_poll_condvar!("ruaufs_fhsm_bell"),
        })
    }

    /// Other branches from now on.
    pub(crate) fn update(&self, table: &BranchTable) -> Result {
        let mut branches = watched(table)?;
        let mut news = self.news.lock();
        for new in branches.iter_mut() {
            let known = news
                .branches
                .iter()
                .find(|old| old.branch.id == new.branch.id);
            new.told = known.and_then(|old| old.told);
        }
        let old = core::mem::replace(&mut news.branches, branches);
        drop(news);
        drop(old);
        self.bell.notify_all();
        Ok(())
    }

    /// The union is being unmounted.
    pub(crate) fn end(&self) {
        let mut news = self.news.lock();
        news.ended = true;
        let old = core::mem::replace(&mut news.branches, KVec::new());
        drop(news);
        drop(old);
        self.bell.notify_all();
    }

    /// Something happened on `branch`.
    #[inline(never)]
    pub(crate) fn tell(&self, branch: &Branch, event: Event, seconds: u32) {
        let mut news = self.news.lock();
        if news.daemon.is_none() {
            return;
        }
        let Some(watched) = news
            .branches
            .iter_mut()
            .find(|watched| watched.branch.id == branch.id)
        else {
            return;
        };
        watched.stale = true;
        if event == Event::Written {
            let pause = Delta::from_secs(i64::from(seconds));
            if watched.woken.is_some_and(|when| when.elapsed() < pause) {
                return;
            }
            watched.woken = Some(Instant::now());
        }
        drop(news);
        self.bell.notify_all();
    }

    /// Whether the current process is the daemon, or was started by it.
    pub(crate) fn is_daemon(&self) -> bool {
        let news = self.news.lock();
        news.daemon.as_ref().is_some_and(Process::is_above_current)
    }

    /// Asks the branches that are stale. Gives those that changed, which stay stale, and whether
    /// it is the end. `EMSGSIZE` if all of them together have no `room`.
    fn look(&self, room: usize) -> Result<(KVec<Stbr>, bool)> {
        let mut stale = KVec::new();
        let mut changed = KVec::new();
        {
            let mut news = self.news.lock();
            if news.ended {
                return Ok((changed, true));
            }
            if room < news.branches.len().saturating_mul(Stbr::SIZE) {
                return Err(EMSGSIZE);
            }
            stale.reserve(news.branches.len(), GFP_KERNEL)?;
            for watched in news.branches.iter_mut().filter(|watched| watched.stale) {
                // What happens while it is asked makes it stale again.
                stale.push(
                    (watched.branch.clone(), watched.index, watched.told),
                    GFP_KERNEL,
                )?;
                watched.stale = false;
            }
        }
        for (branch, index, told) in stale.iter() {
            match ask(branch, *index) {
                Ok(now) if *told != Some(now) => changed.push(now, GFP_KERNEL)?,
                Ok(_) => {}
                Err(error) => warn_limited!("fhsm: a branch cannot be asked: {:?}\n", error),
            }
        }
        let mut news = self.news.lock();
        for watched in news.branches.iter_mut() {
            watched.stale |= changed.iter().any(|now| watched.is(now));
        }
        Ok((changed, false))
    }
}

impl Feed for Fhsm {
    fn read(&self, room: usize, wait: bool, put: &mut dyn FnMut(&[u8]) -> Result) -> Result<usize> {
        loop {
            let (changed, ended) = self.look(room)?;
            if ended {
                return Ok(0);
            }
            if !changed.is_empty() {
                let mut bytes = KVec::new();
                for now in changed.iter() {
                    bytes.extend_from_slice(&now.encode(), GFP_KERNEL)?;
                }
                put(&bytes)?;
                let mut news = self.news.lock();
                for watched in news.branches.iter_mut() {
                    if let Some(now) = changed.iter().find(|now| watched.is(now)) {
                        watched.told = Some(*now);
                    }
                }
                return Ok(bytes.len());
            }
            if !wait {
                return Err(EAGAIN);
            }
            let mut news = self.news.lock();
            while !news.ended && !news.branches.iter().any(|watched| watched.stale) {
                if self.bell.wait_interruptible(&mut news) {
                    return Err(ERESTARTSYS);
                }
            }
        }
    }

    fn poll(&self, file: &kernel::fs::File, table: PollTable<'_>) -> bool {
        table.register_wait(file, &self.bell);
        // What cannot be asked for lack of memory is asked by the next read.
        !matches!(self.look(usize::MAX), Ok((changed, false)) if changed.is_empty())
    }

    fn closed(&self) {
        let old = self.news.lock().daemon.take();
        drop(old);
    }
}

/// [`uapi::FHSM_FD`](crate::logic::uapi::FHSM_FD): a descriptor for the caller.
///
/// # Errors
///
/// `ENOTTY` unless asked of the root; `EINVAL` for other flags than `O_CLOEXEC` and `O_NONBLOCK`;
/// `EBUSY` if there is a descriptor. Who may ask is in [`crate::union::user::ioctl`].
pub(crate) fn open(file: &File<Union>, arg: usize) -> Result<isize> {
    if file.inode().ino() != ino::ROOT {
        return Err(ENOTTY);
    }
    let flags = u32::try_from(arg).map_err(|_| EINVAL)?;
    if flags & !(descriptor::O_CLOEXEC | feed::O_NONBLOCK) != 0 {
        return Err(EINVAL);
    }
    let info = file.inode().sb().data();
    if info.fhsm.get().is_none() {
        // Somebody else may be first.
        info.fhsm.set(Arc::pin_init(Fhsm::new(), GFP_KERNEL)?);
    }
    let fhsm = info.fhsm.get().ok_or(EIO)?;
    let reading = file.inode().sb().read();
    let section = reading.section();
    let branches = watched(section.table())?;
    let daemon = Process::current();
    let old = {
        let mut news = fhsm.news.lock();
        if news.daemon.is_some() {
            return Err(EBUSY);
        }
        news.daemon = Some(daemon);
        core::mem::replace(&mut news.branches, branches)
    };
    drop(old);
    drop(reading);
    // One that was made is closed by whoever fails after it.
    let mut made = false;
    let given = descriptor::give(flags, || {
        let file = feed::open(c"[aufs-fhsm]", fhsm.clone(), flags)?;
        made = true;
        Ok(file)
    });
    if given.is_err() && !made {
        fhsm.closed();
    }
    given
}
