// SPDX-License-Identifier: GPL-2.0

//! The state of a mounted union.

#![forbid(unsafe_code)]

use super::{
    fhsm::Fhsm,
    running::Running, //
};
use crate::fs::{
    access::{
        io,
        notify::Group,
        statfs::Statfs, //
    },
    base::{
        once::{
            load_acquire,
            Late, //
        },
        seq::Seq,
        worker::Worker, //
    },
    callbacks::context::Context,
    objects::{
        cred::Cred,
        inode::Dying,
        path::PrivatePath,
        sb::Operations,
        section::{
            Alone,
            Closed,
            Replaced, //
        }, //
    }, //
};
use crate::logic::{
    options::Settings,
    whname, //
};
use crate::union::{
    branches::{
        askers::Askers,
        branch::{
            Branch,
            BranchTable,
            Slot,
            Slots, //
        },
        claim::Claim,
        ino::InoTable,
        marks::Marks,
        space::Space,
        stats::Stats,
        whiteout, //
    },
    change::dirren,
    files::handle::Moves,
    mount::{
        draft::text,
        options::{
            First,
            Options, //
        }, //
    },
    objects::object,
    plink::{
        self,
        Plinks, //
    },
    views::{
        debugfs,
        plink_maint::Registered,
        sysfs::Views, //
    },
    Inode,
    Section,
    SuperBlock,
    Union, //
};
use crate::warn_limited;
use core::pin::Pin;
use kernel::{
    prelude::*,
    static_lock_class,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed,
            Release, //
        },
        Arc,
        LockClassKey,
        Mutex,
        SetOnce, //
    }, //
};

/// The state of a mounted union.
#[pin_data]
pub(crate) struct SbInfo {
    /// A branch wants its objects copied when they are opened.
    copies_on_open: Atomic<bool>,
    /// The credentials that all work on branches uses.
    pub(crate) cred: Arc<Cred>,
    /// The name of the type it was mounted as is `aufs`.
    pub(crate) as_aufs: bool,
    /// The identity of the mount, shown as `si=`.
    pub(crate) si: u64,
    /// The exceptions of inode numbers.
    #[pin]
    pub(crate) ino: InoTable,
    /// Inodes that are kept for their pseudo-links.
    pub(crate) plinks: Arc<Plinks>,
    /// Whether they are being maintained.
    pub(crate) maintenance: Registered,
    /// Its directory in sysfs.
    #[pin]
    pub(crate) views: Views,
    /// Its files in debugfs.
    pub(crate) debug: debugfs::Files,
    /// How full branches are, for a daemon, once one has asked.
    pub(crate) fhsm: Late<Arc<Fhsm>>,
    /// What create policies remember.
    #[pin]
    pub(crate) space: Space,
    /// Removes directories that are out of the way already (`dirwh=`).
    pub(crate) worker: Worker,
    /// Asks branches that may not answer.
    pub(crate) askers: Arc<Askers>,
    /// What became of objects that have file handles.
    #[pin]
    pub(crate) moves: Moves,
    /// Held while a rename takes the place of an object, and while a promotion publishes its
    /// copy under a name: so neither gets into the other's way.
    #[pin]
    pub(crate) replace: Mutex<()>,
    /// With `udba=notify`, those that watch branches.
    watchers: SetOnce<Group>,
    /// What is known of marks in directories of branches.
    pub(crate) marks: Arc<Marks>,
    /// Copies that take long.
    #[pin]
    pub(crate) running: Running,
    /// Counts temporary names.
    temp: Atomic<u32>,
    /// Counts attempts to change branches.
    rounds: Atomic<u32>,
    /// Counts what remounts found out about names.
    pub(crate) known: Atomic<u32>,
}

/// A lock class for each depth of stacking: a union on a union takes both locks.
fn replace_class(depth: i32) -> Pin<&'static LockClassKey> {
    if depth <= 1 {
        static_lock_class!()
    } else {
        static_lock_class!()
    }
}

/// What a remount may change.
pub(crate) struct Shape {
    /// The branches.
    pub(crate) table: BranchTable,
    /// The options that are no branches.
    pub(crate) settings: Settings,
}

