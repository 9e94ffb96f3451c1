// SPDX-License-Identifier: GPL-2.0

//! Branches as text: `PATH[=PERM[+ATTR...]]`.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

use anyhow::{bail, ensure, Result};

use crate::names::Show;

/// Permissions, and what they mean.
pub const PERMISSIONS: &[(&str, &str)] = &[
    ("rw", "the union reads and writes it"),
    ("ro", "the union reads it; it may still be changed directly"),
    (
        "rr",
        "the union reads it; nothing can change it (squashfs, iso9660)",
    ),
];

/// Attributes, the permissions they go with, and what they mean.
pub const ATTRIBUTES: &[(&str, &str, &str)] = &[
    (
        "wh",
        "ro, rr",
        "whiteouts and opaque marks on the branch count",
    ),
    (
        "nolwh",
        "rw",
        "each whiteout is a file of its own, no hard link",
    ),
    (
        "coo_reg",
        "all",
        "a regular file is copied up when it is opened",
    ),
    ("coo_all", "all", "as coo_reg, directories too"),
    ("moo", "rw", "as coo_reg, and the original is removed"),
    (
        "fhsm",
        "all",
        "the branch takes part in hierarchical storage management",
    ),
    (
        "icex",
        "all",
        "errors on extended attributes are ignored in copies to the branch",
    ),
    ("icexsec", "all", "the same for security.* only"),
    ("icexsys", "all", "the same for system.* only"),
    ("icextr", "all", "the same for trusted.* only"),
    ("icexusr", "all", "the same for user.* only"),
    ("icexoth", "all", "the same for other names only"),
    ("unpin", "all", "obsolete, no effect"),
];

/// What the union may do with a branch: `rw`, `ro+wh`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access(String);

impl Access {
    /// As the kernel shows it; words unknown here are kept.
    pub fn shown(text: &str) -> Self {
        Access(text.to_owned())
    }

    /// As a user gives it. The kernel takes unknown words with a warning only; here they are
    /// errors, since a person is there to correct them.
    pub fn parse(text: &str) -> Result<Self> {
        let mut words = text.split('+');
        let perm = words.next().unwrap_or_default();
        ensure!(
            PERMISSIONS.iter().any(|(word, _)| *word == perm),
            "unknown permission {perm:?}: it is rw, ro or rr"
        );
        for word in words {
            let Some((_, fits, _)) = ATTRIBUTES.iter().find(|(known, ..)| *known == word) else {
                let all: Vec<_> = ATTRIBUTES.iter().map(|(word, ..)| *word).collect();
                bail!("unknown attribute {word:?}: there are {}", all.join(", "));
            };
            ensure!(
                *fits == "all" || fits.split(", ").any(|fit| fit == perm),
                "attribute {word} does not fit permission {perm}: it is for {fits}"
            );
        }
        Ok(Access(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the union may write to the branch.
    pub fn may_write(&self) -> bool {
        self.0.split('+').next() == Some("rw")
    }

    /// Whether whiteouts and opaque marks on the branch count.
    pub fn honours_marks(&self) -> bool {
        self.may_write() || self.0.split('+').skip(1).any(|attr| attr == "wh")
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A branch as a user gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The directory.
    pub path: PathBuf,
    /// What may be done with it; the kernel decides if it is left out.
    pub access: Option<Access>,
}

impl Spec {
    /// Cuts at the first `=`, as the kernel does.
    pub fn parse(text: &OsStr) -> Result<Self> {
        let bytes = text.as_bytes();
        let (path, access) = match bytes.iter().position(|b| *b == b'=') {
            Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
            None => (bytes, None),
        };
        ensure!(
            !path.is_empty(),
            "a branch needs a path: PATH[=PERM[+ATTR...]]"
        );
        let access = match access {
            Some(text) => Some(Access::parse(&String::from_utf8_lossy(text))?),
            None => None,
        };
        let path = PathBuf::from(OsString::from_vec(path.to_vec()));
        Ok(Spec { path, access })
    }

    /// As the kernel reads it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = self.path.as_os_str().as_bytes().to_vec();
        if let Some(access) = &self.access {
            text.push(b'=');
            text.extend_from_slice(access.as_str().as_bytes());
        }
        text
    }
}

/// Whether the kernel can take this path in a list of branches.
pub fn check_path(path: &std::path::Path) -> Result<()> {
    for byte in [b'=', b':', b','] {
        ensure!(
            !path.as_os_str().as_bytes().contains(&byte),
            "{}: a branch's path cannot have {:?} in it; bind-mount the directory elsewhere",
            path.shown(),
            char::from(byte)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs() {
        let spec = |text: &str| Spec::parse(OsStr::new(text));
        let plain = spec("/a").unwrap();
        assert_eq!((plain.path, plain.access), ("/a".into(), None));
        let full = spec("/a=ro+wh+coo_reg").unwrap();
        assert_eq!(full.access.as_ref().unwrap().as_str(), "ro+wh+coo_reg");
        assert_eq!(full.to_bytes(), b"/a=ro+wh+coo_reg");
        for bad in [
            "",
            "=rw",
            "/a=",
            "/a=xx",
            "/a=rw+",
            "/a=rw+wh",
            "/a=ro+nolwh",
            "/a=ro+foo",
        ] {
            assert!(spec(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn meanings() {
        let is = |text| {
            let access = Access::shown(text);
            (access.may_write(), access.honours_marks())
        };
        assert_eq!(is("rw"), (true, true));
        assert_eq!(is("rw+nolwh"), (true, true));
        assert_eq!(is("ro"), (false, false));
        assert_eq!(is("ro+coo_reg+wh"), (false, true));
        assert_eq!(is("rr"), (false, false));
        assert_eq!(is("rr+new+wh"), (false, true));
    }
}
