// SPDX-License-Identifier: GPL-2.0

//! Mount options as text: what mount(8) hands to a helper, sorted into what is whose, and cut to
//! what the kernel's interfaces take.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use anyhow::{bail, ensure, Result};
use logic::options::{self, Flag, Opt};
use rustix::mount::MountFlags;

use crate::names::Show;

/// Longest value (and key) of fsconfig(2).
pub const FSCONFIG_MAX: usize = 255;
/// Longest option string of mount(2), without the final NUL.
pub const MOUNT2_MAX: usize = 4095;

/// An option as text.
pub type Text = Vec<u8>;

/// Splits a list at its commas, but not within `"..."` and not after a backslash. Empty items go.
pub fn split(list: &[u8]) -> Vec<Text> {
    let mut items = vec![Text::new()];
    let mut quoted = false;
    let mut escaped = false;
    for byte in list {
        match byte {
            b',' if !quoted && !escaped => {
                items.push(Text::new());
                continue;
            }
            b'"' => quoted = !quoted,
            _ => {}
        }
        escaped = *byte == b'\\' && !escaped;
        if let Some(item) = items.last_mut() {
            item.push(*byte);
        }
    }
    items.retain(|item| !item.is_empty());
    items
}

/// Key and value, cut at the first `=`; for branch options also at the first `:`.
pub fn key_value(option: &[u8]) -> (&[u8], Option<&[u8]>) {
    let cut = |at: usize| (&option[..at], Some(&option[at + 1..]));
    if let Some(at) = option.iter().position(|b| *b == b':') {
        if options::takes_colon(&option[..at]) {
            return cut(at);
        }
    }
    match option.iter().position(|b| *b == b'=') {
        Some(at) => cut(at),
        None => (option, None),
    }
}

/// An option of the union: key and value are exactly what the kernel gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The key.
    pub key: Text,
    /// The value; without one it is a flag.
    pub value: Option<Text>,
}

impl Setting {
    /// A key with a value, which may be any bytes.
    pub fn new(key: &str, value: impl Into<Text>) -> Self {
        Setting {
            key: key.into(),
            value: Some(value.into()),
        }
    }

    /// An option as mount(8) hands it over: quotes around a value and backslashes before commas
    /// protect commas, and go.
    pub fn read(option: &[u8]) -> Self {
        let (key, value) = key_value(option);
        Setting {
            key: key.to_vec(),
            value: value.map(bare),
        }
    }

    /// As text that goes to mount(2).
    fn text(&self) -> Text {
        match &self.value {
            Some(value) => [&self.key[..], b"=", value].concat(),
            None => self.key.clone(),
        }
    }
}

/// Flags of a mount: the word, what it sets, what it clears. A super block has some of them, too.
const FLAGS: &[(&str, MountFlags, MountFlags)] = {
    const NONE: MountFlags = MountFlags::empty();
    // Not all are known to the crate by name.
    const NOSYMFOLLOW: MountFlags = MountFlags::from_bits_retain(0x100);
    const I_VERSION: MountFlags = MountFlags::from_bits_retain(1 << 23);
    const ATIME: MountFlags = MountFlags::NOATIME
        .union(MountFlags::RELATIME)
        .union(MountFlags::STRICTATIME);
    &[
        ("ro", MountFlags::RDONLY, NONE),
        ("rw", NONE, MountFlags::RDONLY),
        ("nosuid", MountFlags::NOSUID, NONE),
        ("suid", NONE, MountFlags::NOSUID),
        ("nodev", MountFlags::NODEV, NONE),
        ("dev", NONE, MountFlags::NODEV),
        ("noexec", MountFlags::NOEXEC, NONE),
        ("exec", NONE, MountFlags::NOEXEC),
        ("nosymfollow", NOSYMFOLLOW, NONE),
        ("symfollow", NONE, NOSYMFOLLOW),
        ("noatime", MountFlags::NOATIME, ATIME),
        ("atime", NONE, MountFlags::NOATIME),
        ("nodiratime", MountFlags::NODIRATIME, NONE),
        ("diratime", NONE, MountFlags::NODIRATIME),
        ("relatime", MountFlags::RELATIME, ATIME),
        ("norelatime", NONE, MountFlags::RELATIME),
        ("strictatime", MountFlags::STRICTATIME, ATIME),
        ("nostrictatime", NONE, MountFlags::STRICTATIME),
        ("sync", MountFlags::SYNCHRONOUS, NONE),
        ("async", NONE, MountFlags::SYNCHRONOUS),
        ("dirsync", MountFlags::DIRSYNC, NONE),
        ("loud", NONE, MountFlags::SILENT),
        ("iversion", I_VERSION, NONE),
        ("noiversion", NONE, I_VERSION),
        ("lazytime", MountFlags::from_bits_retain(1 << 25), NONE),
        ("nolazytime", NONE, MountFlags::from_bits_retain(1 << 25)),
    ]
};

