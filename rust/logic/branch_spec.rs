// SPDX-License-Identifier: GPL-2.0

//! Branches as the user writes them: `PATH[=PERM[+ATTR...]]`.
//!
//! The string is cut at its first `=`; there is no escape. Parsing is as lenient as aufs's: what
//! is wrong in PERM and ATTR never fails a mount but makes a [`Warning`], which the caller logs.

#![forbid(unsafe_code)]

use super::env::{
    Help,
    KVec,
    Result,
    EINVAL,
    GFP_KERNEL_ACCOUNT, //
};

/// What the union may do with a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Perm {
    /// Read and write.
    Rw,
    /// Read; somebody else may still change it.
    Ro,
    /// Really read-only: nobody can change it.
    Rr,
}

impl Perm {
    /// All of them, and what they mean.
    pub const ALL: [(Perm, Help); 3] = [
        (Perm::Rw, Help::new("the union reads and writes it")),
        (
            Perm::Ro,
            Help::new("the union reads it; it may still be changed directly"),
        ),
        (
            Perm::Rr,
            Help::new("the union reads it; nothing can change it (squashfs, iso9660)"),
        ),
    ];

    /// Reads the word of a permission.
    pub fn from_word(word: &[u8]) -> Option<Self> {
        Self::ALL
            .iter()
            .map(|(perm, _)| *perm)
            .find(|perm| perm.word() == word)
    }

    /// Returns the word of the permission.
    pub const fn word(self) -> &'static [u8] {
        match self {
            Perm::Rw => b"rw",
            Perm::Ro => b"ro",
            Perm::Rr => b"rr",
        }
    }
}

/// A set of branch attributes. The bits have aufs's values, which its ioctls show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attrs {
    /// The union of the bits below.
    bits: u32,
}

impl Attrs {
    /// `coo_reg`: a regular file is copied up when it is opened.
    pub const COO_REG: Attrs = Attrs { bits: 0x8 };
    /// `coo_all`: as `coo_reg`, directories too.
    pub const COO_ALL: Attrs = Attrs { bits: 0x10 };
    /// `fhsm`: the branch takes part in hierarchical storage management.
    pub const FHSM: Attrs = Attrs { bits: 0x20 };
    /// `unpin`: obsolete, dropped by the parser.
    pub const UNPIN: Attrs = Attrs { bits: 0x40 };
    /// `icexsec`: errors on `security.*` attributes are ignored when copying up to the branch.
    pub const ICEX_SEC: Attrs = Attrs { bits: 0x80 };
    /// `icexsys`: the same for `system.*`.
    pub const ICEX_SYS: Attrs = Attrs { bits: 0x100 };
    /// `icextr`: the same for `trusted.*`.
    pub const ICEX_TR: Attrs = Attrs { bits: 0x200 };
    /// `icexusr`: the same for `user.*`.
    pub const ICEX_USR: Attrs = Attrs { bits: 0x400 };
    /// `icexoth`: the same for all other names.
    pub const ICEX_OTH: Attrs = Attrs { bits: 0x800 };
    /// `icex`: all of the five.
    pub const ICEX: Attrs = Attrs { bits: 0xf80 };
    /// `wh`: whiteouts and opaque marks on the branch count although it is not writable.
    pub const WH: Attrs = Attrs { bits: 0x1000 };
    /// `nolwh`: each whiteout is a file of its own instead of a hard link.
    pub const NOLWH: Attrs = Attrs { bits: 0x2000 };
    /// `moo`: as `coo_reg`, and the original is removed.
    pub const MOO: Attrs = Attrs { bits: 0x4000 };

    /// The copy-on-open attributes, of which the last one given counts.
    const ON_OPEN: Attrs = Attrs { bits: 0x4018 };
    /// Attributes for writable branches only.
    const WRITABLE_ONLY: Attrs = Attrs { bits: 0x6000 };
    /// Attributes for read-only branches only.
    const READ_ONLY_ONLY: Attrs = Attrs::WH;

