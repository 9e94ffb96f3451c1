// SPDX-License-Identifier: GPL-2.0

//! Directories that hold only marks: moved to the orphans, and emptied there.

#![forbid(unsafe_code)]

use crate::compat::errno::ENOTEMPTY;
use crate::fs::{
    access::dirop::{
        Removing,
        Renaming, //
    },
    objects::path::WriteAccess, //
};
use crate::logic::name::Name;
use crate::union::{
    branches::{
        branch::Branch,
        orphans::{
            self,
            DEPTH, //
        }, //
    },
    state::sb::SbInfo,
    types::{
        LowerDentry,
        LowerInode,
        Section, //
    }, //
};
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        UniqueArc, //
    }, //
};

/// Moves the directory `name`, which is `object`, out of `dir` and removes it with the marks it
/// holds, the only things in it.
///
/// When it is out of the way it is gone for the user: what fails after that is only logged, and
/// removed at the next mount. If the orphans cannot take it (`EXDEV`: they have another project, or
/// are in another subvolume) it gets a reserved name in `dir`, which goes with that at the latest.
pub(crate) fn remove_dir(
    section: Section<'_>,
    info: &SbInfo,
    branch: &Arc<Branch>,
    dir: &LowerDentry,
    (name, object): (&[u8], &LowerInode),
    write: &WriteAccess<'_>,
) -> Result {
    let temp = info.temp_name(name)?;
    let home_of_orphans = &branch.work()?.orphans;
    let move_to = |home: &LowerDentry| {
        Renaming::new((branch.at(dir)?, name), (branch.at(home)?, &temp), 0, write)?
            .of(object)?
            .commit()
    };
    let (moved, in_place) = match move_to(home_of_orphans) {
        Err(error) if error == EXDEV => (move_to(dir)?, true),
        other => (other?, false),
    };
    let home = if in_place { dir } else { home_of_orphans };
    // The kernel thread opens no file: it would be closed some time after the work is done.
    match orphans::marks_alone(branch.at(&moved)?) {
        Ok(None) => {
            // Somebody put a name there while it was still in its place.
            const NOREPLACE: u32 = 1;
            let (from, to) = ((branch.at(home)?, &*temp), (branch.at(dir)?, name));
            Renaming::new(from, to, NOREPLACE, write)?
                .of(object)?
                .commit()?;
            return Err(ENOTEMPTY.into());
        }
        Ok(Some(marks)) => {
            let aside = Aside {
                branch: branch.clone(),
                home: home.into(),
                dir: moved,
                temp,
                marks,
            };
            // Later the times of `dir` would change once more.
            if in_place {
                aside.remove_now(write);
            } else {
                aside.remove(section, info, write);
            }
        }
        Err(error) => orphans::cannot_remove(&temp, error),
    }
    Ok(())
}

/// A directory that was moved out of the way, and what is in it.
struct Aside {
    branch: Arc<Branch>,
    /// Where it is now.
    home: ARef<LowerDentry>,
    dir: ARef<LowerDentry>,
    temp: Name,
    marks: KVVec<KVec<u8>>,
}

impl Aside {
    /// Removes it: at once, or later if it holds more marks than `dirwh=` allows. File systems
    /// of other machines are not left alone with it.
    fn remove(self, section: Section<'_>, info: &SbInfo, write: &WriteAccess<'_>) {
        let limit = section.settings().dirwh;
        let many = limit <= 1 || u32::try_from(self.marks.len()).is_ok_and(|n| n > limit);
        if !many || self.dir.is_remote() {
            return self.remove_now(write);
        }
        let Ok(space) = UniqueArc::new_uninit(GFP_KERNEL) else {
            return self.remove_now(write);
        };
        let this: Arc<Aside> = space.write(self).into();
        let (job, cred) = (this.clone(), info.cred.clone());
        let queued = info.worker.run(move || {
            cred.scope(|| match job.branch.want_write() {
                Ok(write) => job.remove_now(&write),
                Err(error) => orphans::cannot_remove(&job.temp, error),
            });
        });
        if queued.is_err() {
            this.remove_now(write);
        }
    }

    /// Removes it, in this task.
    fn remove_now(&self, write: &WriteAccess<'_>) {
        let result = || -> Result {
            let at = self.branch.at(&self.dir)?;
            for mark in self.marks.iter() {
                orphans::remove_mark(at, mark, DEPTH, write)?;
            }
            Removing::new(self.branch.at(&self.home)?, &self.temp, write)?.rmdir()
        };
        if let Err(error) = result() {
            orphans::cannot_remove(&self.temp, error);
        }
    }
}
