// SPDX-License-Identifier: GPL-2.0

//! From options to a mounted union.
//!
//! Branch paths are looked up when their option arrives, with the caller's
//! credentials and in the caller's working directory; everything else is
//! decided when the super block is made, in the order of the options.

#![forbid(unsafe_code)]

use super::{
    branch::{
        Branch,
        BranchId,
        BranchTable,
        MAX_BRANCHES, //
    },
    global::Global,
    sb::SbInfo,
    sysfs::Views,
    whiteout::{
        self,
        Refused, //
    },
    SuperBlock,
    Union, //
};
use crate::fs::{
    context::{
        Context,
        Operations,
        Param, //
    },
    cred::Cred,
    path::Path,
    sb::{
        Mounted,
        MAX_STACK_DEPTH, //
    }, //
};
use crate::logic::{
    branch_spec::{
        self,
        Access,
        Attrs,
        BranchSpec,
        Perm, //
    },
    options::{
        self,
        Bad,
        CreatePolicy,
        Flag,
        Opt,
        Settings,
        Udba, //
    },
    whname, //
};
use crate::mount_error;
use kernel::{
    fmt,
    prelude::*,
    str::BStr,
    sync::Arc, //
};

/// Where a branch is to be put.
enum Place {
    /// At the end of those given by `br=` and `dirs=` in this call.
    Next,
    /// At this index.
    Index(i32),
    /// At the bottom.
    Bottom,
    /// At the top.
    Top,
}

/// A branch that was asked for.
struct Wanted {
    /// The option that it was asked for by.
    option: KVec<u8>,
    place: Place,
    spec: BranchSpec,
    path: Path,
}

/// The options of one call.
pub(crate) struct Options {
    settings: Settings,
    branches: KVec<Wanted>,
}

/// A byte string for a message.
fn text(bytes: &[u8]) -> &BStr {
    BStr::from_bytes(bytes)
}

/// Types of file systems that cannot be branches, as they make up their contents.
const REFUSED_TYPES: [&[u8]; 8] = [
    b"proc",
    b"sysfs",
    b"configfs",
    b"debugfs",
    b"securityfs",
    b"xenfs",
    b"ecryptfs",
    b"ramfs",
];
/// Types of unions.
const UNION_TYPES: [&[u8]; 2] = [b"aufs", b"ruaufs"];
/// Types of file systems that nobody can write.
const READ_ONLY_TYPES: [&[u8]; 4] = [b"squashfs", b"iso9660", b"cramfs", b"romfs"];

/// Refuses options that this version does not carry out.
fn check_supported(context: &Context<'_>, key: &[u8], opt: &Opt) -> Result {
    let missing = match opt {
        Opt::Create(policy) => *policy != CreatePolicy::Tdp,
        Opt::Udba(udba) => *udba == Udba::Notify,
        Opt::Flag(flag, on) => match flag {
            Flag::DirRen | Flag::ShWh => *on,
            Flag::Plink => !*on,
            _ => false,
        },
        Opt::RdCache(_)
        | Opt::RdBlk(_)
        | Opt::RdHash(_)
        | Opt::Dirwh(_)
        | Opt::FhsmSec(_)
        | Opt::Del(_)
        | Opt::Mod(_)
        | Opt::TruncXinoBranch(_)
        | Opt::TruncXinoIndex(_)
        | Opt::ListPlink => true,
        _ => false,
    };
    if missing {
        return Err(mount_error!(
            context,
            EINVAL,
            "option \"{}\": not supported by this version of ruaufs",
            text(key)
        ));
    }
    Ok(())
}

