// SPDX-License-Identifier: GPL-2.0

//! Random operations: all that a program can ask of a file system.

use proptest::prelude::*;
use rustix::{
    fs::{FallocateFlags, IFlags, RenameFlags, XattrFlags},
    io::ReadWriteFlags,
};

use super::{
    layer::{self, Path, ACLS, MANY},
    reshape::Reshape,
};
use crate::harness::sys::{FileType, OFlags};

/// Who does something: 0 is root, others are users without privileges.
pub(crate) type User = u32;

/// An operation, who does it under which umask, and what becomes of the branches meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) user: User,
    pub(crate) umask: u32,
    pub(crate) op: Op,
    pub(crate) beside: Option<Reshape>,
}

/// How a descriptor is held.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hold {
    Reading,
    Writing,
    Appending,
    /// `O_PATH`.
    Path,
    /// An unnamed file in the directory.
    Unnamed,
    /// The same with `O_EXCL`: it never gets a name.
    Nameless,
    /// A directory, read by parts.
    Dir,
}

/// How a held file is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mapped {
    Shared,
    SharedRo,
    Private,
}

/// Locks on the range of the first 100 bytes, and whole files.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lock {
    FlockShared,
    FlockExclusive,
    FlockOff,
    OfdRead,
    OfdWrite,
    OfdOff,
}

/// Times for utimensat(2).
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    Both(i64),
    AccessOnly(i64),
    Now,
}

/// An operation on paths, or on what is held in a slot (`usize`, first).
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Create(Path, u32),
    Open(Path, OFlags, u32),
    Write(Path, u64, usize, u8),
    Append(Path, u8),
    Replace(Path, u8),
    Truncate(Path, u64),
    Read(Path),
    Stat(Path),
    Access(Path, u32),
    List(Path),
    /// Lists by small parts, and again from the position after some of them.
    Tour(Path, usize),
    Unlink(Path),
    Mkdir(Path, u32),
    Rmdir(Path),
    Rename(Path, Path, RenameFlags),
    Link(Path, Path),
    Symlink(&'static str, Path),
    Node(Path, FileType, u32),
    Chmod(Path, u32),
    Chown(Path, Option<u32>, Option<u32>),
    Utimens(Path, When),
    SetXattr(Path, &'static str, u8, XattrFlags),
    GetXattr(Path, &'static str),
    RemoveXattr(Path, &'static str),
    SetAcl(Path, &'static str, usize),
    Fallocate(Path, FallocateFlags, u64, u64),
    CopyRange(Path, Path, u64, u64, usize),
    Reflink(Path, Path),
    SendFile(Path, Path),
    /// Through a pipe.
    Splice(Path, Path, usize),
    /// Finds the object by a file handle.
    ByHandle(Path),
    Flags(Path, IFlags),
    Sync(Path),
    Hold(usize, Path, Hold),
    HeldWrite(usize, u64, usize, u8),
    HeldWriteWith(usize, u64, u8, ReadWriteFlags),
    HeldRead(usize),
    HeldStat(usize),
    /// Reads from, or writes at, the descriptor's position.
    HeldNext(usize, Option<u8>),
    /// To so many bytes before the end.
    HeldSeekEnd(usize, u64),
    HeldTruncate(usize, u64),
    HeldFallocate(usize, FallocateFlags, u64, u64),
    HeldChmod(usize, u32),
    HeldChown(usize, u32),
    HeldXattr(usize, u8),
    HeldSync(usize),
    HeldLink(usize, Path),
    HeldReopen(usize, OFlags),
    HeldLock(usize, Lock),
    /// Entries of a directory from its position; how many bytes of them.
    HeldList(usize, usize),
    /// Back to the position of some entry that was read.
    HeldSeek(usize, usize),
    Map(usize, Mapped),
    MapRead(usize),
    MapWrite(usize, usize, u8),
    MapSync(usize),
    Release(usize),
    DropCaches,
    /// Unmounts and mounts; nothing is held then.
    Again,
}

impl Op {
    /// Source and destination of a rename.
    pub(crate) fn renames(&self) -> Option<(&str, &str)> {
        match self {
            Op::Rename(a, b, _) => Some((a, b)),
            _ => None,
        }
    }

    /// The operation for several threads on one mount.
    fn among_others(self) -> Self {
        match self {
            Op::Again => Op::DropCaches,
            op => op,
        }
    }

    /// The operation where others may change the same file meanwhile: they may cut what is mapped,
    /// and flags would shut everybody out.
    fn on_shared(self) -> Self {
        match self {
            Op::Map(slot, _) | Op::MapRead(slot) | Op::MapWrite(slot, ..) | Op::MapSync(slot) => {
                Op::HeldRead(slot)
            }
            Op::Flags(path, _) | Op::ByHandle(path) => Op::Stat(path),
            op => op.among_others(),
        }
    }

    /// The names that the operation may make, remove or replace.
    pub(crate) fn names(&self) -> [Option<&str>; 2] {
        match self {
            Op::Rename(a, b, _) | Op::Link(a, b) => [Some(a), Some(b)],
            Op::CopyRange(_, p, ..)
            | Op::Reflink(_, p)
            | Op::SendFile(_, p)
            | Op::Splice(_, p, _) => [Some(p), None],
            Op::Create(p, _)
            | Op::Open(p, ..)
            | Op::Write(p, ..)
            | Op::Replace(p, _)
            | Op::Unlink(p)
            | Op::Mkdir(p, _)
            | Op::Rmdir(p)
            | Op::Symlink(_, p)
            | Op::Node(p, ..)
            | Op::HeldLink(_, p) => [Some(p), None],
            _ => [None, None],
        }
    }
}

/// Which operations a scenario has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Among {
    /// All of them.
    Alone,
    /// Other threads work elsewhere in the same union.
    Others,
    /// Other threads work on the same tree.
    Shared,
}

/// `RWF_NOAPPEND`, which rustix does not name.
const NOAPPEND: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x20);

/// Descriptors that can be held at a time.
pub(crate) const SLOTS: usize = 4;

fn path() -> impl Strategy<Value = Path> {
    let name = prop::sample::select(vec!["a", "b", "c", "d"]);
    let linked = vec!["h", "k", "a/h", "a/k", "a/m", "b/h"];
    prop_oneof![
        8 => prop::collection::vec(name.clone(), 1..=2).prop_map(|names| names.join("/")),
        4 => prop::collection::vec(name, 3..=3).prop_map(|names| names.join("/")),
        2 => prop::sample::select(linked).prop_map(str::to_owned),
        1 => (0..MANY).prop_map(layer::many),
        1 => prop::sample::select(vec!["w", "w/a", "w/b"]).prop_map(str::to_owned),
    ]
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => Just(0u64),
        2 => 1u64..300,
        2 => 4000u64..9000,
        2 => (0u64..5).prop_map(|block| block * 4096),
        1 => 20_000u64..70_000,
    ]
}

fn xattr() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "user.born",
        "user.a",
        "trusted.a",
        "security.capability",
    ])
}

