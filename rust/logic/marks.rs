// SPDX-License-Identifier: GPL-2.0

//! How a branch stores what hides names: the face of all formats of marks.
//!
//! A *mark* is a whiteout, which hides one name on the branches below, or the opaque mark of a
//! directory, which hides all. A [`Format`] says where both are stored and how they are told from
//! objects; nothing but a format does. What is decided from marks ([`lookup`](super::lookup),
//! [`merge`](super::merge), [`index`](super::index)) is decided from answers and from
//! [`Role`]s, which are the same for all formats.
//!
//! There is one format, that of aufs ([`aufs`]). The tests on the host have another one, in which a
//! whiteout is a device with the name that it hides.
//!
//! # Invariants
//!
//! A mark is never taken for an object: what is known to be the name of an object, or of none, is a
//! [`UserName`], and only a format makes one.

#![forbid(unsafe_code)]

use core::ops::Deref;

use super::env::Result;

pub mod aufs;

/// A name under which a user's object may be, and no mark or other object of the union's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserName<'a>(&'a [u8]);

impl<'a> UserName<'a> {
    /// Returns the bytes of the name.
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Takes the word of a format outside of this crate that `name` is one.
    #[cfg(not(CONFIG_RUST))]
    pub fn vouched_for(name: &'a [u8]) -> Self {
        UserName(name)
    }
}

impl Deref for UserName<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.0
    }
}

/// A name that a look-up asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sought<'a> {
    /// The name of an object.
    Object(UserName<'a>),
    /// The name that a mark has itself: such names are shown with `shwh`. Nothing hides it.
    Mark(&'a [u8]),
}

impl<'a> Sought<'a> {
    /// Returns the bytes of the name.
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Sought::Object(UserName(name)) | Sought::Mark(name) => name,
        }
    }

    /// Returns the name if it is that of an object.
    #[inline]
    pub fn object(self) -> Option<UserName<'a>> {
        match self {
            Sought::Object(name) => Some(name),
            Sought::Mark(_) => None,
        }
    }
}

impl<'a> From<UserName<'a>> for Sought<'a> {
    #[inline]
    fn from(name: UserName<'a>) -> Self {
        Sought::Object(name)
    }
}

/// What an entry of a branch's directory is for the union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role<'a> {
    /// An object of the user's, under its own name.
    Object,
    /// The whiteout of this name, which is the end of the entry's.
    Whiteout(&'a [u8]),
    /// The opaque mark of the directory.
    Opaque,
    /// Another object of the union's own: bookkeeping, or something temporary.
    Own,
}

/// A directory of a branch, as far as formats look into it.
pub trait Dir {
    /// What is found under a name.
    type Entry;

    /// Tells whether the directory has the mark `name`.
    ///
    /// # Errors
    ///
    /// What the branch gives; `EIO` if there is something that can be no mark.
    fn has(&self, name: &[u8]) -> Result<bool>;
}

/// How marks are stored in directories of the type `D`.
pub trait Format<D: Dir + ?Sized> {
    /// Returns `name` if a user's object may have it.
    fn user(name: &[u8]) -> Option<UserName<'_>>;

    /// Tells what `dir` has under `name`, of the type `dtype`, as a listing gives both.
    fn role<'a>(dir: &D, name: &'a [u8], dtype: u8) -> Result<Role<'a>>;

    /// Tells whether `entry`, which was found under a user's name, is a mark and not an object.
    fn is_mark(entry: &D::Entry) -> bool;

    /// Tells whether `dir` has a whiteout of `name`.
    ///
    /// # Errors
    ///
    /// - `ENAMETOOLONG`: no branch can store one.
    /// - What `dir` gives.
    fn hides(dir: &D, name: UserName<'_>) -> Result<bool>;

    /// Tells whether `dir` is opaque.
    ///
    /// # Errors
    ///
    /// What `dir` gives.
    fn is_opaque(dir: &D) -> Result<bool>;
}
