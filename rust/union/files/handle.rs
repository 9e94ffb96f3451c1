// SPDX-License-Identifier: GPL-2.0

//! File handles: what `name_to_handle_at(2)` and fanotify name objects by.
//!
//! # What a handle says
//!
//! It names the instance that gave the object its inode number: the *origin*. So
//! it stays the same when the object is copied up, moved or forgotten, and so does
//! what a client took it for. [`crate::logic::handle`] has the layout.
//!
//! Nothing but the branch's file system says what a handle there leads to, and that
//! holds more than the branch: what lies beside it, bookkeeping, objects that the
//! union hides. And anybody may change a handle. So an instance that a handle leads
//! to counts only if the union shows the object, which is seen under one of its
//! names. For a directory the file system finds that. The handle of a file with one
//! name has its directory on the branch in it (the *hint*), in which its name is
//! found again. What has several names, or is on a writable branch, where it may be
//! moved to another directory, has a *seal* ([`crate::union::branches::seal`]): the union gave this
//! handle, so it showed the object then. On the topmost branch, which is writable,
//! nothing hides an object but the union itself, which removes it: a sealed handle
//! of such a file needs no name, unless the branch is so small that looking for one
//! costs nothing. It has no hint either, and stays the same when the file is moved.
//!
//! # How it is resolved
//!
//! handle - instance on its branch - [`Moves`]: is it another one now? - the inode,
//! if it is in memory, or what the union shows under a name of the instance: one in
//! memory, in the directory of the hint, or, if the handle is sealed, anywhere on the
//! branch. No name: `ESTALE`, but see above.
//!
//! # What is remembered
//!
//! From the first use of a handle on, [`Moves`] says of each object that is copied
//! up what its origin was and where it is now. It ends with the mount: afterwards
//! a handle of an object that was copied up, by then, leads nowhere (`ESTALE`).
//!
//! # Locking
//!
//! [`Moves`] is a leaf lock, which an inode that is freed takes: that may be to win memory
//! for somebody. So nothing is allocated under it, in whatever context a handle is made:
//! what is to be added is made before, and what is asked for is counted, not copied.
//! A handle is resolved without a lock, since names are looked up.

#![forbid(unsafe_code)]

use crate::fs::{
    access::{
        dirop,
        export::{
            self,
            Operations, //
        },
        io::{
            self,
            KernelFile, //
        }, //
    },
    base::{
        gate::Doing,
        once::load_acquire, //
    },
    objects::inode::Candidate, //
};
use crate::logic::{
    handle::{
        self,
        Object,
        Part,
        Target,
        MAX_WORDS, //
    },
    hash::Key,
    ino,
    whname, //
};
use crate::union::{
    branches::{
        branch::{
            Branch,
            BranchTable,
            Slot,
            Slots, //
        },
        seal, //
    },
    objects::object,
    state::sb::SbInfo,
    Dentry,
    Inode,
    LowerDentry,
    LowerInode,
    Section,
    SuperBlock,
    Union, //
};
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Release, //
        },
        Arc,
        Mutex,
        UniqueArc, //
    }, //
};

/// What became of an object since its number was given.
enum Move {
    /// It was copied up: the handle of its origin, and the one of its instance now.
    Copied(Arc<KVec<u32>>, Arc<KVec<u32>>),
    /// Its last name is hidden, though the branch still has the object.
    Hidden,
}

/// What became of objects, by their number.
#[pin_data]
pub(crate) struct Moves {
    #[pin]
    moves: Mutex<RBTree<u64, Move>>,
    /// Whether a handle was ever made or resolved: before that nobody can ask.
    used: Atomic<bool>,
    /// What handles are sealed with if no branch has a key: it ends with the mount.
    key: Key,
}

/// Room for a [`Move`], taken before a change that must not fail after it.
pub(crate) struct Room {
    node: RBTreeNode<u64, Move>,
    origin: Arc<KVec<u32>>,
    now: UniqueArc<KVec<u32>>,
}

