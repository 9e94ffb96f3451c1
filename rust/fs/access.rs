// SPDX-License-Identifier: GPL-2.0

//! How contents, attributes and names of foreign objects are read and changed.
//!
//! May use [`objects`](super::objects) and what is below. Of the callbacks it knows nothing.

pub(crate) mod acl;
pub(crate) mod attr;
pub(crate) mod backing;
pub(crate) mod descriptor;
pub(crate) mod dir;
pub(crate) mod dirop;
pub(crate) mod export;
pub(crate) mod feed;
pub(crate) mod io;
pub(crate) mod notify;
pub(crate) mod statfs;
pub(crate) mod xattr;
