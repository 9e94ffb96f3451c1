// SPDX-License-Identifier: GPL-2.0

//! The operations: names, titles, targets.
//!
//! Everywhere: at most overlayfs's cost. Further targets are fields of [`Op`].

/// One measured operation.
pub(crate) struct Op {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// Part of a quick run.
    pub(crate) quick: bool,
    /// At most this many times the cost on the bare file system.
    pub(crate) bare: Option<f64>,
    /// At [`SCALE_TO`] layers at most [`SCALE`] times the cost at [`SCALE_FROM`].
    pub(crate) scale: bool,
    /// At most this, on ext4 with 2 layers: the best union known, in instructions.
    pub(crate) best: Option<f64>,
    /// At most this many times the cost of another operation: how the cost of one item may grow
    /// with the number of items.
    pub(crate) growth: Option<(&'static str, f64)>,
    /// Drawn in the plot.
    pub(crate) plot: bool,
}

pub(crate) const SCALE: f64 = 1.5;
pub(crate) const SCALE_FROM: u32 = 2;
pub(crate) const SCALE_TO: u32 = 64;
/// Figures differ by less than this between two runs of the same code.
pub(crate) const NOISE: f64 = 0.01;

const fn op(name: &'static str, title: &'static str) -> Op {
    Op {
        name,
        title,
        quick: false,
        bare: None,
        scale: false,
        best: None,
        growth: None,
        plot: false,
    }
}

impl Op {
    const fn quick(mut self) -> Self {
        self.quick = true;
        self
    }

    const fn bare(mut self, limit: f64) -> Self {
        self.bare = Some(limit);
        self
    }

    const fn scale(mut self) -> Self {
        self.scale = true;
        self
    }

    const fn best(mut self, count: f64) -> Self {
        self.best = Some(count);
        self
    }

    const fn growth(mut self, few: &'static str, limit: f64) -> Self {
        self.growth = Some((few, limit));
        self
    }

    const fn plot(mut self) -> Self {
        self.plot = true;
        self
    }
}

/// In the order of the tables.
pub(crate) const OPS: &[Op] = &[
    op("walk.warm.top", "stat, 4 deep, top layer, warm")
        .quick()
        .bare(1.10)
        .scale(),
    op("walk.warm.bottom", "stat, 4 deep, bottom layer, warm")
        .quick()
        .bare(1.10)
        .scale()
        .plot(),
    op("walk.warm.single", "stat, directories in one layer, warm")
        .bare(1.10)
        .scale(),
    op("walk.cold.top", "stat, 4 deep, top layer, cold")
        .quick()
        .scale(),
    op("walk.cold.bottom", "stat, 4 deep, bottom layer, cold")
        .quick()
        .scale()
        .plot(),
    op("walk.cold.single", "stat, directories in one layer, cold").scale(),
    op("walk.new", "first stat of a name, directory warm")
        .quick()
        .scale(),
    op("neg.warm", "stat of an absent name, warm")
        .quick()
        .bare(1.10)
        .scale(),
    op("neg.cold", "stat of an absent name, cold")
        .quick()
        .scale()
        .plot(),
    op("neg.new", "first stat of an absent name, dir. warm")
        .quick()
        .scale(),
    op("fstat", "fstat of an open file").quick().bare(1.10),
    op("open.lower", "open + close, lower file")
        .quick()
        .bare(1.5)
        .best(8224.0)
        .plot(),
    op("open.upper", "open + close, upper file")
        .quick()
        .bare(1.5)
        .best(8224.0),
    op("read4k.lower", "pread 4 KiB, lower file")
        .quick()
        .bare(1.10)
        .best(2398.0),
    op("read4k.upper", "pread 4 KiB, upper file")
        .bare(1.10)
        .best(2398.0),
    op("read1m.lower", "pread 1 MiB, lower file")
        .quick()
        .bare(1.10),
    op("write4k.upper", "pwrite 4 KiB").quick().bare(1.15),
    op("write1m.upper", "pwrite 1 MiB").quick().bare(1.15),
    op("mmap.map", "mmap + munmap").bare(1.5),
    op("mmap.fault", "fault of a cached page")
        .quick()
        .bare(1.10),
    op("list.single.first", "list 1,000 names, one layer, first").quick(),
    op("list.single.later", "list 1,000 names, one layer, later").quick(),
    op("list.merged.first", "list 1,000 names, merged, first")
        .quick()
        .best(271e3)
        .plot(),
    op("list.merged.later", "list 1,000 names, merged, later")
        .quick()
        .bare(0.2)
        .best(244e3),
    op("list.huge.first", "the same, of 50,000 names").growth("list.merged.first", 1.5),
    op("create", "create + unlink").quick().scale().plot(),
    op("mkdir", "mkdir + rmdir").quick().scale(),
    op("symlink", "symlink + readlink + unlink").scale(),
    op("rename", "rename").quick().scale().plot(),
    op("link", "link + unlink").scale(),
    op("unlink.lower", "unlink of a lower file")
        .quick()
        .scale()
        .plot(),
    op("chmod.lower", "chmod of a lower file")
        .quick()
        .best(327e3),
    op("copyup.4k", "copy-up of 4 KiB").quick().plot(),
    op("copyup.1m", "copy-up of 1 MiB").quick(),
    op("copyup.64m", "copy-up of 64 MiB").quick().best(68.5e6),
    op("copyup.sparse", "copy-up of 1 GiB, sparse"),
    op("links.few", "first write to a hard link, of 100"),
    op("links.many", "first write to a hard link, of 1,200").growth("links.few", 1.5),
    op("find.cold", "find, 2,000 files, cold").quick(),
    op("find.warm", "find, 2,000 files, warm").quick(),
    op("tar", "tar of 2,000 files").quick(),
    op("untar", "untar of 2,000 files").quick(),
    op("pair.read", "two processes: open + pread + close"),
    op("pair.create", "two processes: create + unlink").quick(),
];

pub(crate) fn find(name: &str) -> Option<&'static Op> {
    OPS.iter().find(|op| op.name == name)
}