impl Moves {
    /// None yet.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Moves {
            moves <- new_mutex!(RBTree::new(), "ruaufs_moves"),
            used: Atomic::new(false),
            key: seal::random(),
        })
    }

    /// Takes room for the copy-up of `inode`; `None` if nobody needs to know of it.
    pub(crate) fn reserve(&self, section: Section<'_>, inode: &Inode) -> Result<Option<Room>> {
        if !load_acquire(&self.used) {
            return Ok(None);
        }
        let mut origin = KVec::new();
        match Union::encode(section, inode, &mut origin) {
            // What cannot have a handle needs no note.
            Err(error) if error == EOPNOTSUPP || error == EOVERFLOW => return Ok(None),
            other => other?,
        }
        Ok(Some(Room {
            node: RBTreeNode::new(0, Move::Hidden, GFP_KERNEL_ACCOUNT)?,
            origin: Arc::new(origin, GFP_KERNEL_ACCOUNT)?,
            now: UniqueArc::new(
                KVec::with_capacity(MAX_WORDS, GFP_KERNEL_ACCOUNT)?,
                GFP_KERNEL_ACCOUNT,
            )?,
        }))
    }

    /// Takes room for a move of `inode` to a lower branch. `None` if it was never copied up: then
    /// its handle names the instance that goes, and is stale; the next one names the new instance.
    pub(crate) fn reserve_again(
        &self,
        section: Section<'_>,
        inode: &Inode,
    ) -> Result<Option<Room>> {
        let noted = matches!(self.moves.lock().get(&inode.ino()), Some(Move::Copied(..)));
        if noted {
            self.reserve(section, inode)
        } else {
            Ok(None)
        }
    }

    /// `inode` was copied up, or moved down, to `slot`.
    pub(crate) fn copied(&self, section: Section<'_>, room: Room, inode: &Inode, slot: &Slot) {
        let Room {
            node,
            origin,
            mut now,
        } = room;
        let written = slot.inode().and_then(|lower| {
            let info = inode.sb().data();
            write(
                section,
                info,
                slot,
                lower,
                &mut [0; 2 * MAX_WORDS],
                &mut now,
            )
        });
        if let Err(error) = written {
            pr_debug!(
                "inode {} has no handle any more: {:?}\n",
                inode.ino(),
                error
            );
            now.truncate(0);
        }
        let node = node
            .into_reservation()
            .into_node(inode.ino(), Move::Copied(origin, now.into()));
        let old = self.moves.lock().insert(node);
        drop(old);
    }

    /// The last name of `inode` is gone. If its instance is still there, under a whiteout, it must
    /// not be found any more.
    pub(crate) fn removed(&self, section: Section<'_>, inode: &Inode) {
        if !load_acquire(&self.used) {
            return;
        }
        let remains = inode.stack(section).is_ok_and(|stack| {
            !stack.writable() && !inode.is_dir() && stack.top_inode().nlink() > 1
        });
        if remains {
            // Without memory for the note the object can be found until the mount ends.
            let node = RBTreeNode::new(inode.ino(), Move::Hidden, GFP_KERNEL_ACCOUNT);
            let old = node.ok().and_then(|node| self.moves.lock().insert(node));
            drop(old);
        }
    }

    /// `inode`, which has no name, leaves the memory: nobody can ask for it any more.
    pub(crate) fn forget(&self, number: u64) {
        if !load_acquire(&self.used) {
            return;
        }
        let mut moves = self.moves.lock();
        let old = match moves.get(&number) {
            Some(Move::Copied(..)) => moves.remove_node(&number),
            _ => None,
        };
        drop(moves);
        drop(old);
    }

    /// The origin of the object `number`, appended to `out`. Whether there is a note of it.
    fn origin(&self, number: u64, out: &mut KVec<u32>) -> Result<bool> {
        if !load_acquire(&self.used) {
            return Ok(false);
        }
        let origin = match self.moves.lock().get(&number) {
            Some(Move::Copied(origin, _)) => origin.clone(),
            _ => return Ok(false),
        };
        out.extend_from_slice(&origin, GFP_KERNEL)?;
        Ok(true)
    }

    /// The handle of the instance that the object `number` has now, if it is another one than in
    /// the beginning.
    fn now(&self, number: u64) -> Result<Option<Arc<KVec<u32>>>> {
        match self.moves.lock().get(&number) {
            None => Ok(None),
            Some(Move::Hidden) => Err(ESTALE),
            Some(Move::Copied(_, now)) if now.is_empty() => Err(ESTALE),
            Some(Move::Copied(_, now)) => Ok(Some(now.clone())),
        }
    }
}

/// What tells `branch` from others also after the next mount.
fn tag(branch: &Branch) -> Result<u32> {
    let identity = export::identity(branch.root_inode()?);
    Ok(Key(0, 0).hash(&identity))
}