fn fallocate() -> impl Strategy<Value = FallocateFlags> {
    use FallocateFlags as F;
    prop::sample::select(vec![
        F::empty(),
        F::KEEP_SIZE,
        F::PUNCH_HOLE | F::KEEP_SIZE,
        F::ZERO_RANGE,
        F::ZERO_RANGE | F::KEEP_SIZE,
        F::COLLAPSE_RANGE,
        F::INSERT_RANGE,
        F::UNSHARE_RANGE,
        F::PUNCH_HOLE,
    ])
}

fn access_mode() -> impl Strategy<Value = OFlags> {
    prop::sample::select(vec![OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR])
}

fn open_flags() -> impl Strategy<Value = OFlags> {
    use OFlags as O;
    let more = vec![
        O::empty(),
        O::CREATE,
        O::CREATE | O::EXCL,
        O::CREATE | O::DIRECTORY,
        O::TRUNC,
        O::APPEND,
        O::APPEND | O::CREATE,
        O::TRUNC | O::CREATE | O::NOFOLLOW,
        O::DIRECTORY,
        O::NOFOLLOW,
        O::PATH,
        O::PATH | O::NOFOLLOW,
        O::PATH | O::DIRECTORY,
        O::TMPFILE,
        O::DSYNC,
        O::SYNC,
        O::NOATIME,
        O::DIRECT,
    ];
    (access_mode(), prop::sample::select(more)).prop_map(|(a, b)| a | b)
}

