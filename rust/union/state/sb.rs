// SPDX-License-Identifier: GPL-2.0

//! The state of a mounted union.

#![forbid(unsafe_code)]

use super::{
    fhsm::Fhsm,
    moves::Moves,
    places::Places,
    running::Running, //
};
use crate::fs::{
    access::notify::Group,
    base::{
        once::{
            load_acquire,
            Late, //
        },
        worker::Worker, //
    },
    objects::{
        cred::Cred,
        section::{
            Closed,
            Replaced, //
        }, //
    }, //
};
use crate::logic::{
    name::Name,
    options::Settings, //
};
use crate::union::{
    branches::{
        askers::Askers,
        branch::BranchTable,
        ino::InoTable,
        marks::Marks,
        space::Space,
        stats::Stats,
        whiteout, //
    },
    objects::kept::Plinks,
    types::{
        Section,
        Union, //
    },
    views::{
        debugfs,
        plink_maint::Registered,
        sysfs::Views, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed,
            Release, //
        },
        Arc,
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
    /// Who gives objects their places now.
    #[pin]
    pub(crate) places: Places,
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
            places <- Places::new(),
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

    /// What marks the inodes that an attempt to change branches looked at.
    pub(crate) fn next_round(&self) -> u32 {
        self.rounds.fetch_add(1, Relaxed).wrapping_add(1)
    }

    /// A temporary name for something like `name`, not used before for a while.
    pub(crate) fn temp_name(&self, name: &[u8]) -> Result<Name> {
        // CAST: The lower half is what is wanted.
        whiteout::temp(name, self.temp.fetch_add(1, Relaxed) as u16)
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
