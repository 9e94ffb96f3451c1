// SPDX-License-Identifier: GPL-2.0

//! What was written to a device, in order, as device-mapper's `log-writes` target records it; and
//! what a power cut leaves of it.
//!
//! A disk keeps what was written before the last flush that ended. Of the writes since, each may
//! have arrived, wholly or in part, or not.

use std::{fs::File, ops::Range, os::unix::fs::FileExt, path::Path};

use anyhow::{ensure, Context, Result};

use super::device::{Loop, Mapped};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;
/// Bytes of an entry before the data of a mark.
const HEADER: usize = 32;

/// A device that records what is written to it, from now on.
pub(crate) struct Recorded {
    pub(crate) device: Mapped,
    log: Loop,
}

impl Recorded {
    /// Records what is written to `device`, in a log of at most `size` bytes.
    pub(crate) fn new(device: Mapped, name: &str, size: u64) -> Result<Self> {
        let log = Loop::new(name, size)?;
        let sectors = device.below().sectors()?;
        device.load(&format!(
            "0 {sectors} log-writes {} {}",
            device.below().device(),
            log.device()
        ))?;
        Ok(Self { device, log })
    }

    /// Puts a mark behind all that is on disk.
    pub(crate) fn mark(&self, text: &str) -> Result<()> {
        self.device.message(&format!("mark {text}"))
    }

    /// Ends the recording.
    pub(crate) fn log(&self) -> Result<Log> {
        self.device.works()?;
        Log::read(self.log.image())
    }
}

/// One record.
pub(crate) struct Entry {
    flags: u64,
    /// Where it was written, in bytes.
    to: u64,
    /// The data, in the log.
    data: Range<u64>,
    /// The text of a mark.
    pub(crate) mark: Option<String>,
}

impl Entry {
    fn is_flush(&self) -> bool {
        self.flags & FLUSH != 0
    }

    fn is_durable(&self) -> bool {
        self.flags & FUA != 0
    }
}

/// A whole recording.
pub(crate) struct Log {
    file: File,
    sector: u64,
    pub(crate) entries: Vec<Entry>,
}

impl Log {
    fn read(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let mut head = [0; 28];
        file.read_exact_at(&mut head, 0)?;
        ensure!(number(&head, 0)? == MAGIC, "no log of writes");
        let count = number(&head, 16)?;
        let sector = u64::from(u32::from_le_bytes(head[24..28].try_into()?));
        let mut log = Self {
            file,
            sector,
            entries: Vec::new(),
        };
        let mut pos = sector;
        for _ in 0..count {
            let entry = log.entry(pos)?;
            pos = entry.data.end;
            log.entries.push(entry);
        }
        Ok(log)
    }

    fn entry(&self, pos: u64) -> Result<Entry> {
        let mut block = vec![0; usize::try_from(self.sector)?];
        self.file.read_exact_at(&mut block, pos)?;
        let (to, count) = (number(&block, 0)?, number(&block, 8)?);
        let (flags, len) = (number(&block, 16)?, usize::try_from(number(&block, 24)?)?);
        ensure!(flags & DISCARD == 0, "a discard, which nobody asked for");
        let data = pos + self.sector;
        let mark = match flags & MARK {
            0 => None,
            _ => {
                let text = block.get(HEADER..HEADER + len).context("a broken mark")?;
                Some(String::from_utf8_lossy(text).into_owned())
            }
        };
        Ok(Entry {
            flags,
            to: to * self.sector,
            data: data..data + count * self.sector,
            mark,
        })
    }

    /// Writes the first `bytes` bytes of an entry to `disk`.
    fn apply(&self, entry: &Entry, bytes: u64, disk: &File) -> Result<()> {
        let len = bytes.min(entry.data.end - entry.data.start);
        let mut data = vec![0; usize::try_from(len)?];
        self.file.read_exact_at(&mut data, entry.data.start)?;
        disk.write_all_at(&data, entry.to)?;
        Ok(())
    }

    /// Brings `disk` from the state after `from` entries to what is sure to be there after `to`
    /// entries; says after how many entries that state was reached.
    pub(crate) fn replay(&self, from: usize, to: usize, disk: &File) -> Result<usize> {
        let flushed = self.entries[from..to].iter().rposition(Entry::is_flush);
        let Some(sure) = flushed.map(|at| from + at) else {
            return Ok(from);
        };
        // A flush comes before the data that it carries.
        for entry in &self.entries[from..sure] {
            self.apply(entry, u64::MAX, disk)?;
        }
        Ok(sure)
    }

    /// Puts on `disk`, which is at `sure`, what a power cut after `to` entries may leave of the
    /// writes since. `random` gives a number below its argument.
    pub(crate) fn cut(
        &self,
        sure: usize,
        to: usize,
        disk: &File,
        random: &mut dyn FnMut(u64) -> u64,
    ) -> Result<()> {
        let mode = random(3);
        for entry in &self.entries[sure..to] {
            let sectors = (entry.data.end - entry.data.start) / 512;
            let arrived = match mode {
                _ if entry.is_durable() => sectors,
                // All of them; none; or some, each wholly, not at all, or in part.
                0 => sectors,
                1 => 0,
                _ => match random(4) {
                    0 => 0,
                    1 => random(sectors + 1),
                    _ => sectors,
                },
            };
            self.apply(entry, arrived * 512, disk)?;
        }
        Ok(())
    }
}

fn number(block: &[u8], at: usize) -> Result<u64> {
    let bytes = block.get(at..at + 8).context("a broken log")?;
    Ok(u64::from_le_bytes(bytes.try_into()?))
}
