// SPDX-License-Identifier: GPL-2.0

//! Who uses a directory as a branch: all unions, in all namespaces, and programs.
//!
//! # Terms
//!
//! - *user*: a union, or a program that works on a branch which no union may have
//!   meanwhile (`/proc/fs/aufs/claim`).
//! - *claim*: what a user says of a directory: that it reads it, that it writes it, or
//!   that it wants to be alone. It ends with the branch, or with the program's file. One of a
//!   branch that is not written any more ends when the remount that says so is done, though who
//!   began to look at the branch before may still do so.
//! - *overlap*: one directory is the other one, or lies above or below it, on the same
//!   file system.
//!
//! A directory that a union writes is the writable branch of no other union: each would
//! remove what the other is making, and take its bookkeeping for its own. A writable branch
//! may lie below that of another union, which has bookkeeping of its own: bilibop-lockfs
//! makes such ones. Any number of unions may read a directory. Who wants to be alone gets
//! one that nobody even reads.
//!
//! All of it is in memory, so after a crash nothing is left. Overlayfs and we keep out of
//! each other's way by the mark that it has for this, `I_OVL_INUSE`: it is on the
//! directory of each claim but those of readers.
//!
//! # Locking
//!
//! [`Claims::all`] is a leaf. Nothing is allocated or dropped under it.

#![forbid(unsafe_code)]

use crate::fs::{
    base::task::{
        Name,
        Process, //
    },
    objects::path::Path, //
};
use kernel::{
    fmt,
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    str::BStr,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// What a claim is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A union reads the directory, or has said that it shares it.
    Read,
    /// A union writes it, and no other one does.
    Write,
    /// A program wants to be alone.
    Alone,
}

impl Purpose {
    /// How many there are.
    const COUNT: usize = 3;

    /// The place of its claims in [`Table::claims`].
    fn place(self) -> usize {
        match self {
            Purpose::Read => 0,
            Purpose::Write => 1,
            Purpose::Alone => 2,
        }
    }

    /// The purposes of claims that may be in its way.
    fn excludes(self) -> &'static [Purpose] {
        match self {
            Purpose::Read => &[Purpose::Alone],
            Purpose::Write => &[Purpose::Alone, Purpose::Write],
            Purpose::Alone => &[Purpose::Alone, Purpose::Write, Purpose::Read],
        }
    }
}

/// Who has a claim.
pub(crate) enum User {
    /// The union with this `si`.
    Union(u64),
    /// A program.
    Program(Process, Name),
}

impl User {
    /// Whether both are the same union. A remount has claims of the old state and of the new one.
    fn is_union_of(&self, other: &User) -> bool {
        matches!((self, other), (User::Union(a), User::Union(b)) if a == b)
    }
}

/// A directory, who uses it and what for.
struct Entry {
    path: Path,
    user: User,
    purpose: Purpose,
}

impl Entry {
    /// Whether both are of one directory.
    fn is_at(&self, other: &Entry) -> bool {
        self.path.dentry().is(other.path.dentry())
    }

    /// Whether both are of different users whose directories overlap.
    fn is_near(&self, other: &Entry) -> bool {
        !self.user.is_union_of(&other.user) && self.path.dentry().overlaps(other.path.dentry())
    }

    /// Whether `self` may not be while `other` is.
    fn conflicts(&self, other: &Entry) -> bool {
        let write = (self.purpose, other.purpose) == (Purpose::Write, Purpose::Write);
        self.is_near(other) && (!write || self.is_at(other))
    }
}

/// Why there cannot be a claim.
pub(crate) enum Refused {
    /// Somebody else has one.
    Other(Other),
    /// Overlayfs has the directory as its upper or work directory.
    Overlay,
    /// Something else went wrong.
    Error(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Error(error)
    }
}

impl From<kernel::alloc::AllocError> for Refused {
    fn from(error: kernel::alloc::AllocError) -> Self {
        Refused::Error(error.into())
    }
}

impl Refused {
    /// The error for the user.
    pub(crate) fn errno(&self) -> Error {
        match self {
            Refused::Error(error) => *error,
            _ => EBUSY,
        }
    }
}

impl Refused {
    /// What a message says of it.
    pub(crate) fn told(&self) -> Told<'_> {
        match self {
            Refused::Other(other) => other.told(),
            Refused::Overlay => Told::Overlay,
            Refused::Error(error) => Told::Error(*error),
        }
    }
}

/// A claim of somebody else that is in the way.
pub(crate) struct Other {
    entry: Arc<Entry>,
    /// It is of the same directory.
    same: bool,
}

impl Other {
    /// What `other` is to `entry`.
    fn of(entry: &Entry, other: Arc<Entry>) -> Self {
        let same = other.is_at(entry);
        Other { entry: other, same }
    }

    /// What a message says of it.
    pub(crate) fn told(&self) -> Told<'_> {
        let path = self.entry.path.to_bytes();
        Told::Other(self, path.unwrap_or(KVec::new()))
    }
}

