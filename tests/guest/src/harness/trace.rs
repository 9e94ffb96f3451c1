// SPDX-License-Identifier: GPL-2.0

//! Counters and tracepoints of a union.

use std::{
    collections::BTreeMap,
    fs::{create_dir, read_to_string, remove_dir, write},
    path::{Path, PathBuf},
};

use anyhow::{ensure, Context as _, Result};

use super::union::{mounts_line, Union};

/// `si=` of a union, as hexadecimal text.
fn si(u: &Union) -> Result<String> {
    let options = mounts_line(u.root())?[3].clone();
    let si = options.split(',').find_map(|o| o.strip_prefix("si="));
    Ok(si.context("no si= in /proc/mounts")?.to_owned())
}

/// The file with the counters of a union.
pub(crate) fn stats_file(u: &Union) -> Result<PathBuf> {
    Ok(Path::new("/sys/kernel/debug/aufs").join(format!("si_{}/stats", si(u)?)))
}

/// The counters of a union.
pub(crate) fn stats(u: &Union) -> Result<BTreeMap<String, u64>> {
    let text = read_to_string(stats_file(u)?)?;
    text.lines()
        .map(|line| {
            let (name, value) = line.split_once(' ').context("a name and a value")?;
            Ok((name.to_owned(), value.parse()?))
        })
        .collect()
}

/// What a union counts while something is done.
pub(crate) struct Counting<'u> {
    union: &'u Union,
    before: BTreeMap<String, u64>,
}

impl<'u> Counting<'u> {
    /// Begins.
    pub(crate) fn of(union: &'u Union) -> Result<Self> {
        let before = stats(union)?;
        Ok(Self { union, before })
    }

    /// What was counted since, without what was not and without times.
    pub(crate) fn counts(&self) -> Result<BTreeMap<String, u64>> {
        let mut now = self.all()?;
        now.retain(|name, more| *more > 0 && !name.ends_with("_ns"));
        Ok(now)
    }

    /// All that was counted since.
    pub(crate) fn all(&self) -> Result<BTreeMap<String, u64>> {
        let mut now = stats(self.union)?;
        for (name, value) in &mut now {
            *value -= self.before[name];
        }
        Ok(now)
    }
}

/// Records the events of a union until it is dropped.
pub(crate) struct Trace(PathBuf);

/// An event: its name, and what it says.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) fields: BTreeMap<String, String>,
    /// The whole line.
    pub(crate) line: String,
}

impl Event {
    /// The text of a field.
    pub(crate) fn text(&self, field: &str) -> &str {
        match self.fields.get(field) {
            Some(text) => text,
            None => panic!("no {field}= in {:?}", self.line),
        }
    }

    /// The number in a field.
    pub(crate) fn number(&self, field: &str) -> i64 {
        let text = self.text(field);
        match text.parse() {
            Ok(number) => number,
            Err(_) => panic!("{field}= is no number in {:?}", self.line),
        }
    }
}

impl Trace {
    /// Begins, in an instance of its own with this name.
    pub(crate) fn of(u: &Union, name: &str) -> Result<Self> {
        let tracing = Path::new("/sys/kernel/tracing");
        ensure!(
            tracing.join("events/ruaufs").exists(),
            "the kernel has no events of ruaufs"
        );
        let name: String = name
            .chars()
            .map(|c| if c.is_alphanumeric() { c } else { '_' })
            .collect();
        let this = Self(tracing.join("instances").join(name));
        create_dir(&this.0).context("an instance of the trace")?;
        let events = this.0.join("events/ruaufs");
        write(events.join("filter"), format!("si == 0x{}", si(u)?))?;
        write(events.join("enable"), "1")?;
        Ok(this)
    }

    /// Whether this one is recorded.
    pub(crate) fn enable(&self, event: &str, on: bool) -> Result<()> {
        let file = self.0.join("events/ruaufs").join(event).join("enable");
        Ok(write(file, if on { "1" } else { "0" })?)
    }

    /// The events since the last call.
    pub(crate) fn events(&self) -> Result<Vec<Event>> {
        let text = read_to_string(self.0.join("trace"))?;
        write(self.0.join("trace"), "")?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .map(|line| parse(line).with_context(|| format!("{line:?}")))
            .collect()
    }

    /// Those with this name.
    pub(crate) fn named(&self, name: &str) -> Result<Vec<Event>> {
        let mut events = self.events()?;
        events.retain(|event| event.name == name);
        Ok(events)
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = write(self.0.join("events/ruaufs/enable"), "0");
        remove_dir(&self.0).expect("the instance of the trace goes");
    }
}

/// `TASK-PID [CPU] FLAGS TIME: NAME: KEY=VALUE ...`
fn parse(line: &str) -> Option<Event> {
    let (_, rest) = line.split_once("] ")?;
    let (_, rest) = rest.split_once(": ")?;
    let (name, rest) = rest.split_once(": ")?;
    let fields = rest.split(' ').map(|word| match word.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => ("what".to_owned(), word.to_owned()),
    });
    Some(Event {
        name: name.to_owned(),
        fields: fields.collect(),
        line: line.to_owned(),
    })
}
