// SPDX-License-Identifier: GPL-2.0

//! Branches as text: `PATH[=PERM[+ATTR...]]`.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

use anyhow::{bail, ensure, Result};
use logic::branch_spec::{self, Attrs, Perm, Warning};

use crate::names::{text, Show};

/// Permissions, and what they mean.
pub fn permissions() -> impl Iterator<Item = (&'static str, &'static str)> {
    let row = |(perm, help): (Perm, logic::env::Help)| (text(perm.word()), help.text());
    Perm::ALL.into_iter().map(row)
}

/// Attributes, the permissions they go with, and what they mean.
pub fn attributes() -> impl Iterator<Item = (&'static str, String, &'static str)> {
    Attrs::WORDS
        .iter()
        .map(|(word, attr, help)| (text(word), fits(*attr), help.text()))
}

/// The permissions that attributes go with.
fn fits(attrs: Attrs) -> String {
    let perms = || Perm::ALL.into_iter().map(|(perm, _)| perm);
    let fitting = perms().filter(|perm| attrs.misfits(*perm).is_empty());
    let words: Vec<_> = fitting.map(|perm| text(perm.word())).collect();
    match words.len() == perms().count() {
        true => "all".to_owned(),
        false => words.join(", "),
    }
}

/// What the union may do with a branch: `rw`, `ro+wh`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// As it was given or shown.
    text: String,
    /// What is known of that here.
    known: branch_spec::Access,
}

impl Access {
    /// As the kernel shows it; words unknown here are kept.
    pub fn shown(text: &str) -> Self {
        let mut words = text.split('+').map(str::as_bytes);
        let perm = words.next().and_then(Perm::from_word);
        Access {
            text: text.to_owned(),
            known: branch_spec::Access {
                perm: perm.unwrap_or(Perm::Ro),
                attrs: words
                    .filter_map(Attrs::from_word)
                    .fold(Attrs::default(), Attrs::with),
            },
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the union may write to the branch.
    pub fn may_write(&self) -> bool {
        self.known.may_write()
    }

    /// Whether whiteouts and opaque marks on the branch count.
    pub fn honours_marks(&self) -> bool {
        self.known.honours_whiteouts()
    }
}

/// What the kernel ignores with a warning is an error here, since a person is there to correct it.
fn refused(warning: &Warning) -> Result<()> {
    match warning {
        Warning::UnknownPerm(text) => bail!(
            "unknown permission {:?}: it is rw, ro or rr",
            String::from_utf8_lossy(text)
        ),
        Warning::UnknownAttr(rest) => {
            let word = rest.split(|byte| *byte == b'+').next().unwrap_or_default();
            let all: Vec<_> = Attrs::WORDS.iter().map(|(word, ..)| text(word)).collect();
            bail!(
                "unknown attribute {:?}: there are {}",
                String::from_utf8_lossy(word),
                all.join(", ")
            )
        }
        Warning::AttrDoesNotFit { attrs, perm } => {
            let mut words = Vec::new();
            attrs.write_to(&mut |part| words.extend_from_slice(part));
            bail!(
                "attribute {} does not fit permission {}: it is for {}",
                String::from_utf8_lossy(&words).trim_start_matches('+'),
                text(perm.word()),
                fits(*attrs)
            )
        }
        Warning::ObsoleteAttr(_) => Ok(()),
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
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
    /// Reads it as the kernel does.
    pub fn parse(spec: &OsStr) -> Result<Self> {
        let Ok(read) = branch_spec::parse(spec.as_bytes()) else {
            bail!("a branch needs a path: PATH[=PERM[+ATTR...]]");
        };
        read.notes.iter().try_for_each(refused)?;
        // As it was given: the kernel drops what has no effect.
        let access = read
            .access
            .map(|_| String::from_utf8_lossy(&spec.as_bytes()[read.path.len() + 1..]));
        ensure!(
            access.as_deref() != Some(""),
            "there is no permission after the ="
        );
        Ok(Spec {
            access: access.map(|text| Access::shown(&text)),
            path: PathBuf::from(OsString::from_vec(read.path.into())),
        })
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
