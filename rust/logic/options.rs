// SPDX-License-Identifier: GPL-2.0

//! Mount options: from text to typed values and back.
//!
//! One option arrives as a key and perhaps a value: from fsconfig(2), or from the string of
//! mount(2) which was split at `,` and then at the first `=`. The branch options have an older
//! spelling with a colon, `br:/a=rw:/b=ro`, which is therefore cut in an odd place and arrives as
//! key `br:/a`, value `rw:/b=ro`; [`parse`] puts it together again.

#![forbid(unsafe_code)]

mod policy;
mod settings;

#[cfg(not(CONFIG_RUST))]
pub use self::{
    policy::Keep,
    settings::Xino, //
};
pub use self::{
    policy::{
        CopyUpPolicy,
        CreatePolicy, //
    },
    settings::Settings,
};

use super::{
    branch_spec::{
        self,
        copy,
        split_at_byte,
        BranchSpec, //
    },
    env::{
        AllocError,
        Error,
        KVec,
        EDOM,
        EINVAL,
        ENOMEM,
        GFP_KERNEL_ACCOUNT, //
    },
    num, //
};

/// What is done about changes that somebody makes to a branch behind the union's back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Udba {
    /// Nothing: there are none.
    None,
    /// Each use of a name is checked.
    #[default]
    Reval,
    /// As `Reval`, and the directories are watched.
    Notify,
}

/// When a new directory is made opaque.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Diropq {
    /// Always.
    Always,
    /// When there was a whiteout of its name.
    #[default]
    Whiteouted,
}

/// An option that is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// `acl`.
    Acl,
    /// `claim`.
    Claim,
    /// `dio`; without effect.
    Dio,
    /// `dirperm1`.
    DirPerm1,
    /// `dirren`.
    DirRen,
    /// `plink`.
    Plink,
    /// `shwh`.
    ShWh,
    /// `sum`; `wsum` turns it off too.
    Sum,
    /// `trunc_xib`; for the present call only.
    TruncXib,
    /// `trunc_xino`.
    TruncXino,
    /// `verbose`.
    Verbose,
    /// `warn_perm`.
    WarnPerm,
}

/// One option.
#[derive(Debug, PartialEq, Eq)]
pub enum Opt {
    /// `br=B[:B...]`, `dirs=`: add these in order, counting from index 0 in each call; never
    /// empty.
    Branches(KVec<BranchSpec>),
    /// `add=N:B`, `ins=`: add this one so that it gets the index.
    Add {
        /// The index, not negative.
        index: i32,
        /// The branch.
        spec: BranchSpec,
    },
    /// `append=B`: add this one at the bottom.
    Append(BranchSpec),
    /// `prepend=B`: add this one at the top.
    Prepend(BranchSpec),
    /// `del=PATH`: remove the branch.
    Del(KVec<u8>),
    /// `mod=PATH=PERM[+ATTR]`: change the access of the branch; it is always `Some`.
    Mod(BranchSpec),
    /// `xino=PATH`.
    Xino(KVec<u8>),
    /// `noxino`.
    NoXino,
    /// `trunc_xino=PATH`: truncate the table of this branch now.
    TruncXinoBranch(KVec<u8>),
    /// `itrunc_xino=N`: truncate the table of the branch with this index, not negative, now.
    TruncXinoIndex(i32),
    /// `create=`.
    Create(CreatePolicy),
    /// `cpup=`.
    CopyUp(CopyUpPolicy),
    /// `udba=`.
    Udba(Udba),
    /// `dirwh=N`.
    Dirwh(u32),
    /// `diropq=`.
    Diropq(Diropq),
    /// `rdcache=SEC`.
    RdCache(u32),
    /// `rdblk=BYTES`; 0 means "estimate".
    RdBlk(u32),
    /// `rdhash=N`; 0 means "estimate".
    RdHash(u32),
    /// `fhsm_sec=SEC`.
    FhsmSec(u32),
    /// `list_plink`: print the pseudo-links to the log.
    ListPlink,
    /// A word, or `no` and the word.
    Flag(Flag, bool),
    /// This word is accepted with a warning, and ignored.
    Obsolete(&'static str),
    /// Accepted and ignored: `si=`, `relatime`, `nodlgt`.
    Silent,
}

/// Why an option is refused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bad {
    /// There is no such option here; the VFS may know it.
    Unknown,
    /// It is ours, but its value is wrong.
    Invalid {
        /// The errno for the user.
        errno: Error,
        /// What is allowed; follows the option's name in a message.
        why: &'static str,
    },
    /// Memory is short.
    NoMemory,
}