    /// The words and what they mean, in the order in which they are written.
    pub const WORDS: &'static [(&'static [u8], Attrs, Help)] = &[
        (
            b"coo_reg",
            Attrs::COO_REG,
            Help::new("a regular file is copied up when it is opened"),
        ),
        (
            b"coo_all",
            Attrs::COO_ALL,
            Help::new("as coo_reg, directories too"),
        ),
        (b"unpin", Attrs::UNPIN, Help::new("obsolete, no effect")),
        (
            b"fhsm",
            Attrs::FHSM,
            Help::new("the branch takes part in hierarchical storage management"),
        ),
        (
            b"icex",
            Attrs::ICEX,
            Help::new("errors on extended attributes are ignored in copies to the branch"),
        ),
        (
            b"icexsec",
            Attrs::ICEX_SEC,
            Help::new("the same for security.* only"),
        ),
        (
            b"icexsys",
            Attrs::ICEX_SYS,
            Help::new("the same for system.* only"),
        ),
        (
            b"icextr",
            Attrs::ICEX_TR,
            Help::new("the same for trusted.* only"),
        ),
        (
            b"icexusr",
            Attrs::ICEX_USR,
            Help::new("the same for user.* only"),
        ),
        (
            b"icexoth",
            Attrs::ICEX_OTH,
            Help::new("the same for other names only"),
        ),
        (
            b"wh",
            Attrs::WH,
            Help::new("whiteouts and opaque marks on the branch count"),
        ),
        (
            b"moo",
            Attrs::MOO,
            Help::new("as coo_reg, and the original is removed"),
        ),
        (
            b"nolwh",
            Attrs::NOLWH,
            Help::new("each whiteout is a file of its own, no hard link"),
        ),
    ];

    /// Returns the bits.
    pub const fn bits(self) -> u32 {
        self.bits
    }

    /// Tells whether there is none.
    pub const fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// Tells whether all of `other` are there.
    pub const fn contains(self, other: Attrs) -> bool {
        self.bits & other.bits == other.bits
    }

    /// Returns those that are in both.
    pub const fn common(self, other: Attrs) -> Attrs {
        Attrs {
            bits: self.bits & other.bits,
        }
    }

    /// Returns these and `other`.
    pub const fn with(self, other: Attrs) -> Attrs {
        Attrs {
            bits: self.bits | other.bits,
        }
    }

    /// Returns these but not `other`.
    pub const fn without(self, other: Attrs) -> Attrs {
        Attrs {
            bits: self.bits & !other.bits,
        }
    }

    /// Returns what is done when an object of the branch is opened.
    pub fn on_open(self) -> Option<OnOpen> {
        let given = self.common(Self::ON_OPEN);
        if given.is_empty() {
            return None;
        }
        Some(if given.contains(Self::MOO) {
            OnOpen::MoveRegular
        } else if given.contains(Self::COO_ALL) {
            OnOpen::CopyAll
        } else {
            OnOpen::CopyRegular
        })
    }

    /// Writes `+` and the word of each attribute.
    #[inline(never)]
    pub fn write_to(self, out: &mut dyn FnMut(&[u8])) {
        let mut left = self;
        for &(word, attr, _) in Self::WORDS {
            if left.contains(attr) {
                left = left.without(attr);
                out(b"+");
                out(word);
            }
        }
    }

    /// Reads one word.
    pub fn from_word(word: &[u8]) -> Option<Self> {
        let row = Self::WORDS.iter().find(|(known, ..)| *known == word);
        row.map(|&(_, attr, _)| attr)
    }

    /// Returns those that mean nothing with a permission.
    pub const fn misfits(self, perm: Perm) -> Attrs {
        self.common(match perm {
            Perm::Rw => Attrs::READ_ONLY_ONLY,
            Perm::Ro | Perm::Rr => Attrs::WRITABLE_ONLY,
        })
    }

    /// Reads words up to the first unknown one; returns that and all that follows it too.
    fn from_words(mut text: &[u8]) -> (Attrs, Option<&[u8]>) {
        let mut attrs = Attrs::default();
        loop {
            let (word, rest) = split_at_byte(text, b'+');
            let Some(attr) = Self::from_word(word) else {
                return (attrs, Some(text));
            };
            if Self::ON_OPEN.contains(attr) {
                attrs = attrs.without(Self::ON_OPEN);
            }
            attrs = attrs.with(attr);
            match rest {
                Some(rest) => text = rest,
                None => return (attrs, None),
            }
        }
    }
}