impl Options {
    /// Looks the path of a branch up.
    fn add(
        &mut self,
        context: &Context<'_>,
        option: &[u8],
        place: Place,
        spec: BranchSpec,
    ) -> Result {
        let path = Path::lookup_dir(&spec.path).map_err(|error| {
            // aufs, and programs made for it, know no other error here.
            mount_error!(
                context,
                EINVAL,
                "option \"{}\": branch {}: not a directory that can be used: {:?}",
                text(option),
                text(&spec.path),
                error
            )
        })?;
        for note in spec.notes.iter() {
            let mut line: KVec<u8> = KVec::new();
            let mut whole = Ok(());
            note.write_to(&mut |part| {
                if whole.is_ok() {
                    whole = line.extend_from_slice(part, GFP_KERNEL);
                }
            });
            whole?;
            pr_warn!("branch {}: {}\n", text(&spec.path), text(&line));
        }
        let mut word = KVec::new();
        word.extend_from_slice(option, GFP_KERNEL)?;
        let wanted = Wanted {
            option: word,
            place,
            spec,
            path,
        };
        Ok(self.branches.push(wanted, GFP_KERNEL)?)
    }

    /// Takes one option.
    fn take(&mut self, context: &Context<'_>, key: &[u8], opt: Opt) -> Result {
        check_supported(context, key, &opt)?;
        self.settings.apply(&opt);
        // A colon option carries the path in its key.
        let word = key.split(|&byte| byte == b':').next().unwrap_or(key);
        match opt {
            Opt::Branches(specs) => {
                for spec in specs {
                    self.add(context, word, Place::Next, spec)?;
                }
                Ok(())
            }
            Opt::Add { index, spec } => self.add(context, word, Place::Index(index), spec),
            Opt::Append(spec) => self.add(context, word, Place::Bottom, spec),
            Opt::Prepend(spec) => self.add(context, word, Place::Top, spec),
            Opt::Xino(_) | Opt::Flag(Flag::TruncXino | Flag::TruncXib, _) => {
                pr_info!(
                    "option \"{}\": inode numbers are computed, no table is kept\n",
                    text(key)
                );
                Ok(())
            }
            Opt::Obsolete(word) => {
                pr_warn!("option \"{}\" is obsolete and ignored\n", word);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Operations for Union {
    type Options = Options;

    fn options(_context: &Context<'_>) -> Result<KBox<Options>> {
        Ok(KBox::new(
            Options {
                settings: Settings::DEFAULT,
                branches: KVec::new(),
            },
            GFP_KERNEL,
        )?)
    }

    fn parse(
        context: &Context<'_>,
        options: &mut Options,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<Param> {
        match options::parse(key, value) {
            Ok(opt) => {
                options.take(context, key, opt)?;
                Ok(Param::Taken)
            }
            // Handled by the VFS.
            Err(Bad::Unknown) if key == b"source" => Ok(Param::Unknown),
            Err(Bad::Unknown) => Err(mount_error!(
                context,
                EINVAL,
                "unknown option \"{}\"",
                text(key)
            )),
            Err(Bad::NoMemory) => Err(ENOMEM),
            Err(Bad::Invalid { errno, why }) => Err(mount_error!(
                context,
                errno,
                "option \"{}\" {}",
                text(key),
                why
            )),
        }
    }

    fn mount(
        context: &Context<'_>,
        global: &Arc<Global>,
        options: &mut Options,
    ) -> Result<Mounted<Union>> {
        let wanted = core::mem::replace(&mut options.branches, KVec::new());
        if wanted.is_empty() {
            return Err(mount_error!(
                context,
                EINVAL,
                "no branches: give some with br=PATH=rw:PATH=ro"
            ));
        }
        let cred = Cred::mounter()?;
        let mut order: KVec<Arc<Branch>> = KVec::new();
        let mut next = 0;
        for (n, wanted) in wanted.into_iter().enumerate() {
            let at = match wanted.place {
                Place::Next => {
                    next = usize::min(next, order.len());
                    let at = next;
                    next = next.saturating_add(1);
                    at
                }
                Place::Top => 0,
                Place::Bottom => order.len(),
                Place::Index(index) => match usize::try_from(index) {
                    Ok(index) if index <= order.len() => index,
                    _ => {
                        return Err(mount_error!(
                            context,
                            EDOM,
                            "option \"{}\": branch {}: bad index {}, there are {} branches",
                            text(&wanted.option),
                            text(&wanted.spec.path),
                            index,
                            order.len()
                        ))
                    }
                },
            };
            // `append` is never the first, whatever the list holds.
            let first = at == 0 && !matches!(wanted.place, Place::Bottom);
            let branch = new_branch(context, &cred, &order, &wanted, first, n)?;
            order.reserve(1, GFP_KERNEL)?;
            order
                .insert_within_capacity(at, Arc::new(branch, GFP_KERNEL)?)
                .map_err(|_| EIO)?;
        }
        finish(context, global, options.settings, cred, order)
    }

    fn reconfigure(context: &Context<'_>, options: &mut Options, sb: &SuperBlock) -> Result {
        let info = sb.data();
        for wanted in options.branches.iter() {
            let member = info
                .table()
                .order
                .iter()
                .find(|branch| branch.root.dentry.is(&*wanted.path.dentry));
            // What `/proc/mounts` shows comes back with each remount.
            let same = member.is_some_and(|branch| {
                wanted
                    .spec
                    .access
                    .is_none_or(|access| access == branch.access)
            });
            if !same {
                return Err(mount_error!(
                    context,
                    EINVAL,
                    "branch {}: this version of ruaufs cannot change branches of a mounted union",
                    text(&wanted.spec.path)
                ));
            }
        }
        let mut now = *info.settings();
        now.xino = options.settings.xino;
        now.trunc_xino = options.settings.trunc_xino;
        if options.settings != Settings::DEFAULT && options.settings != now {
            return Err(mount_error!(
                context,
                EINVAL,
                "this version of ruaufs cannot change options of a mounted union"
            ));
        }
        Ok(())
    }
}

/// Checks a branch and makes it ready.
fn new_branch(
    context: &Context<'_>,
    cred: &Cred,
    order: &[Arc<Branch>],
    wanted: &Wanted,
    first: bool,
    n: usize,
) -> Result<Branch> {
    let path = &wanted.path;
    let name = text(&wanted.spec.path);
    let refuse = |errno: Error, why: fmt::Arguments<'_>| -> Error {
        mount_error!(
            context,
            errno,
            "option \"{}\": branch {}: {}",
            text(&wanted.option),
            name,
            why
        )
    };

    if order.len() >= MAX_BRANCHES {
        return Err(refuse(
            ENOSPC,
            fmt!("too many branches, the limit is {}", MAX_BRANCHES),
        ));
    }
    let fs_type = path.mount.type_name().to_bytes();
    if REFUSED_TYPES.contains(&fs_type) {
        return Err(refuse(
            EINVAL,
            fmt!("unsupported file system type {}", text(fs_type)),
        ));
    }
    if path.mount.stack_depth() >= MAX_STACK_DEPTH {
        return Err(refuse(
            EINVAL,
            fmt!(
                "too many stacked file systems ({} already, type {})",
                path.mount.stack_depth(),
                text(fs_type)
            ),
        ));
    }
    if path.dentry.is_unhashed() && !path.dentry.is_root() {
        return Err(refuse(EINVAL, fmt!("the directory was removed")));
    }
    if path.mount.is_idmapped() {
        return Err(refuse(EINVAL, fmt!("the mount is idmapped")));
    }
    if path.dentry.folds_case() {
        return Err(refuse(
            EINVAL,
            fmt!("the directory ignores the case of names"),
        ));
    }
    for other in order {
        let (a, b) = (&*path.dentry, &*other.root.dentry);
        if a.is(b) {
            return Err(refuse(EINVAL, fmt!("duplicated, it is a branch already")));
        }
        if a.is_below(b) || b.is_below(a) {
            return Err(refuse(
                EINVAL,
                fmt!("is overlapped by branch {}", text(&other.shown.to_bytes()?)),
            ));
        }
    }

    let read_only_type = READ_ONLY_TYPES.contains(&fs_type);
    let access = wanted
        .spec
        .access
        .unwrap_or_else(|| branch_spec::default_access(first, context.read_only(), read_only_type));
    check_attrs(context, name, &access)?;
    if access.perm == Perm::Rw && path.mount.sb_is_read_only() {
        return Err(refuse(
            EINVAL,
            fmt!("write permission for a read-only file system; use =ro"),
        ));
    }

    if access.perm == Perm::Rw && UNION_TYPES.contains(&fs_type) {
        return Err(refuse(
            EINVAL,
            fmt!("a union cannot be a writable branch, it has no names for whiteouts; use =ro"),
        ));
    }
    if access.perm == Perm::Rw {
        path.mount
            .want_write()
            .map_err(|error| refuse(error, fmt!("its mount is read-only; use =ro")))?;
    }

    let root = path
        .private()
        .map_err(|error| refuse(error, fmt!("cannot clone its mount: {:?}", error)))?;
    let work = if access.perm == Perm::Rw {
        let prepared = cred.scope(|| whiteout::prepare(&root, &access));
        Some(prepared.map_err(|refused| match refused {
            Refused::Foreign(object) => {
                let is_base = object == whname::BASE;
                let kind = if is_base { "file" } else { "directory" };
                refuse(
                    EINVAL,
                    fmt!("unknown {} exists, it must be a {}", text(object), kind),
                )
            }
            Refused::Error(error) => refuse(
                error,
                fmt!(
                    "cannot make its bookkeeping objects (.wh..wh.*): {:?}",
                    error
                ),
            ),
        })?)
    } else {
        None
    };

    let known =
        |branch: &&Arc<Branch>| core::ptr::eq(branch.root.mount.sb_ptr(), path.mount.sb_ptr());
    let fs = match order.iter().find(known) {
        Some(other) => other.fs,
        None => order
            .iter()
            .map(|branch| branch.fs.saturating_add(1))
            .max()
            .unwrap_or(0),
    };
    Ok(Branch {
        id: BranchId::nth(u16::try_from(n)?),
        shown: path.clone(),
        root,
        access,
        fs,
        work,
    })
}

/// Refuses branch attributes that this version does not carry out.
fn check_attrs(context: &Context<'_>, name: &BStr, access: &Access) -> Result {
    const MISSING: [(Attrs, &str); 4] = [
        (Attrs::MOO, "moo"),
        (Attrs::COO_REG, "coo_reg"),
        (Attrs::COO_ALL, "coo_all"),
        (Attrs::FHSM, "fhsm"),
    ];
    for (attr, word) in MISSING {
        if access.attrs.contains(attr) {
            return Err(mount_error!(
                context,
                EINVAL,
                "branch {}: attribute \"{}\" is not supported by this version of ruaufs",
                name,
                word
            ));
        }
    }
    Ok(())
}

/// What the branches make of the super block.
fn finish(
    context: &Context<'_>,
    global: &Global,
    settings: Settings,
    cred: Cred,
    order: KVec<Arc<Branch>>,
) -> Result<Mounted<Union>> {
    let depth = order
        .iter()
        .map(|branch| branch.root.mount.stack_depth())
        .max()
        .unwrap_or(0)
        .saturating_add(1);
    let top = order.first().ok_or(EINVAL)?;
    if top.access.perm != Perm::Rw && !context.read_only() {
        pr_warn!("the first branch should be rw: nothing can be made at the top\n");
    }
    if settings.warn_perm {
        for branch in order.iter().skip(1) {
            if !branch.root_inode()?.looks_like(top.root_inode()?) {
                pr_warn!(
                    "branch {}: owner or mode differs from the first branch's (nowarn_perm hides this)\n",
                    text(&branch.shown.to_bytes()?)
                );
            }
        }
    }
    let max_bytes = top.root.mount.max_bytes();
    let time_granularity = top.root.mount.time_granularity();
    let as_aufs = context.type_name().to_bytes() == b"aufs";
    let table = Arc::new(BranchTable { order }, GFP_KERNEL)?;
    // It names the mount, nothing else.
    let si = crate::fs::sb::random_id();
    let revalidate = settings.udba != Udba::None;
    let views = Views::new(global, si)?;
    let data = KBox::pin_init(
        SbInfo::new(table, cred, settings, as_aufs, si, depth, views),
        GFP_KERNEL,
    )?;
    data.views.update(data.table())?;
    Ok(Mounted {
        data,
        stack_depth: depth,
        max_bytes,
        time_granularity,
        revalidate,
    })
}
