// SPDX-License-Identifier: GPL-2.0

//! File handles: what `name_to_handle_at(2)` and fanotify name objects by.
//!
//! # What a handle says
//!
//! It names the instance that gave the object its inode number: the *origin*. So
//! it stays the same when the object is copied up, moved or forgotten, and so does
//! what a client took it for. [`crate::logic::handle`] has the layout.
//!
//! An instance on a branch that is not `rw` is visible in the union only if its
//! path says so: it may be hidden, removed or replaced. The handle of such a file
//! names its directory on the branch, too (the hint), in which its name is found
//! again. A file with several names has no hint, as it has no one directory.
//!
//! # How it is resolved
//!
//! handle - instance on its branch - [`Moves`]: is it another one now? - cached
//! inode, or the path of the instance, walked in the union - is that what is found
//! there?
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

use super::{
    branch::{
        Branch,
        BranchTable,
        Slot,
        Slots, //
    },
    inode,
    Dentry,
    Inode,
    LowerDentry,
    LowerInode,
    SuperBlock,
    Union, //
};
use crate::fs::{
    dirop,
    export::{
        self,
        Operations,
        Reach, //
    },
    io::KernelFile,
    once::load_acquire, //
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
    ino, //
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
        })
    }

    /// Takes room for the copy-up of `inode`; `None` if nobody needs to know of it.
    pub(crate) fn reserve(&self, inode: &Inode) -> Result<Option<Room>> {
        if !load_acquire(&self.used) {
            return Ok(None);
        }
        let mut origin = KVec::new();
        match Union::encode(inode, &mut origin) {
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
    pub(crate) fn reserve_again(&self, inode: &Inode) -> Result<Option<Room>> {
        let noted = matches!(self.moves.lock().get(&inode.ino()), Some(Move::Copied(..)));
        if noted {
            self.reserve(inode)
        } else {
            Ok(None)
        }
    }

    /// `inode` was copied up, or moved down, to `slot`.
    pub(crate) fn copied(&self, room: Room, inode: &Inode, slot: &Slot) {
        let Room {
            node,
            origin,
            mut now,
        } = room;
        let written = slot
            .inode()
            .and_then(|lower| write(slot, lower, &mut [0; 2 * MAX_WORDS], &mut now));
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
    pub(crate) fn removed(&self, inode: &Inode) {
        if !load_acquire(&self.used) {
            return;
        }
        let remains = inode.stack().is_ok_and(|stack| {
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
    pub(crate) fn forget(&self, inode: &Inode) {
        if !load_acquire(&self.used) {
            return;
        }
        let number = inode.ino();
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

/// Appends the handle of `lower`, the instance `slot`, to `out`. `words` is for use on the way.
fn write(slot: &Slot, lower: &LowerInode, words: &mut [u32], out: &mut KVec<u32>) -> Result {
    let branch = slot.branch();
    let (kind, len) = export::encode(lower, words)?;
    let (object, rest) = words.split_at_mut_checked(len).ok_or(EOVERFLOW)?;
    let object = Part {
        kind,
        words: object,
    };
    let mut dir = None;
    if !branch.access.may_write() && !lower.is_dir() && lower.nlink() == 1 {
        let parent = slot.dentry().parent();
        let (kind, len) = export::encode(parent.positive()?, rest)?;
        dir = Some(Part {
            kind,
            words: rest.get(..len).ok_or(EOVERFLOW)?,
        });
    }
    let object = Object {
        branch: branch.id.number(),
        tag: tag(branch)?,
        object,
        dir,
    };
    Target::Object(object).write(out)
}

/// Where the object of a handle is to be found.
enum Place {
    /// It is this.
    Here(ARef<Dentry>),
    /// It is this, which has a name or not.
    Inode(ARef<Inode>),
    /// By a walk of names, from the last one to the first, below a directory.
    Path(ARef<Dentry>, KVec<KVec<u8>>),
}

/// An instance that a handle leads to.
struct Found<'a> {
    sb: &'a SuperBlock,
    // Before the branch, which keeps its file system mounted.
    lower: ARef<LowerDentry>,
    branch: Arc<Branch>,
    /// The number of the object it belongs to.
    number: u64,
}

impl<'a> Found<'a> {
    /// The instance that `object` stands for, or the one that took its place.
    fn new(sb: &'a SuperBlock, object: &Object<'_>) -> Result<Self> {
        let info = sb.data();
        let branch = branch_of(info.table(), object)?;
        let first = Self::on(sb, branch, object)?;
        let Some(words) = info.moves.now(first.number)? else {
            return Ok(first);
        };
        let Some((Target::Object(object), _)) = handle::parse(&words) else {
            return Err(ESTALE);
        };
        let branch = branch_of(info.table(), &object)?;
        let now = Self::on(sb, branch, &object)?;
        Ok(Found {
            number: first.number,
            ..now
        })
    }

    /// The instance that `object` stands for on `branch`.
    fn on(sb: &'a SuperBlock, branch: &Arc<Branch>, object: &Object<'_>) -> Result<Self> {
        let root = branch.at(&branch.root.dentry);
        let Part { kind, words } = object.object;
        let lower = export::decode(root, kind, words, Reach::Named).or_else(|error| {
            if error == ENOMEM {
                return Err(error);
            }
            let lower = export::decode(root, kind, words, Reach::Any)?;
            match &object.dir {
                None => Ok(lower),
                Some(dir) => {
                    let dir = export::decode(root, dir.kind, dir.words, Reach::Named)?;
                    named(branch, &dir, lower.inode().ok_or(ESTALE)?)
                }
            }
        })?;
        Ok(Found {
            number: sb.data().ino.number_of(branch, &lower)?,
            sb,
            branch: branch.clone(),
            lower,
        })
    }

    /// Whether `inode` is the object.
    fn is(&self, inode: &Inode) -> bool {
        let Some(lower) = self.lower.inode() else {
            return false;
        };
        if !inode.is_dir() {
            return inode.ino() == self.number || inode.ever_led_to(lower);
        }
        inode.stack().is_ok_and(|stack| {
            stack
                .iter()
                .any(|slot| dirop::same_inode(slot.dentry(), lower))
        })
    }

    /// The inode, if it is in memory.
    fn cached(&self) -> Option<ARef<Inode>> {
        Inode::find_cached(self.sb, self.number, |inode| self.is(inode))
    }

    /// Where the object is.
    fn place(&self) -> Result<Place> {
        if self.lower.is(&*self.branch.root.dentry) {
            return Ok(Place::Here(self.sb.root().ok_or(ESTALE)?));
        }
        if let Some(inode) = self.cached() {
            if !inode.is_dir() {
                return Ok(Place::Inode(inode));
            }
            if let Some(dentry) = inode.alias() {
                return Ok(Place::Here(dentry));
            }
        }
        self.path()
    }

    /// The names that lead to the instance, from the next directory that is in memory on.
    fn path(&self) -> Result<Place> {
        let mut names = KVec::new();
        let mut here = self.lower.clone();
        while !here.is(&*self.branch.root.dentry) {
            if here.is_root() {
                return Err(ESTALE);
            }
            names.push(here.name()?, GFP_KERNEL)?;
            here = here.parent();
            let dir = Found {
                number: self.sb.data().ino.number_of(&self.branch, &here)?,
                sb: self.sb,
                branch: self.branch.clone(),
                lower: here.clone(),
            };
            if let Some(dentry) = dir.cached().and_then(|dir| dir.alias()) {
                return Ok(Place::Path(dentry, names));
            }
        }
        Ok(Place::Path(self.sb.root().ok_or(ESTALE)?, names))
    }

    /// The object without a name. Only one on a branch that we write, or with several names on its
    /// branch, is taken for visible whatever its path says.
    fn alone(&self) -> Result<ARef<Inode>> {
        // It may have left the union meanwhile.
        let table = self.sb.data().table();
        table.index_of(self.branch.id).ok_or(ESTALE)?;
        let lower = self.lower.inode().ok_or(ESTALE)?;
        let trusted = self.branch.access.may_write() || lower.nlink() > 1;
        if lower.is_dir() || !trusted {
            return Err(ESTALE);
        }
        let slot = Slot::new(self.branch.clone(), self.lower.clone());
        inode::get(self.sb, Slots::one(slot))
    }
}

/// The name that the directory `dir` of `branch` has for `inode`, looked up.
fn named(branch: &Branch, dir: &LowerDentry, inode: &LowerInode) -> Result<ARef<LowerDentry>> {
    // There are file systems whose listings show other numbers than stat(2).
    for by_number in [true, false] {
        let mut names = KVVec::new();
        KernelFile::dir(branch.at(dir), true)?.each_entry(&mut |name, number, _| {
            // Next to the root of a subvolume `..` may have any number.
            let child = !matches!(name, b"." | b"..");
            if child && (number == inode.ino() || !by_number) {
                let mut copy = KVec::new();
                copy.extend_from_slice(name, GFP_KERNEL)?;
                names.push(copy, GFP_KERNEL)?;
            }
            Ok(())
        })?;
        for name in names.iter() {
            if let Some(found) = dirop::lookup_positive(dir, name)? {
                if dirop::same_inode(&found, inode) {
                    return Ok(found);
                }
            }
        }
    }
    Err(ESTALE)
}

/// Walks `names`, the first one last, from `dir` on.
fn walk(dir: ARef<Dentry>, names: &[KVec<u8>]) -> Result<ARef<Dentry>> {
    let mut here = dir;
    for name in names.iter().rev() {
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

/// The dentry of the object that `object` stands for.
///
/// Branches may come and go between its steps: each looks at what is there then.
fn resolve(sb: &SuperBlock, object: &Object<'_>) -> Result<ARef<Dentry>> {
    let info = sb.data();
    info.moves.used.store(true, Release);
    let reading = sb.read();
    let (found, place) = info.cred.scope(|| {
        let found = Found::new(sb, object)?;
        let place = found.place();
        Ok::<_, Error>((found, place))
    })?;
    drop(reading);
    let by_path = match place {
        Ok(Place::Here(dentry)) => return Ok(dentry),
        Ok(Place::Inode(inode)) => return Dentry::of(inode),
        Ok(Place::Path(dir, names)) => walk(dir, &names),
        Err(error) => Err(error),
    };
    let reading = sb.read();
    match by_path {
        Ok(dentry) if found.is(dentry.object()?) => return Ok(dentry),
        Err(error) if stale(error) != ESTALE => return Err(error),
        _ => {}
    }
    drop(reading);
    let _entered = sb.enter();
    Dentry::of(info.cred.scope(|| found.alone())?)
}

impl Operations for Union {
    fn encode(inode: &Inode, out: &mut KVec<u32>) -> Result {
        if inode.ino() == ino::ROOT {
            return Target::Root.write(out);
        }
        let info = inode.sb().data();
        if info.moves.origin(inode.ino(), out)? {
            return Ok(());
        }
        info.moves.used.store(true, Release);
        let stack = inode.stack()?;
        let origin = ino::unpack(inode.ino());
        let is_origin = |slot: &Slot| {
            let lower = info.ino.lower(slot.branch(), slot.dentry()).ok()?;
            (Some((lower.space, lower.number)) == origin).then_some(())
        };
        // A directory may have got another instance on top since.
        let slot = stack
            .iter()
            .find(|slot| is_origin(slot).is_some())
            .unwrap_or(stack.top());
        info.cred
            .scope(|| write(slot, slot.inode()?, &mut [0; 2 * MAX_WORDS], out))
    }

    fn decode<'a>(sb: &SuperBlock, words: &'a [u32]) -> Result<(ARef<Dentry>, &'a [u32])> {
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

    fn commit_source(inode: &Inode) -> Result<ARef<LowerInode>> {
        Ok(inode.stack()?.top_inode().into())
    }
}