/// Those of [`FLAGS`] that are the super block's.
const SUPER_FLAGS: &[&str] = &[
    "ro",
    "rw",
    "sync",
    "async",
    "dirsync",
    "lazytime",
    "nolazytime",
];

/// Words for mount(8) and its kin only.
fn is_for_user_space(option: &str) -> bool {
    const WORDS: &[&str] = &[
        "defaults", "auto", "noauto", "nofail", "_netdev", "user", "nouser", "users", "nousers",
        "owner", "noowner", "group", "nogroup",
    ];
    const BEGINNINGS: &[&str] = &["x-", "X-", "comment=", "user=", "uhelper=", "helper="];
    WORDS.contains(&option) || BEGINNINGS.iter().any(|b| option.starts_with(b))
}

/// Sorted options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sorted {
    /// `remount` is there.
    pub remount: bool,
    /// Flags that are set and cleared, in the order they were given.
    flags: Vec<(MountFlags, MountFlags)>,
    /// Words for the super block's flags.
    pub super_flags: Vec<&'static str>,
    /// Options of the union, in order.
    pub fs: Vec<Setting>,
}

impl Sorted {
    /// Options of the union alone.
    pub fn of(fs: Vec<Setting>) -> Self {
        Sorted {
            fs,
            ..Sorted::default()
        }
    }

    /// Appends others.
    pub fn append(&mut self, mut others: Sorted) {
        self.remount |= others.remount;
        self.flags.append(&mut others.flags);
        self.super_flags.append(&mut others.super_flags);
        self.fs.append(&mut others.fs);
    }

    /// Flags after those options, from those before.
    pub fn flags(&self, before: MountFlags) -> MountFlags {
        let step =
            |flags: MountFlags, (set, clear): &(MountFlags, MountFlags)| (flags - *clear) | *set;
        self.flags.iter().fold(before, step)
    }

    /// Whether any flag is given.
    pub fn has_flags(&self) -> bool {
        !self.flags.is_empty()
    }
}

/// Sorts options; `droplvl` and `ephemeral` are translated.
///
/// What changes a mount in other ways (`bind`, `move`, `shared`, ...) is an error, since mount(8)
/// does it without a helper.
pub fn sort(options: &[Text]) -> Result<Sorted> {
    let mut sorted = Sorted::default();
    for option in options {
        let text = String::from_utf8_lossy(option);
        if let Some(words) = translate(&text)? {
            for word in words {
                sort_one(&mut sorted, word.as_bytes(), word);
            }
            continue;
        }
        match text.as_ref() {
            "remount" => sorted.remount = true,
            "bind" | "rbind" | "move" | "shared" | "rshared" | "slave" | "rslave" | "private"
            | "rprivate" | "unbindable" | "runbindable" => {
                bail!("option {text} is not for a helper: use mount -i")
            }
            word if is_for_user_space(word) => {}
            word => sort_one(&mut sorted, option, word),
        }
    }
    Ok(sorted)
}

