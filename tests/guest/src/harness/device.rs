// SPDX-License-Identifier: GPL-2.0

//! Block devices that do as they are told: a loop device below a device-mapper target.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{ensure, Context, Result};

use super::scratch;

/// Runs a tool and returns what it prints.
pub(crate) fn output(tool: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(tool).args(args).output();
    let output = output.with_context(|| format!("running {tool}"))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{tool} {args:?}: {}\n{text}{complaint}",
        output.status
    );
    Ok(text)
}

/// dmsetup(8), in a guest without udev.
fn dmsetup(args: &[&str]) -> Result<String> {
    std::env::set_var("DM_DISABLE_UDEV", "1");
    output("dmsetup", args)
}

/// A file as a block device; it goes away with the value.
pub(crate) struct Loop {
    image: PathBuf,
    device: String,
}

impl Loop {
    /// A sparse file of `size` bytes on a tmpfs.
    pub(crate) fn new(name: &str, size: u64) -> Result<Self> {
        let image = scratch::base().join("images").join(format!("{name}.img"));
        fs::File::create(&image)?.set_len(size)?;
        let file = image.to_string_lossy().into_owned();
        let device = output("losetup", &["-f", "--show", &file])?;
        Ok(Self { image, device })
    }

    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    /// The file behind it.
    pub(crate) fn image(&self) -> &Path {
        &self.image
    }

    /// In units of 512 bytes.
    pub(crate) fn sectors(&self) -> Result<u64> {
        Ok(fs::metadata(&self.image)?.len() / 512)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Detached when its last user is gone.
        let _ = Command::new("losetup").args(["-d", &self.device]).status();
        let _ = fs::remove_file(&self.image);
    }
}

/// A device-mapper device over a [`Loop`].
pub(crate) struct Mapped {
    name: String,
    device: String,
    below: Loop,
}

impl Mapped {
    /// A device that passes everything on.
    pub(crate) fn new(name: &str, size: u64) -> Result<Self> {
        for module in ["dm-mod", "dm-flakey", "dm-log-writes"] {
            // Built into some kernels; what is missing shows below.
            let _ = Command::new("modprobe").args(["-q", module]).status();
        }
        let below = Loop::new(name, size)?;
        let mut mapped = Self {
            name: format!("ruaufs-{name}"),
            device: String::new(),
            below,
        };
        let table = mapped.linear()?;
        dmsetup(&["create", &mapped.name, "--table", &table])?;
        let info = ["info", "-c", "--noheadings", "-o", "blkdevname"];
        let node = dmsetup(&[&info[..], &[&mapped.name]].concat())?;
        mapped.device = format!("/dev/{node}");
        Ok(mapped)
    }

    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    pub(crate) fn below(&self) -> &Loop {
        &self.below
    }

    fn linear(&self) -> Result<String> {
        let (sectors, device) = (self.below.sectors()?, self.below.device());
        Ok(format!("0 {sectors} linear {device} 0"))
    }

    /// Puts a table in place, with I/O that is under way going where it will.
    pub(crate) fn load(&self, table: &str) -> Result<()> {
        dmsetup(&["load", &self.name, "--table", table])?;
        dmsetup(&["suspend", "--nolockfs", "--noflush", &self.name])?;
        dmsetup(&["resume", &self.name]).map(drop)
    }

    /// Requests wait from now on; what is under way is done first.
    pub(crate) fn suspend(&self) -> Result<()> {
        dmsetup(&["suspend", "--nolockfs", "--noflush", &self.name]).map(drop)
    }

    /// Requests go on.
    pub(crate) fn resume(&self) -> Result<()> {
        dmsetup(&["resume", &self.name]).map(drop)
    }

    /// It works again.
    pub(crate) fn works(&self) -> Result<()> {
        self.load(&self.linear()?)
    }

    /// All I/O fails: the device is gone.
    pub(crate) fn gone(&self) -> Result<()> {
        self.load(&format!("0 {} error", self.below.sectors()?))
    }

    /// Writes fail, reads work.
    pub(crate) fn writes_fail(&self) -> Result<()> {
        let (sectors, device) = (self.below.sectors()?, self.below.device());
        self.load(&format!(
            "0 {sectors} flakey {device} 0 0 3600 1 error_writes"
        ))
    }

    /// Puts a message to the target.
    pub(crate) fn message(&self, text: &str) -> Result<()> {
        let mut args = vec!["message", &self.name, "0"];
        args.extend(text.split(' '));
        dmsetup(&args).map(drop)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        let _ = dmsetup(&["remove", "--retry", &self.name]);
    }
}
