// SPDX-License-Identifier: GPL-2.0

//! The settings of a mount.

use proptest::prelude::*;

use super::{options::split, written};
use logic::options::{parse, CopyUpPolicy, CreatePolicy, Diropq, Keep, Settings, Udba, Xino};

/// Applies an option string to the defaults.
fn apply(text: &str) -> Settings {
    let mut settings = Settings::default();
    for (key, value) in split(text) {
        let opt = parse(key.as_bytes(), value.map(str::as_bytes)).unwrap();
        assert!(settings.apply(&opt), "{key}");
    }
    settings
}

/// Shows settings, `si=` included.
fn show(settings: &Settings) -> String {
    written(|out| {
        settings.write_before_si(out);
        out(b",si=1");
        settings.write_to(out);
    })
}

#[test]
fn defaults_are_those_of_aufs() {
    let settings = Settings::default();
    assert_eq!(show(&settings), ",si=1");
    assert_eq!(settings.udba, Udba::Reval);
    assert!(settings.plink && settings.warn_perm && settings.claim);
    assert!(!settings.sum && !settings.acl && !settings.dirren && !settings.shwh);
    assert_eq!((settings.dirwh, settings.rdcache), (3, 10));
    assert_eq!((settings.rdblk, settings.rdhash), (512, 32));
    assert_eq!(settings.fhsm_sec, 30);
    assert_eq!(settings.diropq, Diropq::Whiteouted);
    assert_eq!(settings.create, CreatePolicy::default());
    assert_eq!(settings.cpup, CopyUpPolicy::default());
}

#[test]
fn order_is_that_of_aufs() {
    let given =
        "verbose,nowarn_perm,noclaim,sum,dirren,fhsm_sec=1,rdhash=1,rdblk=0,rdcache=1,dirwh=1,\
                 diropq=a,cpup=bu,create=mfs:60,dirperm1,nodio,noplink,shwh,udba=none,trunc_xino,\
                 noxino,acl";
    let shown = ",acl,si=1,noxino,trunc_xino,udba=none,shwh,noplink,dirperm1,create=mfs:60,\
                 cpup=bu,diropq=a,dirwh=1,rdcache=1,rdblk=0,rdhash=1,fhsm_sec=1,dirren,sum,\
                 noclaim,nowarn_perm,verbose";
    assert_eq!(show(&apply(given)), shown);
}

#[test]
fn each_option_can_be_taken_back() {
    let there = "acl,dirperm1,dirren,noplink,shwh,sum,trunc_xino,verbose,nowarn_perm,udba=notify,\
                 noclaim,create=rr,cpup=bup,dirwh=9,diropq=a,rdcache=9,rdblk=900,rdhash=9,fhsm_sec=9";
    let back = "noacl,nodirperm1,nodirren,plink,noshwh,wsum,notrunc_xino,quiet,warn_perm,\
                claim,udba=reval,create=tdp,cpup=tdp,dirwh=3,diropq=w,rdcache=10,rdblk=def,rdhash=def,\
                fhsm_sec=30,si=7,dio,debug=1,clean_plink";
    assert_ne!(apply(there), Settings::default());
    assert_eq!(apply(&format!("{there},{back}")), Settings::default());
}

#[test]
fn xino() {
    assert_eq!(apply("").xino, Xino::Default);
    assert_eq!(apply("xino=/a").xino, Xino::Given);
    assert_eq!(apply("xino=/a,noxino").xino, Xino::None);
    assert_eq!(apply("noxino,xino=/a").xino, Xino::Given);
    assert_eq!(show(&apply("xino=/a")), ",si=1");
}

#[test]
fn the_rest_is_not_a_setting() {
    for text in [
        "br=/a",
        "add=0:/a",
        "append=/a",
        "prepend=/a",
        "del=/a",
        "mod=/a=rw",
        "trunc_xino=/a",
        "itrunc_xino=0",
        "trunc_xib",
        "notrunc_xib",
        "list_plink",
    ] {
        let (key, value) = split(text)[0];
        let opt = parse(key.as_bytes(), value.map(str::as_bytes)).unwrap();
        let mut settings = Settings::default();
        assert!(!settings.apply(&opt), "{text}");
        assert_eq!(settings, Settings::default());
    }
}

prop_compose! {
    /// Any create policy.
    fn create()(kind in 0..7, low: u64, seconds in proptest::option::of(0u64..=3600)) -> CreatePolicy {
        let keep = seconds.map_or(Keep::default(), |seconds| Keep::given(seconds).unwrap());
        match kind {
            0 => CreatePolicy::Tdp,
            1 => CreatePolicy::Rr,
            2 => CreatePolicy::Mfs { keep },
            3 => CreatePolicy::MfsRr { low, keep },
            4 => CreatePolicy::TdMfs { low, keep },
            5 => CreatePolicy::Pmfs { keep },
            _ => CreatePolicy::PmfsRr { low, keep },
        }
    }
}

prop_compose! {
    /// Any settings.
    fn settings()(
        bits: [bool; 11],
        create in create(),
        kinds in (0usize..3, 0usize..3),
        numbers in (0u32..1 << 31, 0u32..=3600, 0u32..=524288, 0u32..1 << 31),
        rdblk in prop_oneof![Just(0u32), 255u32..=4194304],
    ) -> Settings {
        let [acl, trunc_xino, shwh, plink, dirperm1, dirren, sum, claim, warn_perm, verbose, more] =
            bits;
        let (dirwh, rdcache, rdhash, fhsm_sec) = numbers;
        Settings {
            acl, trunc_xino, shwh, plink, dirperm1, dirren, sum, claim, warn_perm, verbose,
            create,
            xino: if more { Xino::None } else { Xino::Default },
            diropq: if more { Diropq::Always } else { Diropq::Whiteouted },
            udba: [Udba::None, Udba::Reval, Udba::Notify][kinds.0],
            cpup: [CopyUpPolicy::Tdp, CopyUpPolicy::Bup, CopyUpPolicy::Bu][kinds.1],
            dirwh, rdcache, rdhash, fhsm_sec, rdblk,
        }
    }
}

proptest! {
    #[test]
    fn round_trip(settings in settings()) {
        let text = show(&settings);
        prop_assert_eq!(apply(&text), settings, "{}", text);
        prop_assert!(text.starts_with(','), "as seq_file output goes on a line");
    }
}