fn sort_one(sorted: &mut Sorted, option: &[u8], word: &str) {
    match FLAGS.iter().find(|(known, ..)| *known == word) {
        Some((word, set, clear)) => {
            sorted.flags.push((*set, *clear));
            if SUPER_FLAGS.contains(word) {
                sorted.super_flags.push(word);
            }
        }
        None => sorted.fs.push(Setting::read(option)),
    }
}

/// `droplvl=N`: how much of what costs time to leave out; negative values undo that.
fn translate(option: &str) -> Result<Option<Vec<&'static str>>> {
    const DROP: [&[&str]; 3] = [
        &["noatime", "dirperm1", "udba=none", "nodirren"],
        &["notrunc_xino", "notrunc_xib"],
        &["noplink", "noxino"],
    ];
    const UNDO: [&[&str]; 3] = [
        &["relatime", "nodirperm1", "udba=reval"],
        &[], // These are the default.
        &["plink", "xino=/tmp/.aufs.xino"],
    ];
    let level = match option.strip_prefix("droplvl=") {
        Some(level) => level,
        None if option == "ephemeral" => "3",
        None => return Ok(None),
    };
    let Ok(level) = level.parse::<i8>() else {
        bail!("option {option}: the level is a number from -3 to 3");
    };
    ensure!(
        (-3..=3).contains(&level),
        "option {option}: the level is from -3 to 3"
    );
    let table = match level < 0 {
        true => UNDO,
        false => DROP,
    };
    let levels = table.iter().take(usize::from(level.unsigned_abs()));
    Ok(Some(
        levels.flat_map(|words| words.iter().copied()).collect(),
    ))
}

/// Whether a remount with these options needs the pseudo-links to be flushed before: branches come
/// and go, or nothing can be copied up any more.
pub fn needs_flush(sorted: &Sorted, is_read_only: bool) -> bool {
    let flushes = |setting: &Setting| {
        match options::parse(&setting.key, setting.value.as_deref()) {
            Ok(Opt::Add { .. } | Opt::Append(_) | Opt::Prepend(_) | Opt::Del(_)) => true,
            Ok(Opt::Mod(spec)) => !spec.access.is_some_and(|access| access.may_write()),
            Ok(Opt::Flag(Flag::Plink, on)) => !on,
            // What is wrong the kernel refuses.
            _ => false,
        }
    };
    let read_only = sorted
        .flags(MountFlags::empty())
        .contains(MountFlags::RDONLY);
    sorted.fs.iter().any(flushes) || (read_only && !is_read_only)
}

/// Options as calls of fsconfig(2): a list of branches that is too long is cut into several.
pub fn settings(options: &[Setting]) -> Result<Vec<Setting>> {
    let mut settings = Vec::new();
    for option in options {
        let Setting { key, value } = option;
        ensure!(
            key.len() <= FSCONFIG_MAX,
            "option {} is too long",
            shown(key)
        );
        let value = match value {
            Some(value) if value.len() > FSCONFIG_MAX => value,
            _ => {
                settings.push(option.clone());
                continue;
            }
        };
        ensure!(
            options::is_list(key),
            "option {}: the value has {} bytes, the kernel takes {FSCONFIG_MAX} at most",
            shown(key),
            value.len()
        );
        for branch in elements(key, value)? {
            ensure!(
                branch.len() <= FSCONFIG_MAX,
                "branch {} has {} bytes, the kernel takes {FSCONFIG_MAX} at most; bind-mount the \
                 directory to a shorter path",
                shown(branch),
                branch.len()
            );
            settings.push(Setting {
                key: key.clone(),
                value: Some(branch.to_vec()),
            });
        }
    }
    Ok(settings)
}

fn elements<'v>(key: &[u8], value: &'v [u8]) -> Result<Vec<&'v [u8]>> {
    let value = value.strip_suffix(b":").unwrap_or(value);
    let branches: Vec<_> = value.split(|b| *b == b':').collect();
    ensure!(
        branches.iter().all(|b| !b.is_empty()),
        "option {}: there is an empty branch in the list",
        shown(key)
    );
    Ok(branches)
}

