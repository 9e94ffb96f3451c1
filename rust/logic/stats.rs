// SPDX-License-Identifier: GPL-2.0

//! What a union counts: the names of the counters, and what they say.

#![forbid(unsafe_code)]

/// A counter of a union, in the order in which they are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counter {
    /// Copies that were made.
    CopyUps,
    /// Their data.
    CopyUpBytes,
    /// The time they took.
    CopyUpTime,
    /// Files that were moved to a lower branch.
    MovesDown,
    /// Their data.
    MoveDownBytes,
    /// Names that the VFS asked for.
    Lookups,
    /// Those of them for which there was an index.
    IndexHits,
    /// Those for which there was none.
    IndexMisses,
    /// Indices that were made.
    IndexBuilds,
    /// Names that branches were asked for.
    BranchLookups,
    /// Merged listings that were made.
    Listings,
    /// Cached names that did not hold.
    StaleNames,
    /// Remounts that came through.
    Remounts,
    /// Callbacks that waited for a remount.
    GateWaits,
    /// How long they waited.
    GateWaitTime,
}

impl Counter {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::CopyUps,
        Self::CopyUpBytes,
        Self::CopyUpTime,
        Self::MovesDown,
        Self::MoveDownBytes,
        Self::Lookups,
        Self::IndexHits,
        Self::IndexMisses,
        Self::IndexBuilds,
        Self::BranchLookups,
        Self::Listings,
        Self::StaleNames,
        Self::Remounts,
        Self::GateWaits,
        Self::GateWaitTime,
    ];

    /// All of them, for who goes through them: out of line, as the loop would be unrolled.
    #[inline(never)]
    pub fn all() -> &'static [Self] {
        &Self::ALL
    }

    /// The word for it in `stats`. Programs know it: it stays.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CopyUps => "copy_ups",
            Self::CopyUpBytes => "copy_up_bytes",
            Self::CopyUpTime => "copy_up_ns",
            Self::MovesDown => "moves_down",
            Self::MoveDownBytes => "move_down_bytes",
            Self::Lookups => "lookups",
            Self::IndexHits => "index_hits",
            Self::IndexMisses => "index_misses",
            Self::IndexBuilds => "index_builds",
            Self::BranchLookups => "branch_lookups",
            Self::Listings => "listings",
            Self::StaleNames => "stale_names",
            Self::Remounts => "remounts",
            Self::GateWaits => "gate_waits",
            Self::GateWaitTime => "gate_wait_ns",
        }
    }
}

/// For tools.
#[cfg(not(CONFIG_RUST))]
impl Counter {
    /// What it counts.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::CopyUps => "objects that were copied up",
            Self::CopyUpBytes => "data that was read and written for that",
            Self::CopyUpTime => "time that this took",
            Self::MovesDown => "files that were moved to a lower branch",
            Self::MoveDownBytes => "data that was read and written for that",
            Self::Lookups => "names that were not in the kernel's cache",
            Self::IndexHits => "of these, in merged directories with an index",
            Self::IndexMisses => "of these, in merged directories without one",
            Self::IndexBuilds => "directories that were listed to make an index",
            Self::BranchLookups => "names that branches were asked for",
            Self::Listings => "directories that were listed and merged",
            Self::StaleNames => "names in the cache that did not hold any more",
            Self::Remounts => "remounts that came through",
            Self::GateWaits => "operations that waited for a remount",
            Self::GateWaitTime => "time that they waited",
        }
    }

    /// What may be behind it, or be done, if it is large. Empty if there is nothing to say.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::CopyUpBytes => {
                "a file is copied as a whole when it is opened for writing; event copy_up says which"
            }
            Self::IndexMisses => {
                "if most: branches change all the time, or few names are asked for in each directory"
            }
            Self::BranchLookups => {
                "if many for each look-up: directories have instances on many branches"
            }
            Self::Listings => "if many: branches change, or are listed after longer than rdcache=",
            Self::StaleNames => "somebody changes branches directly; event stale says where",
            Self::GateWaits => {
                "a remount waited for something slow, others for the remount; event remount times it"
            }
            _ => "",
        }
    }
}