/// What a message says of a refusal. All that takes memory or locks is done before: the log of the
/// kernel formats its messages with interrupts off (`vprintk_store()`).
pub(crate) enum Told<'a> {
    /// Somebody else has a claim of this path, which is empty if there was no memory for it.
    Other(&'a Other, KVec<u8>),
    /// See [`Refused::Overlay`].
    Overlay,
    /// See [`Refused::Error`].
    Error(Error),
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (other, path) = match self {
            Told::Other(other, path) => (other, path),
            Told::Overlay => return f.write_str("is in use as upperdir or workdir of overlayfs"),
            Told::Error(error) => return f.write_fmt(fmt!("cannot be claimed: {error:?}")),
        };
        let Entry { user, purpose, .. } = &*other.entry;
        let shown = BStr::from_bytes(path);
        let how = if other.same { "is" } else { "overlaps" };
        match (user, purpose) {
            (User::Union(si), Purpose::Write) => f.write_fmt(fmt!(
                "{how} a writable branch of the union si={si:x}: {shown}"
            )),
            (User::Union(si), _) => {
                f.write_fmt(fmt!("{how} a branch of the union si={si:x}: {shown}"))
            }
            (User::Program(process, name), _) => f.write_fmt(fmt!(
                "{how} a directory that process {} ({}) has claimed: {shown}",
                process.number(),
                BStr::from_bytes(name.bytes())
            )),
        }
    }
}

/// The claims, by their number.
struct Table {
    /// Those of each purpose.
    claims: [RBTree<u64, Arc<Entry>>; Purpose::COUNT],
    /// The number of the next one.
    next: u64,
}

impl Table {
    /// The claims for `purpose`.
    fn of(&self, purpose: Purpose) -> impl Iterator<Item = &Arc<Entry>> {
        self.claims
            .get(purpose.place())
            .into_iter()
            .flat_map(RBTree::values)
    }

    /// A claim that is in the way of `entry`.
    fn in_the_way(&self, entry: &Entry) -> Option<Arc<Entry>> {
        let excluded = entry.purpose.excludes().iter();
        let mut others = excluded.flat_map(|purpose| self.of(*purpose));
        others.find(|other| entry.conflicts(other)).cloned()
    }

    /// A writable branch of another union that overlaps with `entry`, if that is one, too.
    fn near(&self, entry: &Entry) -> Option<Arc<Entry>> {
        let mut others = self.of(Purpose::Write);
        let found = others.find(|other| entry.is_near(other))?;
        (entry.purpose == Purpose::Write).then(|| found.clone())
    }

    /// Whether the directory of `entry` has overlayfs's mark on behalf of a claim in the table.
    fn marks(&self, entry: &Entry) -> bool {
        let mut marking = Iterator::chain(self.of(Purpose::Write), self.of(Purpose::Alone));
        marking.any(|other| other.is_at(entry))
    }
}

/// All claims.
#[pin_data]
pub(crate) struct Claims {
    #[pin]
    all: Mutex<Table>,
}

impl Claims {
    /// None yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Claims {
            all <- new_mutex!(
                Table {
                    claims: [RBTree::new(), RBTree::new(), RBTree::new()],
                    next: 0,
                },
                "ruaufs_claims"
            ),
        })
    }
}

/// A claim. It ends when this is dropped.
pub(crate) struct Claim {
    number: u64,
    entry: Arc<Entry>,
    claims: Arc<Claims>,
}

impl Claim {
    /// Claims the directory `path`. Beside the claim it returns one of another union that writes
    /// above or below, too.
    pub(crate) fn new(
        claims: &Arc<Claims>,
        user: User,
        purpose: Purpose,
        path: &Path,
    ) -> Result<(Self, Option<Other>), Refused> {
        let path = path.clone();
        let entry = Entry {
            path,
            user,
            purpose,
        };
        let entry = Arc::new(entry, GFP_KERNEL_ACCOUNT)?;
        let room = RBTreeNode::new(0, entry.clone(), GFP_KERNEL_ACCOUNT)?.into_reservation();
        let inode = entry.path.dentry().positive()?;

        let mut table = claims.all.lock();
        let refused = if let Some(other) = table.in_the_way(&entry) {
            Some(Refused::Other(Other::of(&entry, other)))
        } else if purpose != Purpose::Read && !table.marks(&entry) && !inode.set_in_use() {
            Some(Refused::Overlay)
        } else {
            None
        };
        if let Some(refused) = refused {
            drop(table);
            return Err(refused);
        }
        let number = table.next;
        table.next = number.wrapping_add(1);
        if let Some(tree) = table.claims.get_mut(purpose.place()) {
            tree.insert(room.into_node(number, entry.clone()));
        }
        let near = table.near(&entry);
        drop(table);
        let near = near.map(|other| Other::of(&entry, other));
        let claims = claims.clone();
        let claim = Claim {
            number,
            entry,
            claims,
        };
        Ok((claim, near))
    }

    /// Whether it is for the directory `root`.
    pub(crate) fn is_for(&self, root: &Path) -> bool {
        self.entry.path.dentry().is(root.dentry())
    }

    /// The identity of the union that has it; 0 if a program does.
    pub(crate) fn union(&self) -> u64 {
        match self.entry.user {
            User::Union(si) => si,
            User::Program(..) => 0,
        }
    }

    /// What it is for.
    pub(crate) fn purpose(&self) -> Purpose {
        self.entry.purpose
    }

    /// Ends it before it is dropped, whoever still refers to what was claimed.
    pub(crate) fn end(&self) {
        let purpose = self.entry.purpose;
        let mut table = self.claims.all.lock();
        let tree = table.claims.get_mut(purpose.place());
        let node = tree.and_then(|tree| tree.remove_node(&self.number));
        if node.is_some() && purpose != Purpose::Read && !table.marks(&self.entry) {
            if let Some(inode) = self.entry.path.dentry().inode() {
                inode.clear_in_use();
            }
        }
        drop(table);
        drop(node);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.end();
    }
}