/// The branch that `object` speaks of.
fn branch_of<'a>(table: &'a BranchTable, object: &Object<'_>) -> Result<&'a Arc<Branch>> {
    let mut alike = None;
    let mut unclear = false;
    for branch in table.order.iter() {
        if tag(branch)? != object.tag {
            continue;
        }
        if branch.id.number() == object.branch {
            return Ok(branch);
        }
        // Of several that look the same only the identity can tell.
        unclear = alike.replace(branch).is_some();
    }
    alike.filter(|_| !unclear).ok_or(ESTALE)
}

/// Whether `branch` is the topmost one and written by the union alone: nothing hides what is there,
/// and what is removed is gone.
fn is_plain_top(table: &BranchTable, branch: &Branch) -> bool {
    let top = table.order.first();
    branch.access.may_write() && top.is_some_and(|top| top.id == branch.id)
}

/// Appends the handle of `lower`, the instance `slot`, to `out`. `words` is for use on the way.
fn write(
    section: Section<'_>,
    info: &SbInfo,
    slot: &Slot,
    lower: &LowerInode,
    words: &mut [u32],
    out: &mut KVec<u32>,
) -> Result {
    let branch = slot.branch();
    let (kind, len) = export::encode(lower, words)?;
    let (object, rest) = words.split_at_mut_checked(len).ok_or(EOVERFLOW)?;
    let mut object = Object {
        branch: branch.id.number(),
        tag: tag(branch)?,
        object: Part {
            kind,
            words: object,
        },
        dir: None,
        seal: None,
    };
    if !lower.is_dir() {
        let one_name = lower.nlink() == 1;
        if branch.access.may_write() || !one_name {
            let key = seal::current(section.table()).map(|(_, key)| key.key());
            object.seal = Some(object.seal_by(key.unwrap_or(info.moves.key)));
        }
        if one_name && !is_plain_top(section.table(), branch) {
            let parent = slot.dentry().parent();
            let (kind, len) = export::encode(parent.positive()?, rest)?;
            object.dir = Some(Part {
                kind,
                words: rest.get(..len).ok_or(EOVERFLOW)?,
            });
        }
    }
    Target::Object(object).write(out)
}

/// What a handle has to show for itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// Anybody may have made it.
    Forged,
    /// The union gave it.
    Given,
    /// The union gave it, when the branch itself was the topmost writable one.
    GivenByBranch,
}

impl Trust {
    /// What `object`, of `branch`, has to show.
    fn of(section: Section<'_>, info: &SbInfo, branch: &Branch, object: &Object<'_>) -> Self {
        if object.seal.is_none() {
            return Trust::Forged;
        }
        let is_by = |branch: &Branch| {
            let key = branch.key.as_ref();
            key.is_some_and(|key| object.is_sealed_by(key.key()))
        };
        if is_by(branch) {
            Trust::GivenByBranch
        } else if object.is_sealed_by(info.moves.key)
            || section.table().order.iter().any(|branch| is_by(branch))
        {
            Trust::Given
        } else {
            Trust::Forged
        }
    }
}

/// An instance that a handle leads to. It need not be one that the union shows.
struct Found<'a> {
    sb: &'a SuperBlock,
    // Before the branch, which keeps its file system mounted.
    lower: ARef<LowerDentry>,
    /// The directory that it is said to be in.
    hint: Option<ARef<LowerDentry>>,
    branch: Arc<Branch>,
    /// The number of the object it belongs to; `None` if the union never met it.
    number: Option<u64>,
    trust: Trust,
}

impl<'a> Found<'a> {
    /// The instance that `object` stands for, or the one that took its place.
    fn new(sb: &'a SuperBlock, object: &Object<'_>) -> Result<Self> {
        let info = sb.data();
        let first = Self::on(sb, object)?;
        let now = match first.number {
            Some(number) => info.moves.now(number)?,
            None => None,
        };
        let Some(words) = now else {
            return Ok(first);
        };
        let Some((Target::Object(object), _)) = handle::parse(&words) else {
            return Err(ESTALE);
        };
        Ok(Found {
            number: first.number,
            // It was in memory.
            trust: Trust::GivenByBranch,
            ..Self::on(sb, &object)?
        })
    }