impl Shape {
    /// Whether the file system of a branch wants to be asked about its names itself, as those do
    /// that are not local.
    pub(crate) fn is_remote(&self) -> bool {
        let mut branches = self.table.order.iter();
        branches.any(|branch| branch.root.dentry().is_remote())
    }

    /// Whether a branch wants its objects copied when they are opened.
    fn copies_on_open(&self) -> bool {
        self.table
            .order
            .iter()
            .any(|branch| branch.access.attrs.on_open().is_some())
    }
}

impl SbInfo {
    /// The state of a union about to be mounted.
    pub(crate) fn new(
        shape: &Shape,
        cred: Arc<Cred>,
        as_aufs: bool,
        depth: i32,
        (views, debug): (impl PinInit<Views>, debugfs::Files),
        maintenance: Registered,
    ) -> impl PinInit<Self, Error> {
        let si = maintenance.si();
        // CAST: Any beginning will do; two unions on one branch should differ.
        let start = si as u32;
        let copies_on_open = shape.copies_on_open();
        let askers = maintenance.global.askers.clone();
        try_pin_init!(SbInfo {
            copies_on_open: Atomic::new(copies_on_open),
            cred,
            as_aufs,
            si,
            ino <- InoTable::new()?,
            plinks: maintenance.links.clone(),
            maintenance,
            views <- views,
            debug,
            fhsm: Late::new(),
            space <- Space::new(),
            worker: Worker::new(1)?,
            askers,
            moves <- Moves::new(),
            replace <- Mutex::new((), c"ruaufs_replace", replace_class(depth)),
            watchers: SetOnce::new(),
            marks: Arc::new(Marks::new()?, GFP_KERNEL)?,
            running <- Running::new(),
            temp: Atomic::new(start),
            rounds: Atomic::new(0),
            known: Atomic::new(1),
        })
    }

    /// What it counts.
    #[inline]
    pub(crate) fn stats(&self) -> &Stats {
        self.debug.stats()
    }

    /// Those that watch branches; they are made at the first need.
    pub(crate) fn watchers(&self) -> Result<&Group> {
        if self.watchers.as_ref().is_none() {
            // Somebody else may be first.
            self.watchers.populate(Group::new()?);
        }
        self.watchers.as_ref().ok_or(EIO)
    }

    /// Whether a branch wants its objects copied when they are opened.
    pub(crate) fn copies_on_open(&self) -> bool {
        load_acquire(&self.copies_on_open)
    }

    /// The union leaves `branch`, or writes it no more: brings to it what is only in memory; if it
    /// `gives_up` what it has there, bookkeeping objects are removed. If the branch does not
    /// answer, or is frozen, that goes on after this call, and keeps the branch in use. Ends
    /// `claim` then.
    pub(crate) fn leave(&self, branch: &Arc<Branch>, gives_up: bool, claim: Option<Arc<Claim>>) {
        let end = move || claim.iter().for_each(|claim| claim.end());
        if !gives_up && !dirren::is_stale(branch) && !branch.plinks.has_unstored() {
            return end();
        }
        let (cred, left) = (self.cred.clone(), branch.clone());
        let tidy = move |root: &PrivatePath| {
            if gives_up {
                whiteout::give_up(root);
            }
            dirren::flush_logged(&cred, &left);
            plink::flush_logged(&cred, &left);
            end();
        };
        if let Err(error) = self.askers.tidy(&self.cred, &branch.root, tidy) {
            warn_limited!(
                "branch {}: what was still to be written to it is lost: {:?}\n",
                text(&branch.shown.to_bytes().unwrap_or_default()),
                error
            );
        }
    }

    /// What marks the inodes that an attempt to change branches looked at.
    pub(crate) fn next_round(&self) -> u32 {
        self.rounds.fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// A temporary name for something like `name`, not used before for a while.
    pub(crate) fn temp_name(&self, name: &[u8]) -> Result<whname::Name> {
        // CAST: The lower half is what is wanted.
        whname::temp(name, self.temp.fetch_add(1, Relaxed) as u16)
    }
}

impl<'r> Section<'r> {
    /// The branches.
    #[inline]
    pub(crate) fn table(self) -> &'r BranchTable {
        &self.shape().table
    }

