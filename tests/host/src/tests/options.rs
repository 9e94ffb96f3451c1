// SPDX-License-Identifier: GPL-2.0

//! One option at a time, and the option strings of real clients.

use proptest::{collection::vec, prelude::*, sample::select};

use logic::env::{EDOM, EINVAL};

use super::written;
use logic::{
    branch_spec::BranchSpec,
    options::{parse, Bad, CopyUpPolicy, CreatePolicy, Diropq, Flag, Keep, Opt, Udba},
};

/// Splits as the kernel does with the string of mount(2): at `,`, then at the first `=`; empty
/// items and items without key are skipped.
pub(super) fn split(text: &str) -> Vec<(&str, Option<&str>)> {
    text.split(',')
        .map(|item| match item.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (item, None),
        })
        .filter(|(key, _)| !key.is_empty())
        .collect()
}

/// Parses one item of an option string.
fn one(text: &str) -> Result<Opt, Bad> {
    let (key, value) = split(text)[0];
    parse(key.as_bytes(), value.map(str::as_bytes))
}

/// Describes an option in the words of the colon-less grammar, branches with all they have.
fn shown(opt: Opt) -> String {
    let spec = |spec: &BranchSpec| {
        let notes = "!".repeat(spec.notes.len());
        written(|out| spec.write_to(out)) + &notes
    };
    let path = |path: &[u8]| String::from_utf8(path.to_vec()).unwrap();
    match opt {
        Opt::Branches(list) => {
            "br=".to_owned() + &list.iter().map(spec).collect::<Vec<_>>().join(":")
        }
        Opt::Add { index, spec: at } => format!("add={index}:{}", spec(&at)),
        Opt::Append(at) => format!("append={}", spec(&at)),
        Opt::Prepend(at) => format!("prepend={}", spec(&at)),
        Opt::Mod(at) => format!("mod={}", spec(&at)),
        Opt::Del(at) => format!("del={}", path(&at)),
        Opt::Xino(at) => format!("xino={}", path(&at)),
        Opt::TruncXinoBranch(at) => format!("trunc_xino={}", path(&at)),
        Opt::Create(policy) => format!("create={}", written(|out| policy.write_to(out))),
        Opt::CopyUp(policy) => format!("cpup={}", written(|out| policy.write_to(out))),
        other => format!("{other:?}"),
    }
}

/// Parses a whole string.
fn all(text: &str) -> Vec<String> {
    split(text)
        .into_iter()
        .map(|(key, value)| shown(parse(key.as_bytes(), value.map(str::as_bytes)).unwrap()))
        .collect()
}

