// SPDX-License-Identifier: GPL-2.0

//! The settings of a mount, and their text in `/proc/mounts`.

#![forbid(unsafe_code)]

use super::{
    super::num,
    CopyUpPolicy,
    CreatePolicy,
    Diropq,
    Flag,
    Opt,
    Udba, //
};

/// Where the table of inode numbers was asked to be. The union needs none; this is for display.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Xino {
    /// Nothing was said.
    #[default]
    Default,
    /// At a path, which the caller keeps ([`Opt::Xino`]).
    Given,
    /// `noxino`.
    None,
}

/// The settings of a mount; [`Default`] is what a mount without options has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `acl`: POSIX ACLs are honoured.
    pub acl: bool,
    /// `xino=`, `noxino`.
    pub xino: Xino,
    /// `trunc_xino`: tables are truncated automatically.
    pub trunc_xino: bool,
    /// `udba=`: what is done about changes behind the union's back.
    pub udba: Udba,
    /// `shwh`: whiteouts are shown.
    pub shwh: bool,
    /// `plink`: hard links survive copy-up.
    pub plink: bool,
    /// `dirperm1`: only the topmost instance of a directory decides about access.
    pub dirperm1: bool,
    /// `create=`: where new entries are made.
    pub create: CreatePolicy,
    /// `cpup=`: where entries are copied to.
    pub cpup: CopyUpPolicy,
    /// `diropq=`: when a new directory is made opaque.
    pub diropq: Diropq,
    /// `dirwh=`: how many whiteouts a directory may hold to be removed at once.
    pub dirwh: u32,
    /// `rdcache=`: seconds for which a merged directory is kept.
    pub rdcache: u32,
    /// `rdblk=`: bytes per block of a merged directory, 0 to estimate them.
    pub rdblk: u32,
    /// `rdhash=`: hash buckets for merging a directory, 0 to estimate them.
    pub rdhash: u32,
    /// `fhsm_sec=`: seconds between two messages about storage.
    pub fhsm_sec: u32,
    /// `dirren`: directories with lower parts can be renamed.
    pub dirren: bool,
    /// `sum`: statfs adds up all branches.
    pub sum: bool,
    /// `claim`: no other union may write the writable branches.
    pub claim: bool,
    /// `warn_perm`: a branch whose owner or mode differs from the first's is reported.
    pub warn_perm: bool,
    /// `verbose`: more is logged.
    pub verbose: bool,
}

impl Settings {
    /// What a mount without options has.
    pub const DEFAULT: Settings = Settings {
        acl: false,
        xino: Xino::Default,
        trunc_xino: false,
        udba: Udba::Reval,
        shwh: false,
        plink: true,
        dirperm1: false,
        create: CreatePolicy::Tdp,
        cpup: CopyUpPolicy::Tdp,
        diropq: Diropq::Whiteouted,
        dirwh: 3,
        rdcache: 10,
        rdblk: 512,
        rdhash: 32,
        fhsm_sec: 30,
        dirren: false,
        sum: false,
        claim: true,
        warn_perm: true,
        verbose: false,
    };

    /// Takes over `opt`; tells whether it is a setting at all.
    ///
    /// Branch options and actions of one call (`trunc_xib`, `itrunc_xino=`...) are not; what is
    /// accepted without effect (`si=`, `nodio`, obsolete words) is, though nothing changes.
    pub fn apply(&mut self, opt: &Opt) -> bool {
        match *opt {
            Opt::Udba(udba) => self.udba = udba,
            Opt::Xino(_) => self.xino = Xino::Given,
            Opt::NoXino => self.xino = Xino::None,
            Opt::Create(policy) => self.create = policy,
            Opt::CopyUp(policy) => self.cpup = policy,
            Opt::Dirwh(n) => self.dirwh = n,
            Opt::Diropq(diropq) => self.diropq = diropq,
            Opt::RdCache(seconds) => self.rdcache = seconds,
            Opt::RdBlk(bytes) => self.rdblk = bytes,
            Opt::RdHash(buckets) => self.rdhash = buckets,
            Opt::FhsmSec(seconds) => self.fhsm_sec = seconds,
            Opt::Flag(flag, on) => match flag {
                Flag::Acl => self.acl = on,
                Flag::Claim => self.claim = on,
                Flag::TruncXino => self.trunc_xino = on,
                Flag::ShWh => self.shwh = on,
                Flag::Plink => self.plink = on,
                Flag::DirPerm1 => self.dirperm1 = on,
                Flag::DirRen => self.dirren = on,
                Flag::Sum => self.sum = on,
                Flag::WarnPerm => self.warn_perm = on,
                Flag::Verbose => self.verbose = on,
                // Always on; the word is accepted.
                Flag::Dio => {}
                Flag::TruncXib => return false,
            },
            Opt::Obsolete(_) | Opt::Silent => {}
            Opt::Branches(_)
            | Opt::Add { .. }
            | Opt::Append(_)
            | Opt::Prepend(_)
            | Opt::Del(_)
            | Opt::Mod(_)
            | Opt::TruncXinoBranch(_)
            | Opt::TruncXinoIndex(_)
            | Opt::ListPlink => return false,
        }
        true
    }

    /// Writes what aufs shows before `si=`: `,acl` or nothing.
    pub fn write_before_si(&self, out: &mut dyn FnMut(&[u8])) {
        if self.acl {
            out(b",acl");
        }
    }

    /// Writes what aufs shows after `si=`: each setting that is not the default, after a comma.
    ///
    /// Together with [`Self::write_before_si`] this parses back to the same settings, except for
    /// the path of `xino=`.
    pub fn write_to(&self, out: &mut dyn FnMut(&[u8])) {
        let default = &Self::DEFAULT;
        let mut word = |show: bool, text: &[u8]| {
            if show {
                out(text);
            }
        };
        word(self.xino == Xino::None, b",noxino");
        word(self.trunc_xino, b",trunc_xino");
        match self.udba {
            Udba::None => word(true, b",udba=none"),
            Udba::Reval => {}
            Udba::Notify => word(true, b",udba=notify"),
        }
        word(self.shwh, b",shwh");
        word(!self.plink, b",noplink");
        word(self.dirperm1, b",dirperm1");
        if self.create != default.create {
            out(b",create=");
            self.create.write_to(out);
        }
        if self.cpup != default.cpup {
            out(b",cpup=");
            self.cpup.write_to(out);
        }
        if self.diropq == Diropq::Always {
            out(b",diropq=a");
        }
        let numbers: [(&[u8], u32, u32); 5] = [
            (b",dirwh=", self.dirwh, default.dirwh),
            (b",rdcache=", self.rdcache, default.rdcache),
            (b",rdblk=", self.rdblk, default.rdblk),
            (b",rdhash=", self.rdhash, default.rdhash),
            (b",fhsm_sec=", self.fhsm_sec, default.fhsm_sec),
        ];
        for (key, value, default) in numbers {
            if value != default {
                out(key);
                out(num::decimal(u64::from(value), &mut [0; 20]));
            }
        }
        let words: [(bool, &[u8]); 5] = [
            (self.dirren, b",dirren"),
            (self.sum, b",sum"),
            (!self.claim, b",noclaim"),
            (!self.warn_perm, b",nowarn_perm"),
            (self.verbose, b",verbose"),
        ];
        for (show, text) in words {
            if show {
                out(text);
            }
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::DEFAULT
    }
}