fn on_paths() -> impl Strategy<Value = Op> {
    let some_id = || prop_oneof![3 => (0u32..5).prop_map(Some), 1 => Just(None)];
    let when = prop_oneof![
        3 => (1_300_000_000i64..1_400_000_000).prop_map(When::Both),
        1 => (1_300_000_000i64..1_400_000_000).prop_map(When::AccessOnly),
        1 => Just(When::Now),
    ];
    let how = prop::sample::select(vec![
        XattrFlags::empty(),
        XattrFlags::empty(),
        XattrFlags::CREATE,
        XattrFlags::REPLACE,
    ]);
    let node = prop::sample::select(vec![
        FileType::Fifo,
        FileType::Fifo,
        FileType::Socket,
        FileType::CharacterDevice,
        FileType::BlockDevice,
        FileType::RegularFile,
    ]);
    let acl_name = prop::sample::select(vec![layer::ACL_ACCESS, layer::ACL_DEFAULT]);
    let changes = prop_oneof![
        3 => (path(), layer::mode()).prop_map(|(p, m)| Op::Create(p, m)),
        4 => (path(), open_flags(), layer::mode()).prop_map(|(p, f, m)| Op::Open(p, f, m)),
        4 => (path(), offset(), 1usize..5000, any::<u8>())
            .prop_map(|(p, o, l, f)| Op::Write(p, o, l, f)),
        2 => (path(), any::<u8>()).prop_map(|(p, f)| Op::Append(p, f)),
        2 => (path(), any::<u8>()).prop_map(|(p, f)| Op::Replace(p, f)),
        2 => (path(), offset()).prop_map(|(p, l)| Op::Truncate(p, l)),
        2 => (path(), fallocate(), offset(), offset())
            .prop_map(|(p, m, o, l)| Op::Fallocate(p, m, o, l)),
        2 => (path(), path(), offset(), offset(), 1usize..9000)
            .prop_map(|(a, b, i, o, l)| Op::CopyRange(a, b, i, o, l)),
        1 => (path(), path()).prop_map(|(a, b)| Op::Reflink(a, b)),
        1 => (path(), path()).prop_map(|(a, b)| Op::SendFile(a, b)),
        1 => (path(), path(), 1usize..9000).prop_map(|(a, b, l)| Op::Splice(a, b, l)),
        1 => path().prop_map(Op::Sync),
    ];
    let asks = prop_oneof![
        1 => path().prop_map(Op::Read),
        1 => path().prop_map(Op::Stat),
        1 => (path(), 0u32..8).prop_map(|(p, how)| Op::Access(p, how)),
        1 => path().prop_map(Op::List),
        1 => (path(), 0usize..40).prop_map(|(p, n)| Op::Tour(p, n)),
        1 => (path(), xattr()).prop_map(|(p, n)| Op::GetXattr(p, n)),
        1 => path().prop_map(Op::ByHandle),
    ];
    let names = prop_oneof![
        5 => path().prop_map(Op::Unlink),
        4 => (path(), layer::mode()).prop_map(|(p, m)| Op::Mkdir(p, m)),
        4 => path().prop_map(Op::Rmdir),
        6 => (path(), path()).prop_map(|(a, b)| Op::Rename(a, b, RenameFlags::empty())),
        2 => (path(), path()).prop_map(|(a, b)| Op::Rename(a, b, RenameFlags::NOREPLACE)),
        2 => (path(), path()).prop_map(|(a, b)| Op::Rename(a, b, RenameFlags::EXCHANGE)),
        1 => (path(), path()).prop_map(|(a, b)| Op::Rename(a, b, RenameFlags::WHITEOUT)),
        3 => (path(), path()).prop_map(|(a, b)| Op::Link(a, b)),
        2 => (layer::target(), path()).prop_map(|(t, p)| Op::Symlink(t, p)),
        2 => (path(), node, layer::mode()).prop_map(|(p, n, m)| Op::Node(p, n, m)),
    ];
    let flags = prop::sample::select(vec![
        IFlags::empty(),
        IFlags::empty(),
        IFlags::NODUMP,
        IFlags::NOATIME,
        IFlags::APPEND,
        IFlags::IMMUTABLE,
    ]);
    let attributes = prop_oneof![
        4 => (path(), layer::mode()).prop_map(|(p, m)| Op::Chmod(p, m)),
        4 => (path(), some_id(), some_id()).prop_map(|(p, u, g)| Op::Chown(p, u, g)),
        4 => (path(), when).prop_map(|(p, t)| Op::Utimens(p, t)),
        4 => (path(), xattr(), any::<u8>(), how).prop_map(|(p, n, v, h)| Op::SetXattr(p, n, v, h)),
        2 => (path(), xattr()).prop_map(|(p, n)| Op::RemoveXattr(p, n)),
        2 => (path(), acl_name.clone(), 0..ACLS).prop_map(|(p, n, a)| Op::SetAcl(p, n, a)),
        1 => (path(), acl_name).prop_map(|(p, n)| Op::RemoveXattr(p, n)),
        1 => (path(), flags).prop_map(|(p, f)| Op::Flags(p, f)),
    ];
    prop_oneof![
        22 => changes,
        9 => asks,
        30 => names,
        16 => attributes,
    ]
}