impl Bad {
    /// Makes the error for a wrong value.
    const fn invalid(why: &'static str) -> Self {
        Bad::Invalid { errno: EINVAL, why }
    }
}

impl From<AllocError> for Bad {
    fn from(_: AllocError) -> Self {
        Bad::NoMemory
    }
}

/// What makes up a flag: a word and what it stands for.
type FlagWord = (&'static [u8], Flag, bool);

/// Options without a value that stand for a flag.
const FLAGS: &[FlagWord] = &[
    (b"acl", Flag::Acl, true),
    (b"noacl", Flag::Acl, false),
    (b"claim", Flag::Claim, true),
    (b"noclaim", Flag::Claim, false),
    (b"dio", Flag::Dio, true),
    (b"nodio", Flag::Dio, false),
    (b"dirperm1", Flag::DirPerm1, true),
    (b"nodirperm1", Flag::DirPerm1, false),
    (b"dirren", Flag::DirRen, true),
    (b"nodirren", Flag::DirRen, false),
    (b"plink", Flag::Plink, true),
    (b"noplink", Flag::Plink, false),
    (b"shwh", Flag::ShWh, true),
    (b"noshwh", Flag::ShWh, false),
    (b"sum", Flag::Sum, true),
    (b"nosum", Flag::Sum, false),
    (b"wsum", Flag::Sum, false),
    (b"trunc_xib", Flag::TruncXib, true),
    (b"notrunc_xib", Flag::TruncXib, false),
    (b"trunc_xino", Flag::TruncXino, true),
    (b"notrunc_xino", Flag::TruncXino, false),
    (b"verbose", Flag::Verbose, true),
    (b"v", Flag::Verbose, true),
    (b"noverbose", Flag::Verbose, false),
    (b"quiet", Flag::Verbose, false),
    (b"q", Flag::Verbose, false),
    (b"silent", Flag::Verbose, false),
    (b"warn_perm", Flag::WarnPerm, true),
    (b"nowarn_perm", Flag::WarnPerm, false),
];

/// The most bytes that `rdblk=` allows: what the kernel allocates at once.
const RDBLK_MAX: u32 = 4 << 20;
/// The least bytes that `rdblk=` allows: one name.
const RDBLK_MIN: u32 = 255;
/// The most buckets that `rdhash=` allows: as many pointers as fit into an allocation.
const RDHASH_MAX: u32 = RDBLK_MAX / 8;
/// The most seconds that `rdcache=` allows.
const RDCACHE_MAX: u32 = 3600;

/// Reads one option.
///
/// # Errors
///
/// See [`Bad`].
pub fn parse(key: &[u8], value: Option<&[u8]>) -> Result<Opt, Bad> {
    let (name, rest) = split_at_byte(key, b':');
    if let Some(rest) = rest {
        return match (name, BranchOption::from_name(name)) {
            (b"dirs", _) | (_, None) => Err(Bad::Unknown),
            (_, Some(option)) => option.parse(&rejoin(rest, value)?),
        };
    }
    if let Some(option) = BranchOption::from_name(key) {
        return option.parse(value.ok_or(option.usage())?);
    }
    if let Some(&(_, flag, on)) = FLAGS.iter().find(|(word, ..)| *word == key) {
        return match (flag, on, value) {
            (_, _, None) => Ok(Opt::Flag(flag, on)),
            (Flag::TruncXino, true, Some(path)) => Ok(Opt::TruncXinoBranch(parse_path(path)?)),
            _ => Err(Bad::invalid("takes no value")),
        };
    }
    parse_other(key, value)
}

/// Tells whether an option may be written with a colon, `KEY:VALUE`.
#[cfg(not(CONFIG_RUST))]
pub fn takes_colon(key: &[u8]) -> bool {
    key != b"dirs" && BranchOption::from_name(key).is_some()
}

/// Tells whether the value of an option is a list of branches.
#[cfg(not(CONFIG_RUST))]
pub fn is_list(key: &[u8]) -> bool {
    matches!(BranchOption::from_name(key), Some(BranchOption::List))
}

/// Reads an option that is neither about branches nor a flag.
fn parse_other(key: &[u8], value: Option<&[u8]>) -> Result<Opt, Bad> {
    let text = || value.ok_or(Bad::invalid("needs a value"));
    match key {
        b"si" | b"relatime" | b"nodlgt" => Ok(Opt::Silent),
        b"clean_plink" => Ok(Opt::Obsolete("clean_plink")),
        b"debug" => Ok(Opt::Obsolete("debug")),
        b"delete" => Ok(Opt::Obsolete("delete")),
        b"imap" => Ok(Opt::Obsolete("imap")),
        b"noxino" | b"list_plink" if value.is_some() => Err(Bad::invalid("takes no value")),
        b"noxino" => Ok(Opt::NoXino),
        b"list_plink" => Ok(Opt::ListPlink),
        b"xino" => Ok(Opt::Xino(parse_path(text()?)?)),
        b"itrunc_xino" => Ok(Opt::TruncXinoIndex(parse_index(text()?)?)),
        b"create" | b"create_policy" => Ok(Opt::Create(CreatePolicy::parse(text()?)?)),
        b"cpup" | b"copyup" | b"copyup_policy" => Ok(Opt::CopyUp(CopyUpPolicy::parse(text()?)?)),
        b"udba" => match text()? {
            b"none" => Ok(Opt::Udba(Udba::None)),
            b"reval" => Ok(Opt::Udba(Udba::Reval)),
            b"notify" | b"fsnotify" => Ok(Opt::Udba(Udba::Notify)),
            _ => Err(Bad::invalid("must be none, reval, notify or fsnotify")),
        },
        b"diropq" => match text()? {
            b"a" | b"always" => Ok(Opt::Diropq(Diropq::Always)),
            b"w" | b"whiteouted" => Ok(Opt::Diropq(Diropq::Whiteouted)),
            _ => Err(Bad::invalid("must be a, always, w or whiteouted")),
        },
        b"dirwh" => number(text()?, |_| true)
            .map(Opt::Dirwh)
            .ok_or(Bad::invalid("must be a number from 0 to 2147483647")),
        b"rdcache" => number(text()?, |n| n <= RDCACHE_MAX)
            .map(Opt::RdCache)
            .ok_or(Bad::invalid("must be a number of seconds from 0 to 3600")),
        b"rdblk" => match text()? {
            b"def" => Some(Settings::DEFAULT.rdblk),
            text => number(text, |n| n == 0 || (RDBLK_MIN..=RDBLK_MAX).contains(&n)),
        }
        .map(Opt::RdBlk)
        .ok_or(Bad::invalid(
            "must be def, 0 (estimate) or a number of bytes from 255 to 4194304",
        )),
        b"rdhash" => match text()? {
            b"def" => Some(Settings::DEFAULT.rdhash),
            text => number(text, |n| n <= RDHASH_MAX),
        }
        .map(Opt::RdHash)
        .ok_or(Bad::invalid(
            "must be def, 0 (estimate) or a number of buckets up to 524288",
        )),
        b"fhsm_sec" => number(text()?, |_| true)
            .map(Opt::FhsmSec)
            .ok_or(Bad::invalid(
                "must be a number of seconds from 0 to 2147483647",
            )),
        _ => Err(Bad::Unknown),
    }
}

/// An option about branches.
#[derive(Clone, Copy)]
enum BranchOption {
    /// `br`, `dirs`.
    List,
    /// `add`, `ins`.
    Add,
    /// `append`.
    Append,
    /// `prepend`.
    Prepend,
    /// `del`.
    Del,
    /// `mod`.
    Mod,
}

impl BranchOption {
    /// Finds the option of this name.
    fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"br" | b"dirs" => Some(BranchOption::List),
            b"add" | b"ins" => Some(BranchOption::Add),
            b"append" => Some(BranchOption::Append),
            b"prepend" => Some(BranchOption::Prepend),
            b"del" => Some(BranchOption::Del),
            b"mod" => Some(BranchOption::Mod),
            _ => None,
        }
    }

    /// Returns the error that tells what the value looks like.
    const fn usage(self) -> Bad {
        Bad::invalid(match self {
            BranchOption::List => "needs at least one branch: PATH[=PERM[+ATTR]][:PATH...]",
            BranchOption::Add => "must be INDEX:PATH[=PERM[+ATTR]]",
            BranchOption::Append | BranchOption::Prepend => "must be PATH[=PERM[+ATTR]]",
            BranchOption::Del => "must be a path",
            BranchOption::Mod => "must be PATH=PERM[+ATTR]",
        })
    }

    /// Reads one branch.
    fn spec(self, text: &[u8]) -> Result<BranchSpec, Bad> {
        branch_spec::parse(text).map_err(|error| {
            if error == ENOMEM {
                Bad::NoMemory
            } else {
                self.usage()
            }
        })
    }

    /// Reads the value.
    fn parse(self, value: &[u8]) -> Result<Opt, Bad> {
        match self {
            BranchOption::List => {
                let mut list = KVec::new();
                // As in aufs, an empty element ends the list.
                let texts = value.split(|&byte| byte == b':');
                for text in texts.take_while(|text| !text.is_empty()) {
                    list.push(self.spec(text)?, GFP_KERNEL_ACCOUNT)?;
                }
                if list.is_empty() {
                    return Err(self.usage());
                }
                Ok(Opt::Branches(list))
            }
            BranchOption::Add => {
                let (index, text) = split_at_byte(value, b':');
                let spec = self.spec(text.ok_or(self.usage())?)?;
                let index = parse_index(index)?;
                Ok(Opt::Add { index, spec })
            }
            BranchOption::Append => Ok(Opt::Append(self.spec(value)?)),
            BranchOption::Prepend => Ok(Opt::Prepend(self.spec(value)?)),
            BranchOption::Del => Ok(Opt::Del(parse_path(value)?)),
            BranchOption::Mod => {
                let spec = self.spec(value)?;
                if spec.access.is_none() {
                    return Err(self.usage());
                }
                Ok(Opt::Mod(spec))
            }
        }
    }
}

