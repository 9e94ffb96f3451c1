// SPDX-License-Identifier: GPL-2.0

//! Pseudo-links: hard links that survive copy-up.
//!
//! When a file with several names is copied up, the copy gets one of the names, and a second
//! link in a directory at the branch's root with a note ([`crate::logic::plink`]) that says which
//! lower file it is a copy of. Whoever comes by another name, which still leads to the original
//! (the *origin*), gets the copy ([`resolve`](crate::union::plink::originals::resolve)): at once,
//! after eviction, and at the next mount.
//!
//! The note counts the names, too, as the link count of the copy says nothing of those that are
//! only on the branches below. A file that was not copied has a note as soon as one of its names
//! is hidden: then an empty file carries it.
//!
//! | module | what it does |
//! |---|---|
//! | [`load`] | reading what an earlier mount left |
//! | [`originals`] | which copy a file that was found has |
//! | [`link`] | making a pseudo-link and its note, and taking both away |
//! | [`count`] | how many names a note counts |
//! | [`part`] | `noplink`: names part when one of them is copied up |
//!
//! May use [`state`](super::state) and what is below. The notes of a branch, in memory, are in
//! [`notes`](super::branches::notes), what tells a lower file from all others in
//! [`origin`](super::branches::origin).
//!
//! # Without a note
//!
//! Some file systems cannot be recognised at the next mount
//! ([`identity`](crate::union::branches::origin::identity)), some take no `trusted.*` attributes.
//! Then the union's inode is kept in memory until unmount instead, and the names part there, as in
//! aufs.
//!
//! # With `noplink`
//!
//! No pseudo-links are made. Those that are there go on to hold, as they say what a name leads to:
//! what a file contains does not depend on the option.
//!
//! # Why a note leads to no wrong file
//!
//! It is believed only where the file that was found has all that is noted: file system, number,
//! generation, type, size and time of the last change of contents; the last two not if it was not
//! copied, since the union writes to it on its own branch then. The file that carries the note must
//! be what the note says, too, each time it is looked for: a copy is of the type of the origin,
//! what only counts is an empty regular file, and it is the one that was read at the mount
//! ([`notes::File`](crate::union::branches::notes::File)). A note is asked for only on branches
//! above the one where the file was found. If two branches are on file systems that look the same
//! (clones of one image), nothing is believed of either.
//!
//! # Locking
//!
//! Entries of an object are changed under its lock
//! ([`crate::union::objects::object::InodeInfo::lock`]). The lists are leaf locks; references are
//! dropped after them.

#![forbid(unsafe_code)]

pub(crate) mod count;
pub(crate) mod link;
pub(crate) mod load;
pub(crate) mod originals;
pub(crate) mod part;