/// What is done when an object is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnOpen {
    /// `coo_reg`: a regular file is copied up.
    CopyRegular,
    /// `coo_all`: a directory, too.
    CopyAll,
    /// `moo`: a regular file is copied up and the original removed.
    MoveRegular,
}

/// What the union may do with a branch, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The permission.
    pub perm: Perm,
    /// The attributes.
    pub attrs: Attrs,
}

impl Access {
    /// Makes an access without attributes.
    pub const fn new(perm: Perm) -> Self {
        Access {
            perm,
            attrs: Attrs { bits: 0 },
        }
    }

    /// Returns aufs's bits of permission and attributes.
    pub const fn bits(&self) -> u32 {
        let perm = match self.perm {
            Perm::Rw => 1,
            Perm::Ro => 2,
            Perm::Rr => 4,
        };
        self.attrs.bits() | perm
    }

    /// Tells whether the union may change the branch.
    pub fn may_write(&self) -> bool {
        self.perm == Perm::Rw
    }

    /// Tells whether whiteouts and opaque marks found on the branch count.
    pub fn honours_whiteouts(&self) -> bool {
        self.may_write() || self.attrs.contains(Attrs::WH)
    }

    /// Tells whether whiteouts made on the branch are hard links of one file.
    pub fn makes_linked_whiteouts(&self) -> bool {
        self.may_write() && !self.attrs.contains(Attrs::NOLWH)
    }

    /// Writes the access as it is parsed: `rw`, `ro+wh`.
    pub fn write_to(&self, out: &mut dyn FnMut(&[u8])) {
        out(self.perm.word());
        self.attrs.write_to(out);
    }

    /// Reads `PERM[+ATTR...]`; what is wrong with it goes to `notes`.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`.
    pub fn parse(text: &[u8], notes: &mut Warnings) -> Result<Self> {
        if text.is_empty() {
            // `PATH=`
            return Ok(Access::new(Perm::Ro));
        }
        let (word, rest) = split_at_byte(text, b'+');
        let Some(perm) = Perm::from_word(word) else {
            notes.push(Warning::UnknownPerm(copy(text)?), GFP_KERNEL_ACCOUNT)?;
            return Ok(Access::new(Perm::Ro));
        };
        let Some(rest) = rest else {
            return Ok(Access::new(perm));
        };
        let (mut attrs, unknown) = Attrs::from_words(rest);
        if let Some(unknown) = unknown {
            notes.push(Warning::UnknownAttr(copy(unknown)?), GFP_KERNEL_ACCOUNT)?;
        }
        if attrs.contains(Attrs::UNPIN) {
            attrs = attrs.without(Attrs::UNPIN);
            notes.push(Warning::ObsoleteAttr(Attrs::UNPIN), GFP_KERNEL_ACCOUNT)?;
        }
        let misfit = attrs.misfits(perm);
        if !misfit.is_empty() {
            attrs = attrs.without(misfit);
            notes.push(
                Warning::AttrDoesNotFit {
                    attrs: misfit,
                    perm,
                },
                GFP_KERNEL_ACCOUNT,
            )?;
        }
        Ok(Access { perm, attrs })
    }
}

/// Returns the access of a branch for which none was given.
///
/// The requested index counts within one mount or remount call; `append` requests a non-zero one,
/// `prepend` zero. A file system that is inherently read-only is squashfs, iso9660, cramfs, romfs.
pub fn default_access(
    requested_index_is_zero: bool,
    union_read_only: bool,
    fs_is_inherently_ro: bool,
) -> Access {
    Access::new(if fs_is_inherently_ro {
        Perm::Rr
    } else if requested_index_is_zero && !union_read_only {
        Perm::Rw
    } else {
        Perm::Ro
    })
}