/// Puts `rest` and `value` together as they were before they were cut at `=`.
fn rejoin(rest: &[u8], value: Option<&[u8]>) -> Result<KVec<u8>, Bad> {
    let value_len = value.map_or(0, <[u8]>::len);
    let len = rest.len().saturating_add(value_len).saturating_add(1);
    let mut whole = KVec::with_capacity(len, GFP_KERNEL_ACCOUNT)?;
    whole.extend_from_slice(rest, GFP_KERNEL_ACCOUNT)?;
    if let Some(value) = value {
        whole.push(b'=', GFP_KERNEL_ACCOUNT)?;
        whole.extend_from_slice(value, GFP_KERNEL_ACCOUNT)?;
    }
    Ok(whole)
}

/// Reads a path.
fn parse_path(text: &[u8]) -> Result<KVec<u8>, Bad> {
    if text.is_empty() || text.contains(&0) {
        return Err(Bad::invalid("must be a path"));
    }
    copy(text).map_err(|_| Bad::NoMemory)
}

/// Reads the index of a branch.
fn parse_index(text: &[u8]) -> Result<i32, Bad> {
    let Some(n) = num::parse_signed(text) else {
        return Err(Bad::invalid("needs an index, a number from 0"));
    };
    i32::try_from(n)
        .ok()
        .filter(|&n| n >= 0)
        .ok_or(Bad::Invalid {
            errno: EDOM,
            why: "needs an index from 0 to the number of branches",
        })
}

/// Reads a number which is not negative as an `i32` and which `fits`.
fn number(text: &[u8], fits: impl Fn(u32) -> bool) -> Option<u32> {
    let n = i32::try_from(num::parse_signed(text)?).ok()?;
    u32::try_from(n).ok().filter(|&n| fits(n))
}