fn on_held() -> impl Strategy<Value = Op> {
    let slot = || 0..SLOTS;
    let hold = prop::sample::select(vec![
        Hold::Reading,
        Hold::Reading,
        Hold::Writing,
        Hold::Writing,
        Hold::Appending,
        Hold::Path,
        Hold::Unnamed,
        Hold::Unnamed,
        Hold::Nameless,
        Hold::Dir,
        Hold::Dir,
    ]);
    let lock = prop::sample::select(vec![
        Lock::FlockShared,
        Lock::FlockExclusive,
        Lock::FlockOff,
        Lock::OfdRead,
        Lock::OfdWrite,
        Lock::OfdOff,
    ]);
    let how = prop::sample::select(vec![
        ReadWriteFlags::APPEND,
        ReadWriteFlags::DSYNC,
        ReadWriteFlags::SYNC,
        NOAPPEND,
    ]);
    let mapped = prop::sample::select(vec![Mapped::Shared, Mapped::SharedRo, Mapped::Private]);
    let files = prop_oneof![
        8 => (slot(), path(), hold).prop_map(|(s, p, h)| Op::Hold(s, p, h)),
        5 => (slot(), offset(), 1usize..5000, any::<u8>())
            .prop_map(|(s, o, l, f)| Op::HeldWrite(s, o, l, f)),
        2 => (slot(), offset(), any::<u8>(), how)
            .prop_map(|(s, o, f, h)| Op::HeldWriteWith(s, o, f, h)),
        3 => slot().prop_map(Op::HeldRead),
        2 => slot().prop_map(Op::HeldStat),
        2 => (slot(), prop::option::of(any::<u8>())).prop_map(|(s, f)| Op::HeldNext(s, f)),
        1 => (slot(), offset()).prop_map(|(s, o)| Op::HeldSeekEnd(s, o)),
        2 => (slot(), offset()).prop_map(|(s, l)| Op::HeldTruncate(s, l)),
        2 => (slot(), fallocate(), offset(), offset())
            .prop_map(|(s, m, o, l)| Op::HeldFallocate(s, m, o, l)),
        1 => (slot(), layer::mode()).prop_map(|(s, m)| Op::HeldChmod(s, m)),
        1 => (slot(), 0u32..4).prop_map(|(s, u)| Op::HeldChown(s, u)),
        1 => (slot(), any::<u8>()).prop_map(|(s, v)| Op::HeldXattr(s, v)),
        1 => slot().prop_map(Op::HeldSync),
        2 => (slot(), path()).prop_map(|(s, p)| Op::HeldLink(s, p)),
        1 => (slot(), access_mode()).prop_map(|(s, f)| Op::HeldReopen(s, f)),
        2 => (slot(), lock).prop_map(|(s, l)| Op::HeldLock(s, l)),
        2 => slot().prop_map(Op::Release),
    ];
    let rest = prop_oneof![
        4 => (slot(), 64usize..600).prop_map(|(s, n)| Op::HeldList(s, n)),
        1 => (slot(), 0usize..40).prop_map(|(s, n)| Op::HeldSeek(s, n)),
        3 => (slot(), mapped).prop_map(|(s, m)| Op::Map(s, m)),
        3 => slot().prop_map(Op::MapRead),
        4 => (slot(), 0usize..20_000, any::<u8>()).prop_map(|(s, o, f)| Op::MapWrite(s, o, f)),
        1 => slot().prop_map(Op::MapSync),
    ];
    prop_oneof![34 => files, 16 => rest]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        240 => on_paths(),
        120 => on_held(),
        // They cost as much as many others.
        2 => Just(Op::DropCaches),
        1 => Just(Op::Again),
    ]
}

/// Few steps have one: it costs as much as many others, and makes them cost more.
fn beside() -> impl Strategy<Value = Option<Reshape>> {
    let reshape = prop_oneof![
        2 => Just(Reshape::Snapshot),
        1 => (0usize..8).prop_map(Reshape::Add),
        1 => (0usize..8).prop_map(Reshape::Remove),
    ];
    prop_oneof![
        100 => Just(None),
        1 => reshape.prop_map(Some),
    ]
}

/// Steps of the kind that a scenario allows.
pub(crate) fn step(among: Among) -> impl Strategy<Value = Step> {
    let user = prop_oneof![5 => Just(0), 1 => Just(1), 1 => Just(2)];
    let umask = prop_oneof![9 => Just(0o022), 1 => Just(0), 1 => Just(0o077)];
    (user, umask, op(), beside()).prop_map(move |(user, umask, op, beside)| {
        let op = match among {
            Among::Alone => op,
            Among::Others => op.among_others(),
            Among::Shared => op.on_shared(),
        };
        let alone = among == Among::Alone && !matches!(op, Op::Again);
        let beside = beside.filter(|_| alone);
        Step {
            user,
            umask,
            op,
            beside,
        }
    })
}