/// Without quotes around the whole and backslashes before commas. All else is part of the value.
fn bare(value: &[u8]) -> Text {
    let inner = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    let value = inner.unwrap_or(value);
    let mut out = Text::with_capacity(value.len());
    let mut bytes = value.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' || bytes.peek() != Some(&b',') {
            out.push(byte);
        }
    }
    out
}

fn shown(text: &[u8]) -> String {
    OsStr::from_bytes(text).shown()
}

/// The option strings for mount(2): the first is for the mount, each of the others for a remount
/// that appends branches. One is enough unless the list of branches is long.
pub fn strings(options: &[Setting]) -> Result<Vec<Text>> {
    for option in options {
        ensure!(
            !option.text().contains(&b','),
            "option {}: mount(2) takes no comma in it",
            shown(&option.text())
        );
    }
    let texts: Vec<Text> = options.iter().map(Setting::text).collect();
    let whole = texts.join(&b","[..]);
    if whole.len() <= MOUNT2_MAX {
        return Ok(vec![whole]);
    }
    // Keep what is no list; the lists follow, as far as they go.
    let mut rest: Vec<Text> = Vec::new();
    let mut branches = Vec::new();
    for option in options {
        match &option.value {
            Some(value) if options::is_list(&option.key) => {
                branches.extend(elements(&option.key, value)?)
            }
            _ => rest.push(option.text()),
        }
    }
    let mut first: Text = rest
        .iter()
        .flat_map(|option| [&option[..], b","].concat())
        .collect();
    first.extend_from_slice(b"br=");
    let too_long = || {
        format!("the options have more than {MOUNT2_MAX} bytes, which is all that mount(2) takes")
    };
    let mut done = Vec::new();
    let mut current = first;
    let mut begun = false;
    for branch in branches {
        let piece = match (done.is_empty(), begun) {
            (true, false) => branch.to_vec(),
            (true, true) => [b":", branch].concat(),
            (false, _) => [b",append=", branch].concat(),
        };
        if current.len() + piece.len() <= MOUNT2_MAX {
            current.extend(piece);
            begun = true;
            continue;
        }
        let next = [b"append=", branch].concat();
        ensure!(begun && next.len() <= MOUNT2_MAX, too_long());
        done.push(std::mem::replace(&mut current, next));
    }
    ensure!(begun, too_long());
    done.push(current);
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(list: &[&str]) -> Vec<Text> {
        list.iter().map(|s| s.as_bytes().to_vec()).collect()
    }

    fn strs(list: &[Text]) -> Vec<String> {
        let text = |t: &Text| String::from_utf8_lossy(t).into_owned();
        list.iter().map(text).collect()
    }

    fn read(list: &[&str]) -> Vec<Setting> {
        list.iter().map(|s| Setting::read(s.as_bytes())).collect()
    }

    fn written(list: &[Setting]) -> Vec<String> {
        strs(&list.iter().map(Setting::text).collect::<Vec<_>>())
    }

    #[test]
    fn splitting() {
        let of = |list: &str| strs(&split(list.as_bytes()));
        assert_eq!(of("a,b=c,,d,"), ["a", "b=c", "d"]);
        assert_eq!(of(r#"context="a,b",c"#), [r#"context="a,b""#, "c"]);
        assert_eq!(of(r"append=/a\,b,c"), [r"append=/a\,b", "c"]);
        assert_eq!(of(r"a=\\,b"), [r"a=\\", "b"]);
        assert!(of("").is_empty() && of(",,").is_empty());
    }

    #[test]
    fn keys() {
        assert_eq!(key_value(b"br:/a=rw"), (&b"br"[..], Some(&b"/a=rw"[..])));
        assert_eq!(
            key_value(b"add:1:/a=rw"),
            (&b"add"[..], Some(&b"1:/a=rw"[..]))
        );
        assert_eq!(
            key_value(b"br=/a=rw:/b"),
            (&b"br"[..], Some(&b"/a=rw:/b"[..]))
        );
        assert_eq!(
            key_value(b"dirs:/a=rw"),
            (&b"dirs:/a"[..], Some(&b"rw"[..]))
        );
        assert_eq!(key_value(b"noxino"), (&b"noxino"[..], None));
    }

    #[test]
    fn sorting() {
        let options = split(
            b"rw,noatime,user,x-systemd.automount,br:/a:/b,nosuid,_netdev,relatime,udba=none,ro",
        );
        let sorted = sort(&options).unwrap();
        assert_eq!(written(&sorted.fs), ["br=/a:/b", "udba=none"]);
        assert_eq!(sorted.super_flags, ["rw", "ro"]);
        assert!(!sorted.remount && sorted.has_flags());
        let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::RELATIME;
        assert_eq!(sorted.flags(MountFlags::NOATIME), flags);
        let remount = sort(&split(b"rw,relatime,si=1,remount,append:/x")).unwrap();
        assert!(remount.remount);
        assert_eq!(written(&remount.fs), ["si=1", "append=/x"]);
        for word in ["bind", "move", "rprivate"] {
            assert!(sort(&texts(&[word])).is_err(), "{word}");
        }
    }

    #[test]
    fn drop_levels() {
        let of = |option: &str| {
            let sorted = sort(&texts(&[option])).unwrap();
            (written(&sorted.fs), sorted.flags(MountFlags::empty()))
        };
        let drop1 = ["dirperm1", "udba=none", "nodirren"];
        assert_eq!(of("droplvl=0"), (vec![], MountFlags::empty()));
        assert_eq!(of("droplvl=1").0, drop1);
        assert_eq!(of("droplvl=1").1, MountFlags::NOATIME);
        let all = [
            &drop1[..],
            &["notrunc_xino", "notrunc_xib", "noplink", "noxino"],
        ]
        .concat();
        assert_eq!(of("droplvl=3").0, all);
        assert_eq!(of("ephemeral"), of("droplvl=3"));
        assert_eq!(of("droplvl=-1").0, ["nodirperm1", "udba=reval"]);
        assert_eq!(of("droplvl=-1").1, MountFlags::RELATIME);
        assert_eq!(of("droplvl=-3").0.last().unwrap(), "xino=/tmp/.aufs.xino");
        for bad in [
            "droplvl=",
            "droplvl=4",
            "droplvl=-4",
            "droplvl=x",
            "droplvl=1000",
        ] {
            assert!(sort(&texts(&[bad])).is_err(), "{bad}");
        }
    }

    #[test]
    fn flushing() {
        let needs = |options: &str, is_read_only| {
            needs_flush(&sort(&split(options.as_bytes())).unwrap(), is_read_only)
        };
        for yes in [
            "append:/a",
            "add:1:/a=ro",
            "ins=0:/a",
            "prepend=/a",
            "del:/a",
            "del=/a",
            "mod:/a=ro",
            "noplink",
            "ro",
            "noxino,noplink,ro",
            "droplvl=3",
        ] {
            assert!(needs(yes, false), "{yes}");
        }
        for no in [
            "rw",
            "mod:/a=rw+nolwh",
            "udba=none",
            "br=/a=rw",
            "si=1,relatime",
            "droplvl=1",
            "plink",
        ] {
            assert!(!needs(no, false), "{no}");
        }
        assert!(!needs("ro", true));
        assert!(needs("ro,del:/a", true));
    }

    #[test]
    fn settings_of_short_options_stay() {
        let of = |list: &str| {
            let options: Vec<_> = split(list.as_bytes())
                .iter()
                .map(|o| Setting::read(o))
                .collect();
            let settings = settings(&options).unwrap();
            let text = |t: Text| String::from_utf8(t).unwrap();
            let both = |s: Setting| (text(s.key), s.value.map(text));
            settings.into_iter().map(both).collect::<Vec<_>>()
        };
        let pair = |key: &str, value: &str| (key.to_owned(), Some(value.to_owned()));
        assert_eq!(of("br:/a=rw:/b=ro"), [pair("br", "/a=rw:/b=ro")]);
        assert_eq!(
            of("dirs=/a:/b,noxino"),
            [pair("dirs", "/a:/b"), ("noxino".to_owned(), None)]
        );
        assert_eq!(
            of(r#"context="x,y",append:/c\,d=ro"#),
            [pair("context", "x,y"), pair("append", "/c,d=ro")]
        );
        // Quotes within a value are a part of it.
        assert_eq!(of(r#"br=/a"b:/c\d"#), [pair("br", r#"/a"b:/c\d"#)]);
    }

    fn long_list(n: usize) -> String {
        let branch = |i| format!("/srv/layers/some-rather-long-name-of-a-layer/{i:04}=ro+wh");
        format!("br:{}", (0..n).map(branch).collect::<Vec<_>>().join(":"))
    }

    #[test]
    fn long_lists_are_cut() {
        let settings = settings(&read(&["noxino", &long_list(100)])).unwrap();
        assert_eq!(settings.len(), 101);
        assert!(settings[1..].iter().all(|s| s.key == b"br"));
        let value = |i: usize| shown(settings[i].value.as_ref().unwrap());
        assert!(value(1).ends_with("/0000=ro+wh") && value(100).ends_with("/0099=ro+wh"));
        let too_long = format!("br=/a=rw:/{}", "x".repeat(260));
        let error = super::settings(&read(&[&too_long]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("bind-mount"), "{error}");
        assert!(super::settings(&read(&[&format!("xino=/{}", "x".repeat(260))])).is_err());
        assert!(super::settings(&read(&[&format!("br=/a::/{}", "x".repeat(252))])).is_err());
    }

    #[test]
    fn strings_of_long_lists() {
        assert_eq!(
            strs(&strings(&read(&["br:/a", "noxino"])).unwrap()),
            ["br=/a,noxino"]
        );
        let list = long_list(200);
        let strings = strings(&read(&["noxino", &list, "dirperm1"])).unwrap();
        assert!(strings.len() > 2 && strings.iter().all(|s| s.len() <= MOUNT2_MAX));
        let strings = strs(&strings);
        assert!(
            strings[0].starts_with("noxino,dirperm1,br=/srv/"),
            "{}",
            strings[0]
        );
        let mut branches: Vec<_> = strings[0]["noxino,dirperm1,br=".len()..]
            .split(':')
            .collect();
        for string in &strings[1..] {
            branches.extend(
                string
                    .split(',')
                    .map(|s| s.strip_prefix("append=").unwrap()),
            );
        }
        assert_eq!(branches.join(":"), list["br:".len()..]);
        let error = super::strings(&read(&[&"x".repeat(5000)]))
            .unwrap_err()
            .to_string();
        assert!(error.contains("4095 bytes"), "{error}");
    }

    proptest! {
        #[test]
        fn any_list_is_cut_and_loses_nothing(lengths in proptest::collection::vec(1usize..250, 1..80)) {
            let branches: Vec<String> = lengths.iter().map(|n| format!("/{}", "x".repeat(*n))).collect();
            let option = read(&["udba=none", &format!("br={}", branches.join(":"))]);
            let settings = settings(&option).unwrap();
            let values: Vec<_> = settings[1..].iter().map(|s| shown(s.value.as_ref().unwrap())).collect();
            prop_assert!(values.iter().all(|v| v.len() <= FSCONFIG_MAX));
            prop_assert_eq!(values.join(":"), branches.join(":"));
            let strings = strings(&option).unwrap();
            prop_assert!(strings.iter().all(|s| s.len() <= MOUNT2_MAX));
            let got: usize = strs(&strings).iter().map(|s| s.matches('/').count()).sum();
            prop_assert_eq!(got, branches.len());
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let options = split(&bytes);
            if let Ok(sorted) = sort(&options) {
                let _ = needs_flush(&sorted, false);
                let _ = settings(&sorted.fs);
                let _ = strings(&sorted.fs);
            }
        }
    }
}
