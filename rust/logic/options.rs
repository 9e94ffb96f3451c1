// SPDX-License-Identifier: GPL-2.0

//! Mount options: from text to typed values and back.
//!
//! One option arrives as a key and perhaps a value: from fsconfig(2), or from the string of
//! mount(2) which was split at `,` and then at the first `=`. The branch options have an older
//! spelling with a colon, `br:/a=rw:/b=ro`, which is therefore cut in an odd place and arrives as
//! key `br:/a`, value `rw:/b=ro`; [`parse`] puts it together again.

#![forbid(unsafe_code)]

mod choice;
#[cfg(not(CONFIG_RUST))]
pub mod manual;
mod policy;
mod rows;
mod table;

#[cfg(not(CONFIG_RUST))]
pub use self::{
    policy::Keep,
    table::ROWS, //
};
pub use self::{
    policy::{
        CopyUpPolicy,
        CreatePolicy, //
    },
    table::{
        Flag,
        Opt,
        Settings, //
    },
};

use self::choice::choice;
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

choice! {
    /// What is done about changes that somebody makes to a branch behind the union's back.
    Udba, "none|reval|notify|fsnotify", "must be none, reval, notify or fsnotify" {
        /// Nothing: there are none.
        None = "none",
        /// Each use of a name is checked.
        #[default]
        Reval = "reval",
        /// As `Reval`, and the directories are watched.
        Notify = "notify" | "fsnotify",
    }
}

choice! {
    /// When a new directory is made opaque.
    Diropq, "a|always|w|whiteouted", "must be a, always, w or whiteouted" {
        /// Always.
        Always = "a" | "always",
        /// When there was a whiteout of its name.
        #[default]
        Whiteouted = "w" | "whiteouted",
    }
}

/// Where the table of inode numbers was asked to be. The union needs none; this is for display.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Xino {
    /// Nothing was said.
    #[default]
    Default,
    /// At a path, which the caller keeps ([`Opt::Xino`]).
    Given,
    /// `noxino`.
    None,
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

/// Reads one option.
///
/// # Errors
///
/// See [`Bad`].
pub fn parse(key: &[u8], value: Option<&[u8]>) -> Result<Opt, Bad> {
    let (name, rest) = split_at_byte(key, b':');
    if let Some(rest) = rest {
        return match table::branch_option(name).filter(|_| takes_colon(name)) {
            Some(option) => option.parse(&rejoin(rest, value)?),
            None => Err(Bad::Unknown),
        };
    }
    if let Some(option) = table::branch_option(key) {
        return option.parse(value.ok_or(option.usage())?);
    }
    let Some((flag, on)) = table::flag(key) else {
        return table::parse_other(key, value);
    };
    if value.is_none() {
        return Ok(Opt::Flag(flag, on));
    }
    // `trunc_xino=` is another option.
    match table::parse_other(key, value) {
        Err(Bad::Unknown) => Err(Bad::invalid("takes no value")),
        other => other,
    }
}

/// Returns the value of an option that needs one.
fn text_of(value: Option<&[u8]>) -> Result<&[u8], Bad> {
    value.ok_or(Bad::invalid("needs a value"))
}

/// Returns `opt` if there is no value.
fn no_value(value: Option<&[u8]>, opt: Opt) -> Result<Opt, Bad> {
    match value {
        None => Ok(opt),
        Some(_) => Err(Bad::invalid("takes no value")),
    }
}

/// Tells whether an option may be written with a colon, `KEY:VALUE`.
pub fn takes_colon(key: &[u8]) -> bool {
    key != b"dirs" && table::branch_option(key).is_some()
}

/// Tells whether the value of an option is a list of branches.
#[cfg(not(CONFIG_RUST))]
pub fn is_list(key: &[u8]) -> bool {
    matches!(table::branch_option(key), Some(BranchOption::List))
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

/// Reads a number for which there are also `def`, the default, and 0, which means to estimate it.
fn estimated(text: &[u8], default: u32, min: u32, max: u32) -> Option<u32> {
    match text {
        b"def" => Some(default),
        text => number(text, |n| n == 0 || (min..=max).contains(&n)),
    }
}
