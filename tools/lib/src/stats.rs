// SPDX-License-Identifier: GPL-2.0

//! What a union counts.

use std::{io::ErrorKind, path::Path};

use anyhow::{bail, ensure, Context, Result};
pub use logic::stats::Counter;

use crate::{names::Show, system, union::Union};

/// Where unions show what they count.
pub const DEBUGFS: &str = "/sys/kernel/debug";

/// A counter and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Its name.
    pub name: String,
    /// What it counts; `None` if only a newer kernel module knows it.
    pub counter: Option<Counter>,
    /// How much there was since the union was mounted.
    pub value: u64,
}

/// What a union counts, in the kernel's order.
pub fn of(union: &Union) -> Result<Vec<Count>> {
    read(Path::new(DEBUGFS), &union.si)
}

fn read(debugfs: &Path, si: &str) -> Result<Vec<Count>> {
    let file = debugfs.join(format!("aufs/si_{si}/stats"));
    let shown = file.shown();
    match system::read(&file) {
        Ok(text) => parse(&text).with_context(|| format!("reading {shown}")),
        Err(e)
            if e.kind() == ErrorKind::NotFound && system::names(&debugfs.join("aufs")).is_err() =>
        {
            bail!(
                "no {shown}: it takes debugfs (`mount -t debugfs none {}`) and ruaufs, not aufs",
                debugfs.shown()
            )
        }
        Err(e) => Err(e).with_context(|| format!("reading {shown} (are you root?)")),
    }
}

/// Lines of a name and a value.
fn parse(text: &[u8]) -> Result<Vec<Count>> {
    let text = std::str::from_utf8(text)?;
    let line = |line: &str| {
        let (name, value) = line.split_once(' ').with_context(|| format!("{line:?}"))?;
        let value = value.parse().with_context(|| format!("{line:?}"))?;
        Ok(Count {
            name: name.to_owned(),
            counter: Counter::ALL.into_iter().find(|known| known.name() == name),
            value,
        })
    };
    let counts: Vec<Count> = text.lines().map(line).collect::<Result<_>>()?;
    ensure!(!counts.is_empty(), "nothing is counted");
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_known_and_new() {
        let counts = parse(b"copy_ups 3\nof_the_future 7\n").unwrap();
        assert_eq!(counts[0].counter, Some(Counter::CopyUps));
        assert_eq!(
            counts[1],
            Count {
                name: "of_the_future".to_owned(),
                counter: None,
                value: 7
            }
        );
    }

    #[test]
    fn what_is_no_list_of_counters() {
        for text in ["", "copy_ups\n", "copy_ups many\n", "copy_ups -1\n"] {
            parse(text.as_bytes()).unwrap_err();
        }
    }

    #[test]
    fn names_are_different_and_in_order() {
        for (at, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, at);
            let same = |other: &&Counter| other.name() == counter.name();
            assert_eq!(Counter::ALL.iter().filter(same).count(), 1);
            assert!(!counter.meaning().is_empty());
        }
    }

    #[test]
    fn without_debugfs() {
        let dir = tempfile::tempdir().unwrap();
        let error = read(dir.path(), "1").unwrap_err();
        assert!(error.to_string().contains("mount -t debugfs"), "{error}");
    }
}