    /// The instance that `object` stands for. File systems take their time: it is no read section.
    fn on(sb: &'a SuperBlock, object: &Object<'_>) -> Result<Self> {
        let info = sb.data();
        let (branch, trust) = {
            let reading = sb.read();
            let section = reading.section();
            let branch = branch_of(section.table(), object)?;
            (branch.clone(), Trust::of(section, info, branch, object))
        };
        let root = branch.root.here();
        let Part { kind, words } = object.object;
        let lower = export::decode(root, kind, words)?;
        let hint = match &object.dir {
            Some(dir) if !lower.is_dir() => match export::decode(root, dir.kind, dir.words) {
                // Removed, after the object was moved to another one.
                Err(error) if error == ESTALE => None,
                other => Some(other?),
            },
            _ => None,
        };
        // What is no directory may be anything, anywhere: it is not opened.
        let hint = hint.filter(|hint| hint.is_dir());
        Ok(Found {
            number: info.ino.known(&branch, &lower)?,
            sb,
            lower,
            hint,
            branch,
            trust,
        })
    }

    fn lower_inode(&self) -> Result<&LowerInode> {
        self.lower.inode().ok_or(ESTALE)
    }

    /// Whether `inode` is the object.
    fn is(&self, section: Section<'_>, inode: Candidate<'_, Union>) -> bool {
        let Some(lower) = self.lower.inode() else {
            return false;
        };
        if !inode.is_dir() {
            return self.number == Some(inode.ino()) || inode.ever_led_to(section, lower);
        }
        leads_to(section, inode, lower)
    }

    /// The object, if it is in memory: then the union shows it, or did when it was opened.
    fn cached(&self) -> Result<Option<ARef<Dentry>>> {
        let Some(number) = self.number else {
            return Ok(None);
        };
        let inode = {
            // Not beside a remount, which takes stacks out of what inodes remember.
            let entered = self.sb.enter(Doing::LookUp);
            let section = entered.section();
            Inode::find_cached(self.sb, number, |inode| self.is(section, inode))
        };
        match inode {
            Some(inode) if !inode.is_dir() => Ok(Some(Dentry::of(inode)?)),
            Some(inode) => Ok(inode.alias()),
            None => Ok(None),
        }
    }

    /// What the union shows where the branch has `name`, if that is the object.
    fn at(&self, name: &LowerDentry) -> Result<Option<ARef<Dentry>>> {
        /// A rename may be half done: then the names are others a moment later.
        const TRIES: usize = 4;
        let mut before = KVec::new();
        for _ in 0..TRIES {
            let (dir, names) = match self.way(name) {
                Err(error) if error == ESTALE => return Ok(None),
                other => other?,
            };
            if names == before {
                break;
            }
            match walk(dir, &names) {
                Ok(dentry) => {
                    let entered = self.sb.enter(Doing::LookUp);
                    let section = entered.section();
                    if dentry
                        .inode()
                        .is_some_and(|inode| self.is(section, inode.into()))
                    {
                        return Ok(Some(dentry));
                    }
                }
                Err(error) if stale(error) != ESTALE => return Err(error),
                Err(_) => {}
            }
            before = names;
        }
        Ok(None)
    }

    /// The names that lead to `name`, the last one first, from the next directory that is in memory
    /// on.
    fn way(&self, name: &LowerDentry) -> Result<(ARef<Dentry>, KVec<KVec<u8>>)> {
        let mut names = KVec::new();
        let mut here: ARef<LowerDentry> = name.into();
        while !here.is(self.branch.root.dentry()) {
            if here.is_root() || io::killed() {
                return Err(if here.is_root() { ESTALE } else { EINTR });
            }
            names.push(here.name()?, GFP_KERNEL)?;
            here = here.parent();
            if let Some(dentry) = self.cached_dir(&here)? {
                return Ok((dentry, names));
            }
        }
        Ok((self.sb.root().ok_or(ESTALE)?, names))
    }

    /// The directory of the union that `lower`, one of the branch, is part of, if it is in memory.
    fn cached_dir(&self, lower: &LowerDentry) -> Result<Option<ARef<Dentry>>> {
        let (Some(number), Some(inode)) = (
            self.sb.data().ino.known(&self.branch, lower)?,
            lower.inode(),
        ) else {
            return Ok(None);
        };
        let reading = self.sb.read();
        let section = reading.section();
        let dir = Inode::find_cached(self.sb, number, |dir| {
            dir.is_dir() && leads_to(section, dir, inode)
        });
        Ok(dir.and_then(|dir| dir.alias()))
    }