    /// The options that are no branches.
    #[inline]
    pub(crate) fn settings(self) -> &'r Settings {
        &self.shape().settings
    }
}

/// Other branches and options from now on. Who looks at the old ones may go on.
pub(crate) fn reshape(closed: Closed<'_, Union>, shape: Arc<Shape>) -> Replaced<'_, Union> {
    let copies = &closed.sb().data().copies_on_open;
    copies.store(shape.copies_on_open(), Release);
    closed.replace(shape)
}

/// The instances of the root: the roots of the branches of `table`, down to an opaque one, as
/// `is_opaque` says.
pub(crate) fn root_slots(
    table: &BranchTable,
    is_opaque: &mut dyn FnMut(&Arc<Branch>) -> Result<bool>,
) -> Result<Slots> {
    let mut slots = Slots::new();
    for branch in table.order.iter() {
        slots.push(Slot::new(branch.clone(), branch.root.dentry().clone()))?;
        if is_opaque(branch)? {
            break;
        }
    }
    Ok(slots)
}

/// Whether the root of `branch`, which answers, is opaque. The mounter's credentials are in force.
pub(crate) fn is_opaque(branch: &Arc<Branch>) -> Result<bool> {
    whiteout::hides_below(branch, branch.root.dentry(), whname::OPAQUE)
}

impl Operations for Union {
    fn root(
        context: &Context<'_>,
        options: &mut Options,
        alone: &Alone<'_, Union>,
    ) -> Result<ARef<Inode>> {
        let section = alone.section();
        // Undone, unless all goes well.
        let First { slots, made } = options.begin(context, section)?;
        let root = object::get_root(section, slots)?;
        made.keep();
        Ok(root)
    }

    fn statfs(section: Section<'_>) -> Result<Statfs> {
        let order = &section.table().order;
        let top = order.first().ok_or(EIO)?;
        let mut total = Statfs::of(top.root.here())?;
        if section.settings().sum {
            for (i, branch) in order.iter().enumerate() {
                // Each file system counts once.
                if !order
                    .iter()
                    .take(i.max(1))
                    .any(|other| other.fs == branch.fs)
                {
                    total.add(&Statfs::of(branch.root.here())?);
                }
            }
        }
        total.magic = crate::union::MAGIC;
        total.name_max = whname::NAME_MAX as u64;
        total.id = section.sb().device();
        Ok(total)
    }

    fn sync(sb: &SuperBlock) -> Result {
        let mut written: KVec<Arc<Branch>> = KVec::new();
        {
            let reading = sb.read();
            for branch in reading.section().table().order.iter() {
                // Each file system once.
                let known = written.iter().any(|other| other.fs == branch.fs);
                if branch.was_written && !known {
                    written.push(branch.clone(), GFP_KERNEL)?;
                }
            }
        }
        let mut result = Ok(());
        for branch in written {
            // One that fails does not keep the others from being written.
            if let Err(error) = io::sync_fs(branch.root.here()) {
                result = Err(error);
            }
        }
        // Those of earlier on, too, and those of a branch that was writable once.
        let reading = sb.read();
        for branch in reading.section().table().order.iter() {
            branch.tell_errors(sb);
        }
        result
    }

    fn unmount(alone: &Alone<'_, Union>) {
        let section = alone.section();
        let info = section.data();
        info.views.remove();
        if let Some(fhsm) = info.fhsm.get() {
            fhsm.end();
        }
        info.worker.wait();
        for branch in section.table().order.iter() {
            info.leave(branch, false, None);
        }
        info.maintenance.end();
    }

    fn dies(dying: &Dying<'_, Union>) {
        if dying.nlink() == 0 {
            dying.state().moves.forget(dying.ino());
        }
        dying.data().release();
    }

    fn show_options(section: Section<'_>, out: &Seq<'_>) -> Result {
        crate::union::mount::show::options(section, out)
    }
}