/// What was wrong in a branch string, and ignored.
#[derive(Debug, PartialEq, Eq)]
pub enum Warning {
    /// This permission (with its attributes) is unknown; `ro` is taken.
    UnknownPerm(KVec<u8>),
    /// The first of these attributes is unknown; it and all after it are dropped.
    UnknownAttr(KVec<u8>),
    /// These attributes mean nothing with this permission; they are dropped.
    AttrDoesNotFit {
        /// The attributes.
        attrs: Attrs,
        /// The permission.
        perm: Perm,
    },
    /// This attribute means nothing any more; it is dropped.
    ObsoleteAttr(Attrs),
}

impl Warning {
    /// Writes one line of text for the log, without end of line.
    pub fn write_to(&self, out: &mut dyn FnMut(&[u8])) {
        match self {
            Warning::UnknownPerm(text) => {
                out(b"unknown branch permission \"");
                out(text);
                out(b"\" (rw, ro or rr), ro is taken");
            }
            Warning::UnknownAttr(text) => {
                out(b"unknown branch attribute, ignored from here on: \"");
                out(text);
                out(b"\"");
            }
            Warning::AttrDoesNotFit { attrs, perm } => {
                out(b"branch attribute \"");
                // The first byte is the `+` between permission and attributes.
                let mut first = true;
                attrs.write_to(&mut |text| {
                    if !first {
                        out(text);
                    }
                    first = false;
                });
                out(b"\" does not fit permission ");
                out(perm.word());
                out(b", ignored");
            }
            Warning::ObsoleteAttr(attrs) => {
                out(b"obsolete branch attribute \"");
                attrs.write_to(&mut |text| {
                    if text != b"+" {
                        out(text);
                    }
                });
                out(b"\", ignored");
            }
        }
    }
}

/// What was wrong in one branch string: at most three things.
pub type Warnings = KVec<Warning>;

/// A branch as the user asked for it.
#[derive(Debug, PartialEq, Eq)]
pub struct BranchSpec {
    /// The path, not empty, without NUL and `=`.
    pub path: KVec<u8>,
    /// The access; `None` if it was left out, then [`default_access`] tells.
    pub access: Option<Access>,
    /// What was ignored.
    pub notes: Warnings,
}

impl BranchSpec {
    /// Writes the branch as it is parsed.
    #[cfg(not(CONFIG_RUST))]
    pub fn write_to(&self, out: &mut dyn FnMut(&[u8])) {
        out(&self.path);
        if let Some(access) = &self.access {
            out(b"=");
            access.write_to(out);
        }
    }
}

/// Reads `PATH[=PERM[+ATTR...]]`.
///
/// # Errors
///
/// - `EINVAL`: the path is empty or has a NUL byte.
/// - `ENOMEM`.
pub fn parse(spec: &[u8]) -> Result<BranchSpec> {
    let (path, access) = split_at_byte(spec, b'=');
    if path.is_empty() || path.contains(&0) {
        return Err(EINVAL);
    }
    let mut notes = KVec::new();
    let access = match access {
        // Two options in one value, as only fsconfig(2) can give: mount(2) cuts at the comma.
        Some(text) if text.contains(&b',') => return Err(EINVAL),
        Some(text) => Some(Access::parse(text, &mut notes)?),
        None => None,
    };
    Ok(BranchSpec {
        path: copy(path)?,
        access,
        notes,
    })
}

/// Copies bytes into a vector of the exact size.
pub(super) fn copy(bytes: &[u8]) -> Result<KVec<u8>> {
    let mut copy = KVec::with_capacity(bytes.len(), GFP_KERNEL_ACCOUNT)?;
    copy.extend_from_slice(bytes, GFP_KERNEL_ACCOUNT)?;
    Ok(copy)
}

/// Splits `text` at the first `at`, which is in neither part.
pub(super) fn split_at_byte(text: &[u8], at: u8) -> (&[u8], Option<&[u8]>) {
    let mut parts = text.splitn(2, |&byte| byte == at);
    (parts.next().unwrap_or(&[]), parts.next())
}
