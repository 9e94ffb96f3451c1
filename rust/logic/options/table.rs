// SPDX-License-Identifier: GPL-2.0

//! The table of mount options.
//!
//! A row has the word of an option, what it is, its default, the group in which manuals list it,
//! and a line of help, which is its comment. Of the table are made the parser, [`Settings`], their
//! text in `/proc/mounts`, and (in programs) the list [`ROWS`], of which the manuals are made. So
//! a new option that is on or off is one row of `flags`, and the use of the field of [`Settings`]
//! that the row makes.
//!
//! The order of the rows is that of `/proc/mounts`, which is aufs's; new ones come last.
//!
//! ```text
//! flags    WORD: VARIANT = DEFAULT, GROUP, on WORDS, off WORDS   also `noWORD`
//! values   WORD: VARIANT(TYPE) = DEFAULT, GROUP, SYNTAX, also WORDS
//! numbers  WORD: VARIANT = DEFAULT, GROUP, SYNTAX, (BOUNDS)
//! once     WORD: VARIANT, GROUP             a flag that counts in the call in which it is given
//! idle     WORD: VARIANT, GROUP             a flag without effect
//! branches WORDS: VARIANT, SYNTAX           of BranchOption; may be written with a colon
//! others   WORDS, GROUP, SYNTAX => FUNCTION what reads it
//! ```

#![forbid(unsafe_code)]

use super::{
    super::num,
    no_value,
    parse_index,
    parse_path,
    rows::{
        is,
        number,
        options, //
    },
    text_of,
    Bad,
    BranchOption,
    BranchSpec,
    CopyUpPolicy,
    CreatePolicy,
    Diropq,
    KVec,
    Udba,
    Xino, //
};
#[cfg(not(CONFIG_RUST))]
use super::{
    manual::{
        Group,
        Row,
        Shown, //
    },
    rows::bounds,
};

options! {
    // Before `si=`.
    first {
        /// Honours POSIX ACLs. ruaufs always does.
        acl: Acl = false, NoEffect;
    }

    flags {
        /// aufs cuts its tables of inode numbers short by itself. ruaufs has none.
        trunc_xino: TruncXino = false, NoEffect;
    }
    values {
        /// What is done about changes that somebody makes to a branch behind the union's back:
        /// `none`: there are none; `reval`: names are checked when they are used; `notify`: as
        /// `reval`, and directories of branches are watched.
        udba: Udba(Udba) = Udba::Reval, Changes;
    }
    numbers {}

    flags {
        /// Shows whiteouts and opaque marks that count.
        shwh: ShWh = false, Marks;
        /// Keeps the names of a file together when it is copied up by one of them.
        plink: Plink = true, Links;
        /// Judges the permission of a directory by its top instance only. ruaufs always does.
        dirperm1: DirPerm1 = false, NoEffect;
    }
    values {
        /// Which branch gets a new object. BYTES is a limit of free space, SEC for how long a
        /// measured free space is believed.
        create: Create(CreatePolicy) = CreatePolicy::Tdp, Placement, also "create_policy";
        /// Which branch gets the copy of an object: a writable one that has the parent directory,
        /// the topmost (`tdp`) or the nearest (`bup`), or the nearest writable one (`bu`).
        cpup: CopyUp(CopyUpPolicy) = CopyUpPolicy::Tdp, Placement, also "copyup" "copyup_policy";
        /// A new directory is opaque always, or where there was a whiteout of its name.
        diropq: Diropq(Diropq) = Diropq::Whiteouted, Marks;
    }
    numbers {
        /// A directory with more whiteouts than this is removed in the background.
        dirwh: Dirwh = 3, Marks, "N", ("number" from 0 to 2147483647);
        /// For how many seconds a merged directory is kept.
        rdcache: RdCache = 10, Listings, "SEC", ("number of seconds" from 0 to 3600);
        /// The size of a block of a listing in aufs. ruaufs takes what the names need.
        rdblk: RdBlk = 512, NoEffect, "BYTES",
            (def or 0 or "number of bytes" from 255 to 4194304);
        /// The size of the hash table of a listing in aufs. ruaufs takes what the names need.
        rdhash: RdHash = 32, NoEffect, "N", (def or 0 or "number of buckets" up to 524288);
        /// The shortest time between two messages to a storage management daemon.
        fhsm_sec: FhsmSec = 30, Storage, "SEC", ("number of seconds" from 0 to 2147483647);
    }

    flags {
        /// Allows renaming directories that have contents on lower branches.
        dirren: DirRen = false, Renaming;
        /// statfs(2) adds up the file systems of all branches.
        sum: Sum = false, Other, off "wsum";
        /// A directory is the writable branch of one union at a time. With `noclaim` this union
        /// does without, writes where others write, and cannot have `udba=none`.
        claim: Claim = true, Claims;
        /// The log warns of a branch, when it is added, whose root has another owner or mode than
        /// the first one's.
        warn_perm: WarnPerm = true, Log;
        /// The log says why a copy-up failed.
        verbose: Verbose = false, Log, on "v", off "quiet" "q" "silent";
    }
    values {}
    numbers {}

    once {
        /// aufs cuts the table of its tables short. ruaufs has none.
        trunc_xib: TruncXib, NoEffect;
    }
    idle {
        /// Direct I/O. The branch decides.
        dio: Dio, NoEffect;
    }
    branches {
        /// Branches, topmost first. The option may be repeated: counting goes on. At a remount,
        /// branches that the union has already are left alone.
        "br" "dirs": List, "B[:B...]";
        /// One branch, at index N; the topmost is 0.
        "add" "ins": Add, "N:B";
        /// One branch, at the bottom.
        "append": Append, "B";
        /// One branch, at the top.
        "prepend": Prepend, "B";
        /// Removes a branch (remount only). Its directory stays as it is.
        "del": Del, "PATH";
        /// Changes permission and attributes of a branch (remount only).
        "mod": Mod, "PATH=PERM[+ATTR...]";
    }
    others {
        /// Where aufs keeps tables of inode numbers. ruaufs computes the numbers.
        "xino", NoEffect, "PATH" => |_, value| Ok(Opt::Xino(parse_path(text_of(value)?)?));
        /// The same: there are no tables.
        "noxino", NoEffect, "" => |_, value| no_value(value, Opt::NoXino);
        /// Cuts the table of this branch short (remount only). ruaufs has none.
        "trunc_xino", NoEffect, "BRANCH" => |_, value| {
            Ok(Opt::TruncXinoBranch(parse_path(text_of(value)?)?))
        };
        /// The same for the branch with this index.
        "itrunc_xino", NoEffect, "N" => |_, value| {
            Ok(Opt::TruncXinoIndex(parse_index(text_of(value)?)?))
        };
        /// Writes all pseudo-links to the log.
        "list_plink", Links, "" => |_, value| no_value(value, Opt::ListPlink);
        /// Names the mount in `/proc/mounts`; ignored, as remounts repeat it.
        "si", Ignored, "ID" => |_, _| Ok(Opt::Silent);
        /// Ignored.
        "relatime" "nodlgt", Ignored, "" => |_, _| Ok(Opt::Silent);
        /// Ignored with a warning.
        "clean_plink", Ignored, "" => |word, _| Ok(Opt::Obsolete(word));
        /// Ignored with a warning.
        "debug" "delete" "imap", Ignored, "..." => |word, _| Ok(Opt::Obsolete(word));
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::DEFAULT
    }
}