    /// The object under a name that is in memory, or in the directory that the handle names.
    /// Whether there was any name instead, which does not lead to it.
    fn under_known_name(&self) -> Result<(Option<ARef<Dentry>>, bool)> {
        let mut elsewhere = false;
        for name in self.lower_inode()?.names()? {
            let Some(place) = self.place_of(&name) else {
                continue;
            };
            if place == Place::Inside {
                if let Some(dentry) = self.at(&name)? {
                    return Ok((Some(dentry), false));
                }
            }
            elsewhere = true;
        }
        let Some(dir) = &self.hint else {
            return Ok((None, elsewhere));
        };
        let named = self
            .sb
            .data()
            .cred
            .scope(|| named(&self.branch, dir, self.lower_inode()?))?;
        match named {
            Some(name) => Ok((self.at(&name)?, true)),
            None => Ok((None, elsewhere)),
        }
    }

    /// Where `name` is; `None` if that says nothing about where the object is.
    fn place_of(&self, name: &LowerDentry) -> Option<Place> {
        let root = self.branch.root.dentry();
        if name.is_below(&**root) {
            let work = self.branch.work.as_ref();
            // Names of the object may be on other branches.
            let spare = work.is_some_and(|work| name.parent().is(&*work.plinks));
            return (!spare).then_some(Place::Inside);
        }
        // Of a directory that is no part of the tree yet nothing is known.
        let mut top: ARef<LowerDentry> = name.into();
        while !top.is_root() {
            top = top.parent();
        }
        top.is_top_of_file_system().then_some(Place::Outside)
    }

    /// Whether the object needs no name: it is one that the union showed on its topmost branch, and
    /// nothing hides or removes what is there but the union itself.
    fn may_be_alone(&self) -> bool {
        let reading = self.sb.read();
        let section = reading.section();
        self.trust == Trust::GivenByBranch && is_plain_top(section.table(), &self.branch)
    }

    /// The object without a name.
    fn alone(&self) -> Result<ARef<Dentry>> {
        let entered = self.sb.enter(Doing::LookUp);
        let section = entered.section();
        let info = self.sb.data();
        if !is_plain_top(section.table(), &self.branch) {
            return Err(ESTALE);
        }
        let slot = Slot::new(self.branch.clone(), self.lower.clone());
        let inode = info.cred.scope(|| object::get(section, Slots::one(slot)))?;
        Dentry::of(inode)
    }

    /// Whether the branch keeps the object for names of it on other branches.
    fn has_pseudo_link(&self) -> Result<bool> {
        let Some(work) = &self.branch.work else {
            return Ok(false);
        };
        let info = self.sb.data();
        let found = info
            .cred
            .scope(|| named(&self.branch, &work.plinks, self.lower_inode()?))?;
        Ok(found.is_some())
    }

    /// The object under any name that it has on the branch, or without one.
    fn anywhere(&self) -> Result<ARef<Dentry>> {
        /// Entries that are listed for an object that needs no name: if the branch has no more, it
        /// is seen that the object is there.
        const FEW: usize = 1 << 12;
        /// Entries that are listed for others.
        const MANY: usize = 1 << 22;

        let may_be_alone = self.may_be_alone();
        let most = if may_be_alone { FEW } else { MANY };
        let info = self.sb.data();
        let (names, all) = info
            .cred
            .scope(|| search(&self.branch, self.lower_inode()?, most))?;
        for name in names.iter() {
            if let Some(dentry) = self.at(name)? {
                return Ok(dentry);
            }
        }
        // It may have been moved from where nobody had looked yet to where somebody had.
        if let (Some(dentry), _) = self.under_known_name()? {
            return Ok(dentry);
        }
        if may_be_alone && (!all || self.has_pseudo_link()?) {
            return self.alone();
        }
        Err(ESTALE)
    }
}

/// Where a name is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Below the root of the branch.
    Inside,
    /// Elsewhere in its file system.
    Outside,
}

/// Whether `dir`, a directory of the union, has the instance `lower`. In a read section.
fn leads_to(section: Section<'_>, dir: Candidate<'_, Union>, lower: &LowerInode) -> bool {
    dir.stack(section).is_ok_and(|stack| {
        stack
            .iter()
            .any(|slot| dirop::same_inode(slot.dentry(), lower))
    })
}