/// The errno and the message of a refused option.
fn refused(text: &str) -> (i32, &'static str) {
    match one(text) {
        Err(Bad::Invalid { errno, why }) => (errno.to_errno(), why),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn strings_of_real_clients() {
    for (text, opts) in [
        // docker, containers/storage, containerd
        (
            "br:/d/rw=rw:/d/p1=ro+wh:/d/p2=ro+wh,dio,xino=/dev/shm/aufs.xino,dirperm1",
            &[
                "br=/d/rw=rw:/d/p1=ro+wh:/d/p2=ro+wh",
                "Flag(Dio, true)",
                "xino=/dev/shm/aufs.xino",
                "Flag(DirPerm1, true)",
            ][..],
        ),
        (
            "append:/p=ro+wh,append:/q=ro+wh,",
            &["append=/p=ro+wh", "append=/q=ro+wh"],
        ),
        (
            "br:/base,dirperm1,xino=/dev/shm/aufs.xino",
            &[
                "br=/base",
                "Flag(DirPerm1, true)",
                "xino=/dev/shm/aufs.xino",
            ],
        ),
        // schroot, bilibop
        ("br:/o/S:/u/S=ro", &["br=/o/S:/u/S=ro"]),
        (
            "br:/aufs/rw=rw:/aufs/ro=rr",
            &["br=/aufs/rw=rw:/aufs/ro=rr"],
        ),
        // Slax
        (
            "xino=/.xino,trunc_xino,br=/memory/changes",
            &["xino=/.xino", "Flag(TruncXino, true)", "br=/memory/changes"],
        ),
        (
            "add:1:/memory/bundles/NAME=rr+wh",
            &["add=1:/memory/bundles/NAME=rr+wh"],
        ),
        ("verbose,del:/x", &["Flag(Verbose, true)", "del=/x"]),
        // Porteus, Puppy
        (
            "dirperm1,add=1:/d=rr",
            &["Flag(DirPerm1, true)", "add=1:/d=rr"],
        ),
        (
            "prepend:/save=rw,mod:/mnt/pup_rw=ro,del:/mnt/pup_rw",
            &["prepend=/save=rw", "mod=/mnt/pup_rw=ro", "del=/mnt/pup_rw"],
        ),
        (
            "udba=reval,diropq=w,br=/a=rw,xino=/x",
            &["Udba(Reval)", "Diropq(Whiteouted)", "br=/a=rw", "xino=/x"],
        ),
        ("noxino,noplink", &["NoXino", "Flag(Plink, false)"]),
        (
            "noxino,dirs=/cow=rw:/live/image=rr",
            &["NoXino", "br=/cow=rw:/live/image=rr"],
        ),
        // What /proc/mounts shows, given back at a remount
        (
            "si=7e2d98164da0c63b,relatime,nodlgt,nowarn_perm",
            &["Silent", "Silent", "Silent", "Flag(WarnPerm, false)"],
        ),
    ] {
        assert_eq!(all(text), opts, "{text}");
    }
}

#[test]
fn branch_options() {
    for (text, opt) in [
        ("br=/a:", "br=/a"),
        ("br=/a:/b:", "br=/a:/b"),
        ("br=/a::/b", "br=/a"),
        ("br=/a=:/b", "br=/a=ro:/b"),
        ("br:/a=", "br=/a=ro"),
        ("br=rel/a=rx", "br=rel/a=ro!"),
        ("dirs=/a", "br=/a"),
        ("add=0:/a", "add=0:/a"),
        ("ins=0x10:/a=rw", "add=16:/a=rw"),
        ("ins:+2:/a", "add=2:/a"),
        ("add:1:/a:b=ro", "add=1:/a:b=ro"),
        ("append:/a", "append=/a"),
        ("append=/a=rw", "append=/a=rw"),
        ("prepend=/a", "prepend=/a"),
        ("mod:/a=", "mod=/a=ro"),
        ("mod=/a=rw+nolwh", "mod=/a=rw+nolwh"),
        ("del:/a=b", "del=/a=b"),
        ("del=/a", "del=/a"),
    ] {
        assert_eq!(shown(one(text).unwrap()), opt, "{text}");
    }
}

#[test]
fn refused_branch_options() {
    let list = "needs at least one branch: PATH[=PERM[+ATTR]][:PATH...]";
    let add = "must be INDEX:PATH[=PERM[+ATTR]]";
    let branch = "must be PATH[=PERM[+ATTR]]";
    let change = "must be PATH=PERM[+ATTR]";
    for (text, why) in [
        ("br", list),
        ("br=", list),
        ("br:", list),
        ("br=:/a", list),
        ("br==rw", list),
        ("dirs", list),
        ("add", add),
        ("add=1", add),
        ("add=1:", add),
        ("add=1=/a", add),
        ("add=1:=rw", add),
        ("add:1", add),
        ("append", branch),
        ("append=", branch),
        ("prepend:", branch),
        ("prepend:=rw", branch),
        ("mod=/a", change),
        ("mod", change),
        ("mod:=rw", change),
        ("del", "must be a path"),
        ("del=", "must be a path"),
        ("del:", "must be a path"),
        ("add=x:/a", "needs an index, a number from 0"),
        ("add=:/a", "needs an index, a number from 0"),
    ] {
        assert_eq!(refused(text), (EINVAL.to_errno(), why), "{text}");
    }
    let range = "needs an index from 0 to the number of branches";
    for text in [
        "add=-1:/a",
        "add=2147483648:/a",
        "ins:-9:/a",
        "itrunc_xino=-1",
    ] {
        assert_eq!(refused(text), (EDOM.to_errno(), range), "{text}");
    }
}

/// Only fsconfig(2) can give two options at once: not what mount(2) makes of the same text.
#[test]
fn two_options_in_one_value() {
    for (key, value) in [
        ("mod:/a", "ro,mod:/a=rw"),
        ("mod", "/a=ro,mod:/a=rw"),
        ("br:/a", "rw:/b=ro,udba=none"),
        ("append", "/a=rw+nolwh,dirren"),
        ("add:1:/a", "ro,plink"),
    ] {
        let parsed = parse(key.as_bytes(), Some(value.as_bytes()));
        assert!(
            matches!(parsed, Err(Bad::Invalid { errno: EINVAL, .. })),
            "{key}={value}: {parsed:?}"
        );
    }
    let comma = parse(b"append", Some(b"/a,b=ro")).unwrap();
    assert_eq!(shown(comma), "append=/a,b=ro", "a path may have commas");
}

#[test]
fn flags() {
    for (word, flag) in [
        ("acl", Flag::Acl),
        ("claim", Flag::Claim),
        ("dio", Flag::Dio),
        ("dirperm1", Flag::DirPerm1),
        ("dirren", Flag::DirRen),
        ("plink", Flag::Plink),
        ("shwh", Flag::ShWh),
        ("sum", Flag::Sum),
        ("trunc_xib", Flag::TruncXib),
        ("trunc_xino", Flag::TruncXino),
        ("verbose", Flag::Verbose),
        ("warn_perm", Flag::WarnPerm),
    ] {
        assert_eq!(one(word), Ok(Opt::Flag(flag, true)));
        let no = format!("no{word}");
        assert_eq!(one(&no), Ok(Opt::Flag(flag, false)));
        assert_eq!(refused(&format!("{no}=1")).1, "takes no value");
    }
    assert_eq!(refused("plink=1").1, "takes no value");
    assert_eq!(refused("plink=").1, "takes no value");
    for (word, on) in [
        ("v", true),
        ("quiet", false),
        ("q", false),
        ("silent", false),
    ] {
        assert_eq!(one(word), Ok(Opt::Flag(Flag::Verbose, on)));
    }
    assert_eq!(one("wsum"), Ok(Opt::Flag(Flag::Sum, false)));
}

#[test]
fn xino_options() {
    assert_eq!(shown(one("xino=/a=b").unwrap()), "xino=/a=b");
    assert_eq!(shown(one("trunc_xino=/a").unwrap()), "trunc_xino=/a");
    assert_eq!(one("noxino"), Ok(Opt::NoXino));
    assert_eq!(one("itrunc_xino=3"), Ok(Opt::TruncXinoIndex(3)));
    assert_eq!(refused("xino").1, "needs a value");
    assert_eq!(refused("xino=/a\0b").1, "must be a path");
    assert_eq!(refused("xino=").1, "must be a path");
    assert_eq!(refused("trunc_xino=").1, "must be a path");
    assert_eq!(refused("noxino=1").1, "takes no value");
    assert_eq!(refused("notrunc_xino=/a").1, "takes no value");
    assert_eq!(refused("itrunc_xino").1, "needs a value");
    assert_eq!(
        refused("itrunc_xino=x").1,
        "needs an index, a number from 0"
    );
}

#[test]
fn words_and_numbers() {
    for (text, opt) in [
        ("udba=none", Opt::Udba(Udba::None)),
        ("udba=reval", Opt::Udba(Udba::Reval)),
        ("udba=notify", Opt::Udba(Udba::Notify)),
        ("udba=fsnotify", Opt::Udba(Udba::Notify)),
        ("diropq=a", Opt::Diropq(Diropq::Always)),
        ("diropq=always", Opt::Diropq(Diropq::Always)),
        ("diropq=w", Opt::Diropq(Diropq::Whiteouted)),
        ("diropq=whiteouted", Opt::Diropq(Diropq::Whiteouted)),
        ("dirwh=0", Opt::Dirwh(0)),
        ("dirwh=2147483647", Opt::Dirwh(2147483647)),
        ("rdcache=0", Opt::RdCache(0)),
        ("rdcache=3600", Opt::RdCache(3600)),
        ("rdblk=0", Opt::RdBlk(0)),
        ("rdblk=255", Opt::RdBlk(255)),
        ("rdblk=4194304", Opt::RdBlk(4194304)),
        ("rdblk=def", Opt::RdBlk(512)),
        ("rdhash=0", Opt::RdHash(0)),
        ("rdhash=1", Opt::RdHash(1)),
        ("rdhash=524288", Opt::RdHash(524288)),
        ("rdhash=def", Opt::RdHash(32)),
        ("fhsm_sec=0", Opt::FhsmSec(0)),
        ("fhsm_sec=60", Opt::FhsmSec(60)),
        ("list_plink", Opt::ListPlink),
        ("clean_plink", Opt::Obsolete("clean_plink")),
        ("debug=1", Opt::Obsolete("debug")),
        ("delete=whiteout", Opt::Obsolete("delete")),
        ("imap=/x", Opt::Obsolete("imap")),
        ("si=", Opt::Silent),
        ("relatime", Opt::Silent),
    ] {
        assert_eq!(one(text), Ok(opt), "{text}");
    }
    for (text, why) in [
        ("udba=inotify", "must be none, reval, notify or fsnotify"),
        ("udba=", "must be none, reval, notify or fsnotify"),
        ("udba", "needs a value"),
        ("diropq=x", "must be a, always, w or whiteouted"),
        ("dirwh=-1", "must be a number from 0 to 2147483647"),
        ("dirwh=2147483648", "must be a number from 0 to 2147483647"),
        ("dirwh=x", "must be a number from 0 to 2147483647"),
        ("rdcache=3601", "must be a number of seconds from 0 to 3600"),
        ("rdcache=-1", "must be a number of seconds from 0 to 3600"),
        (
            "rdblk=1",
            "must be def, 0 (estimate) or a number of bytes from 255 to 4194304",
        ),
        (
            "rdblk=254",
            "must be def, 0 (estimate) or a number of bytes from 255 to 4194304",
        ),
        (
            "rdblk=4194305",
            "must be def, 0 (estimate) or a number of bytes from 255 to 4194304",
        ),
        (
            "rdhash=524289",
            "must be def, 0 (estimate) or a number of buckets up to 524288",
        ),
        (
            "fhsm_sec=-1",
            "must be a number of seconds from 0 to 2147483647",
        ),
        ("list_plink=1", "takes no value"),
        ("create", "needs a value"),
        ("cpup=rr", "must be tdp, bup or bu"),
    ] {
        assert_eq!(refused(text), (EINVAL.to_errno(), why), "{text}");
    }
}

#[test]
fn unknown_options() {
    for text in [
        "foo",
        "foo=1",
        "source=none",
        "BR=/a",
        "dirs:/a",
        "xino:/a",
        "foo:/a=rw",
        ":",
        ":/a",
        "idel=0",
        "imod=0=rw",
        "reorder=1",
        "icexsec",
        "trunc_xino_path=/a",
        "droplvl=1",
        "ro",
        "coo=all",
        "add1:/a",
        "zxino=/a",
        "si:1",
    ] {
        assert_eq!(one(text), Err(Bad::Unknown), "{text}");
    }
    assert_eq!(parse(b"", None), Err(Bad::Unknown));
    assert_eq!(parse(b"", Some(b"x")), Err(Bad::Unknown));
}

#[test]
fn create_policies() {
    for (text, policy) in [
        ("tdp", "tdp"),
        ("top-down-parent", "tdp"),
        ("rr", "rr"),
        ("round-robin", "rr"),
        ("mfs", "mfs"),
        ("most-free-space", "mfs"),
        ("mfs:0", "mfs:0"),
        ("most-free-space:60", "mfs:60"),
        ("mfsrr:1048576", "mfsrr:1048576"),
        ("mfsrr:1048576:30", "mfsrr:1048576:30"),
        ("tdmfs:0:3600", "tdmfs:0:3600"),
        ("tdmfs:18446744073709551615", "tdmfs:18446744073709551615"),
        ("pmfs", "pmfs"),
        ("pmfs:5", "pmfs:5"),
        ("pmfsrr:0x10", "pmfsrr:16"),
        ("pmfsrr:16:1", "pmfsrr:16:1"),
    ] {
        for key in ["create", "create_policy"] {
            let opt = one(&format!("{key}={text}")).unwrap();
            assert_eq!(shown(opt), format!("create={policy}"));
        }
    }
    let usage = "must be tdp, rr, mfs[:SEC], pmfs[:SEC], mfsrr:BYTES[:SEC], \
                 tdmfs:BYTES[:SEC] or pmfsrr:BYTES[:SEC]";
    let seconds = "the seconds must be a number from 0 to 3600";
    let bytes = "needs a number of bytes: POLICY:BYTES[:SEC]";
    for (text, why) in [
        ("", usage),
        ("x", usage),
        ("tdp:1", usage),
        ("tdp:", usage),
        ("rr:1", usage),
        ("mfs:1:2", usage),
        ("mfsrr:1:2:3", usage),
        ("mfs:", seconds),
        ("mfs:3601", seconds),
        ("mfs:-1", seconds),
        ("mfs:99999999999999999999", seconds),
        ("mfsrr:1:x", seconds),
        ("mfsrr", bytes),
        ("tdmfs:", bytes),
        ("pmfsrr:1k", bytes),
        ("mfsrr:-1", bytes),
        ("mfsrr:18446744073709551616", bytes),
    ] {
        let why = (EINVAL.to_errno(), why);
        assert_eq!(refused(&format!("create={text}")), why, "{text}");
    }
    let keep = Keep::default();
    assert_eq!(keep.seconds(), 30);
    assert_eq!(Keep::given(60).map(Keep::seconds), Some(60));
    assert_eq!(Keep::given(3601), None);
    assert_eq!(
        one("create=mfs"),
        Ok(Opt::Create(CreatePolicy::Mfs { keep }))
    );
}

#[test]
fn copy_up_policies() {
    for (policy, texts) in [
        (CopyUpPolicy::Tdp, ["tdp", "top-down-parent"]),
        (CopyUpPolicy::Bup, ["bup", "bottom-up-parent"]),
        (CopyUpPolicy::Bu, ["bu", "bottom-up"]),
    ] {
        for text in texts {
            for key in ["cpup", "copyup", "copyup_policy"] {
                assert_eq!(one(&format!("{key}={text}")), Ok(Opt::CopyUp(policy)));
            }
        }
        assert_eq!(written(|out| policy.write_to(out)), texts[0]);
    }
}

#[test]
fn why_ends_a_sentence() {
    // The message is `NAME WHY`.
    for text in ["br", "rdblk=1", "plink=1", "create=", "add=-1:/a"] {
        let (_, why) = refused(text);
        assert!(why.starts_with(char::is_lowercase) && !why.ends_with('.'));
    }
}

/// All keys that mean something.
const KEYS: &[&str] = &[
    "br",
    "dirs",
    "add",
    "ins",
    "append",
    "prepend",
    "del",
    "mod",
    "xino",
    "noxino",
    "trunc_xino",
    "itrunc_xino",
    "trunc_xib",
    "create",
    "create_policy",
    "cpup",
    "udba",
    "diropq",
    "dirwh",
    "rdcache",
    "rdblk",
    "rdhash",
    "fhsm_sec",
    "plink",
    "sum",
    "wsum",
    "si",
    "debug",
    "list_plink",
];

proptest! {
    #[test]
    fn any_bytes(key in vec(any::<u8>(), 0..40), value in proptest::option::of(vec(any::<u8>(), 0..300))) {
        let _ = parse(&key, value.as_deref());
    }

    #[test]
    fn known_key_any_value(key in select(KEYS), value in proptest::option::of(vec(any::<u8>(), 0..100))) {
        prop_assert_ne!(parse(key.as_bytes(), value.as_deref()), Err(Bad::Unknown));
    }

    #[test]
    fn known_key_likely_value(
        key in select(KEYS),
        value in "(-?[0-9]{1,20}|0x[0-9a-f]{1,17}|/[ab]|=|:|r[wor]|\\+wh|mfs|tdmfs|def){0,6}",
    ) {
        let opt = parse(key.as_bytes(), Some(value.as_bytes()));
        prop_assert_ne!(&opt, &Err(Bad::Unknown));
        // What the union relies on.
        match opt {
            Ok(Opt::Branches(list)) => prop_assert!(!list.is_empty()),
            Ok(Opt::Add { index, .. } | Opt::TruncXinoIndex(index)) => prop_assert!(index >= 0),
            Ok(Opt::Mod(spec)) => prop_assert!(spec.access.is_some()),
            Ok(Opt::Del(path) | Opt::Xino(path) | Opt::TruncXinoBranch(path)) => {
                prop_assert!(!path.is_empty());
            }
            _ => {}
        }
    }

    /// `NAME:VALUE`, cut at its first `=`, is the same as `NAME=VALUE`.
    #[test]
    fn colon_and_equals_are_the_same(
        name in select(vec!["br", "add", "ins", "append", "prepend", "del", "mod"]),
        value in "(/[ab]|:|=|r[wo]|[0-9]|\\+wh){1,8}",
    ) {
        let whole = format!("{name}:{value}");
        let (key, rest) = split(&whole)[0];
        prop_assert_eq!(
            parse(key.as_bytes(), rest.map(str::as_bytes)),
            parse(name.as_bytes(), Some(value.as_bytes()))
        );
    }

    #[test]
    fn branch_list_round_trip(list in vec("[^=:,\0]{1,12}(=r[wor]|=ro\\+wh)?", 1..9)) {
        let text = format!("br={}", list.join(":"));
        prop_assert_eq!(shown(one(&text).unwrap()), text);
    }
}
