// SPDX-License-Identifier: GPL-2.0

//! The tests, by subject.

mod acl;
mod attr;
mod bad_input;
mod branch_permission;
mod branch_removal;
mod casefold;
mod claim;
mod clients;
mod clients_containers;
mod concurrency;
mod coo;
mod copyup;
mod create;
mod data;
mod directories;
mod dirren;
mod dirwh;
mod documents;
mod failure;
mod faults;
mod fhsm;
mod file;
mod file_control;
mod fuzz;
mod handle;
mod handle_contained;
mod hardlink;
mod hardlink_lasting;
mod hardlink_parting;
mod held_up;
mod idmap;
mod in_flight;
mod index;
mod ioctl;
mod lookup;
mod mapping;
mod model;
mod mount;
mod mvdown;
mod needless;
mod nfs;
mod notify;
mod numbers;
mod object_per_path;
mod open_files;
mod options;
mod plink_maint;
mod policy;
mod powercut;
mod privilege;
mod protected;
mod questions;
mod rdcache;
mod rdu;
mod readdir;
mod remount;
mod remount_soak;
mod remount_waits;
mod remove;
mod rename;
mod rename_dir;
mod several_rw;
mod shown;
mod shwh;
mod staging;
mod stats;
mod stress;
mod sysfs;
mod tools;
mod tracepoints;
mod udba;
mod uprobe;
mod whiteout;
mod xattr;

pub(crate) use stress::be_worker;

use crate::harness::run::Case;

/// All tests, cheap and fundamental ones first.
pub(crate) fn all() -> Vec<Case> {
    [
        lookup::cases(),
        readdir::cases(),
        whiteout::cases(),
        create::cases(),
        remove::cases(),
        rename::cases(),
        rename_dir::cases(),
        dirren::cases(),
        directories::cases(),
        attr::cases(),
        shown::cases(),
        xattr::cases(),
        acl::cases(),
        privilege::cases(),
        protected::cases(),
        idmap::cases(),
        file::cases(),
        handle::cases(),
        handle_contained::cases(),
        held_up::cases(),
        numbers::cases(),
        needless::cases(),
        nfs::cases(),
        mapping::cases(),
        uprobe::cases(),
        data::cases(),
        file_control::cases(),
        open_files::cases(),
        copyup::cases(),
        staging::cases(),
        failure::cases(),
        faults::cases(),
        powercut::cases(),
        several_rw::cases(),
        policy::cases(),
        shwh::cases(),
        dirwh::cases(),
        documents::cases(),
        questions::cases(),
        rdcache::cases(),
        coo::cases(),
        hardlink::cases(),
        hardlink_lasting::cases(),
        hardlink_parting::cases(),
        claim::cases(),
        object_per_path::cases(),
        plink_maint::cases(),
        mount::cases(),
        options::cases(),
        sysfs::cases(),
        stats::cases(),
        tracepoints::cases(),
        fhsm::cases(),
        ioctl::cases(),
        rdu::cases(),
        mvdown::cases(),
        udba::cases(),
        notify::cases(),
        remount::cases(),
        branch_removal::cases(),
        casefold::cases(),
        branch_permission::cases(),
        clients::cases(),
        clients_containers::cases(),
        remount_soak::cases(),
        remount_waits::cases(),
        in_flight::cases(),
        index::cases(),
        bad_input::cases(),
        fuzz::cases(),
        tools::cases(),
        concurrency::cases(),
        stress::cases(),
        model::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