/// The name that the directory `dir` of `branch` has for `inode`, looked up.
///
/// Anybody may have said that it is this directory: that costs no more than to list it.
fn named(
    branch: &Branch,
    dir: &LowerDentry,
    inode: &LowerInode,
) -> Result<Option<ARef<LowerDentry>>> {
    /// Names that are kept of those with the right number.
    const MATCHES: usize = 16;
    /// Names that show whether numbers in listings are those of stat(2).
    const SAMPLES: usize = 4;
    /// Names of a directory where they are not.
    const MOST: usize = 1 << 16;

    let mut matches = KVVec::new();
    let mut samples = KVVec::new();
    each_child(branch, dir, &mut |name, number, _| {
        let (kept, most) = if number == inode.ino() {
            (&mut matches, MATCHES)
        } else {
            (&mut samples, SAMPLES)
        };
        if kept.len() < most {
            kept.push((copy_of(name)?, number), GFP_KERNEL)?;
        }
        Ok(())
    })?;
    let mut differs = false;
    for (name, number) in Iterator::chain(matches.iter(), samples.iter()) {
        let Some(found) = dirop::lookup_positive(dir.dir()?, name)? else {
            continue;
        };
        if dirop::same_inode(&found, inode) {
            return Ok(Some(found));
        }
        differs |= found.inode().is_some_and(|inode| inode.ino() != *number);
    }
    if !differs {
        return Ok(None);
    }
    // There are file systems whose listings show other numbers: iso9660, FUSE.
    let mut names = KVVec::new();
    each_child(branch, dir, &mut |name, _, _| {
        if names.len() >= MOST {
            return Err(ESTALE);
        }
        Ok(names.push(copy_of(name)?, GFP_KERNEL)?)
    })?;
    for name in names.iter() {
        if io::killed() {
            return Err(EINTR);
        }
        if let Some(found) = dirop::lookup_positive(dir.dir()?, name)? {
            if dirop::same_inode(&found, inode) {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// The names of `inode` on `branch`, but for those that no union shows, found by listing the
/// branch, at most `most` entries; and whether these are all. That takes long, so only handles that
/// the union gave come here.
fn search(
    branch: &Branch,
    inode: &LowerInode,
    most: usize,
) -> Result<(KVVec<ARef<LowerDentry>>, bool)> {
    /// Directories that wait to be listed.
    const DIRECTORIES: usize = 1 << 16;
    /// Names that are looked at of a file with many.
    const NAMES: usize = 64;

    // CAST: A count.
    let count = inode.nlink() as usize;
    let mut left = most;
    let mut found = KVVec::new();
    let mut dirs = KVVec::new();
    dirs.push(branch.root.dentry().clone(), GFP_KERNEL_ACCOUNT)?;
    while let Some(dir) = dirs.pop() {
        let mut wanted = KVVec::new();
        let mut full = false;
        let listed = each_child(branch, &dir, &mut |name, number, kind| {
            full = left == 0;
            left = left.checked_sub(1).ok_or(ESTALE)?;
            let is_wanted = number == inode.ino() || io::may_be_dir(kind);
            if is_wanted && !whname::is_reserved(name) {
                wanted.push(copy_of(name)?, GFP_KERNEL_ACCOUNT)?;
            }
            Ok(())
        });
        if full {
            return Ok((found, false));
        }
        listed?;
        for name in wanted.iter() {
            if io::killed() {
                return Err(EINTR);
            }
            let Some(child) = dirop::lookup_positive(dir.dir()?, name)? else {
                continue;
            };
            if dirop::same_inode(&child, inode) {
                found.push(child, GFP_KERNEL_ACCOUNT)?;
                if found.len() >= count.min(NAMES) {
                    return Ok((found, count <= NAMES));
                }
            } else if child.is_dir() {
                if dirs.len() >= DIRECTORIES {
                    return Ok((found, false));
                }
                dirs.push(child, GFP_KERNEL_ACCOUNT)?;
            }
        }
    }
    Ok((found, true))
}

/// Lists `dir` of `branch`, but for `.` and `..`. Who is killed stops.
fn each_child(
    branch: &Branch,
    dir: &LowerDentry,
    f: &mut dyn FnMut(&[u8], u64, u8) -> Result,
) -> Result {
    KernelFile::dir(branch.at(dir)?, true)?.each_entry(&mut |name, number, kind| {
        if io::killed() {
            return Err(EINTR);
        }
        match name {
            // Next to the root of a subvolume `..` may have any number.
            b"." | b".." => Ok(()),
            _ => f(name, number, kind),
        }
    })
}

/// `name` in memory of its own.
fn copy_of(name: &[u8]) -> Result<KVec<u8>> {
    let mut copy = KVec::new();
    copy.extend_from_slice(name, GFP_KERNEL_ACCOUNT)?;
    Ok(copy)
}

/// Walks `names`, the first one last, from `dir` on.
fn walk(dir: ARef<Dentry>, names: &[KVec<u8>]) -> Result<ARef<Dentry>> {
    let mut here = dir;
    for name in names.iter().rev() {
        if io::killed() {
            return Err(EINTR);
        }
        here = here.child(name)?;
    }
    Ok(here)
}

/// What a failure to resolve a handle is called: for whoever holds it the object is gone.
fn stale(error: Error) -> Error {
    match error {
        error if error == ENOMEM || error == EIO || error == EINTR => error,
        _ => ESTALE,
    }
}

/// Keeps the key that handles are sealed with, at the first need.
fn keep_key(sb: &SuperBlock) {
    let current = {
        let reading = sb.read();
        let section = reading.section();
        let current = seal::current(section.table());
        current.map(|(branch, key)| (branch.clone(), key.clone()))
    };
    if let Some((branch, key)) = current {
        sb.data().cred.scope(|| key.store(&branch));
    }
}

/// The dentry of the object that `object` stands for.
///
/// Branches may come and go between its steps: each looks at what is there then.
fn resolve(sb: &SuperBlock, object: &Object<'_>) -> Result<ARef<Dentry>> {
    let info = sb.data();
    info.moves.used.store(true, Release);
    let found = info.cred.scope(|| Found::new(sb, object))?;
    if found.lower.is(found.branch.root.dentry()) {
        return sb.root().ok_or(ESTALE);
    }
    if let Some(dentry) = found.cached()? {
        return Ok(dentry);
    }
    if found.lower.is_dir() {
        return found.at(&found.lower)?.ok_or(ESTALE);
    }
    let (dentry, elsewhere) = found.under_known_name()?;
    if let Some(dentry) = dentry {
        return Ok(dentry);
    }
    if found.trust == Trust::Forged {
        return Err(ESTALE);
    }
    // The only name is known, and does not lead there.
    if elsewhere && found.lower_inode()?.nlink() <= 1 {
        return Err(ESTALE);
    }
    found.anywhere()
}

impl Operations for Union {
    fn encode(section: Section<'_>, inode: &Inode, out: &mut KVec<u32>) -> Result {
        if inode.ino() == ino::ROOT {
            return Target::Root.write(out);
        }
        let info = inode.sb().data();
        if info.moves.origin(inode.ino(), out)? {
            return Ok(());
        }
        info.moves.used.store(true, Release);
        let stack = inode.stack(section)?;
        let is_origin = |slot: &Slot| {
            let lower = info.ino.lower(slot.branch(), slot.dentry());
            lower.is_ok_and(|lower| info.ino.packed(lower) == Some(inode.ino()))
        };
        // A directory may have got another instance on top since.
        let slot = stack
            .iter()
            .find(|slot| is_origin(slot))
            .unwrap_or(stack.top());
        info.cred.scope(|| {
            write(
                section,
                info,
                slot,
                slot.inode()?,
                &mut [0; 2 * MAX_WORDS],
                out,
            )
        })
    }

    fn decode<'a>(sb: &SuperBlock, words: &'a [u32]) -> Result<(ARef<Dentry>, &'a [u32])> {
        keep_key(sb);
        match handle::parse(words) {
            None => Err(ESTALE),
            Some((Target::Root, rest)) => Ok((sb.root().ok_or(ESTALE)?, rest)),
            Some((Target::Object(object), rest)) => {
                Ok((resolve(sb, &object).map_err(stale)?, rest))
            }
        }
    }

    fn skip(words: &[u32]) -> Option<&[u32]> {
        handle::parse(words).map(|(_, rest)| rest)
    }

    fn commit_metadata(inode: &Inode) -> Result {
        let reading = inode.sb().read();
        let section = reading.section();
        let stack = inode.stack(section)?;
        // Before the inode, which it keeps mounted.
        let _branch = stack.top().branch().clone();
        let lower: ARef<LowerInode> = stack.top_inode().into();
        drop(reading);
        export::commit(&lower)
    }
}
