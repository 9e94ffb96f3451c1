// SPDX-License-Identifier: GPL-2.0

//! Trees that somebody else changes, or has prepared.

#![allow(clippy::disallowed_methods)]

use std::{
    fs,
    os::unix::fs::{symlink, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use ruaufs_user::{
    commit::{Action, Branches, Commit, Options, Watch},
    dir::{self, Cursor, Dir},
    object::Workshop,
};
use rustix::fs::{mkdirat, openat, FileType, Mode, OFlags, CWD};
use tempfile::TempDir;

struct Patient;

impl Watch for Patient {
    fn action(&mut self, _: Action, _: &Path) {}

    fn object(&mut self) {}

    fn bytes(&mut self, _: u64) {}

    fn warn(&mut self, text: String) {
        panic!("{text}");
    }

    fn stop(&self) -> bool {
        false
    }
}

/// UPPER and LOWER on two file systems.
fn two() -> (TempDir, TempDir, PathBuf, PathBuf) {
    let (one, two) = (
        tempfile::tempdir_in("/dev/shm").unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let (upper, lower) = (one.path().join("upper"), two.path().join("lower"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&lower).unwrap();
    (one, two, upper, lower)
}

fn commit(upper: &Path, lower: &Path) -> anyhow::Result<()> {
    let branches = Branches {
        upper: upper.to_owned(),
        lower: lower.to_owned(),
        lower_honours: true,
        below: Vec::new(),
    };
    Commit::new(branches, Options::default())?.run(&mut Patient)
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().mode() & 0o7777
}

#[test]
fn an_object_stays_what_it_is_when_its_name_becomes_another() {
    let (_one, _two, upper, lower) = two();
    let secret = upper.join("secret");
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(upper.join("f"), "f").unwrap();
    fs::set_permissions(upper.join("f"), fs::Permissions::from_mode(0o4755)).unwrap();
    let from = Dir::open(&upper).unwrap();
    let object = from.get("f".as_ref()).unwrap().unwrap();
    fs::remove_file(upper.join("f")).unwrap();
    symlink(&secret, upper.join("f")).unwrap();

    let to = Dir::open(&lower).unwrap();
    let workshop = Workshop::open(&to).unwrap();
    workshop.copy(&object, &mut |_| Ok(())).unwrap();
    workshop.deliver(&to, "copy".as_ref()).unwrap();
    workshop.close(&to).unwrap();
    assert_eq!(fs::read_to_string(lower.join("copy")).unwrap(), "f");
    assert_eq!((mode(&lower.join("copy")), mode(&secret)), (0o4755, 0o600));
    let link = from.get("f".as_ref()).unwrap().unwrap();
    assert_eq!(link.meta().kind(), FileType::Symlink);
    assert!(link.open_dir().is_err());
    assert_eq!(fs::read_dir(&lower).unwrap().count(), 1);
}

#[test]
fn a_copy_is_made_where_nobody_else_can_be() {
    let (_one, _two, _, lower) = two();
    let to = Dir::open(&lower).unwrap();
    let workshop = Workshop::open(&to).unwrap();
    let name = lower.join(ruaufs_user::object::WORKSHOP);
    assert_eq!(mode(&name), 0o700);
    // One that was left, whatever it is, goes.
    drop(workshop);
    fs::remove_dir(&name).unwrap();
    symlink("/", &name).unwrap();
    Workshop::open(&to).unwrap().close(&to).unwrap();
    assert_eq!(fs::read_dir(&lower).unwrap().count(), 0);
}

#[test]
fn special_files_are_not_opened() {
    let (_one, _two, upper, _) = two();
    rustix::fs::mknodat(CWD, upper.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let pipe = Dir::open(&upper).unwrap().get("pipe".as_ref()).unwrap();
    let error = pipe
        .unwrap()
        .open_file(&mut || Ok(()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("is a named pipe"), "{error}");
}

fn chain(root: &Path, levels: usize) {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY;
    let mut at = openat(CWD, root, flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = openat(&at, "d", flags, Mode::empty()).unwrap();
    }
    openat(&at, "f", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
}

#[test]
fn trees_may_be_deep() {
    let (_one, _two, upper, lower) = two();
    for levels in [300, 12_000] {
        chain(&upper, levels);
        let mut deepest = 0;
        let mut depth = 0;
        dir::walk(
            Dir::open(&upper).unwrap(),
            &mut |dir, name| {
                let sub = dir.sub(name)?;
                depth += usize::from(sub.is_some());
                deepest = deepest.max(depth);
                Ok(sub)
            },
            &mut |_, _| Ok(()),
        )
        .unwrap();
        assert_eq!(deepest, levels);
        commit(&upper, &lower).unwrap();
        assert_eq!(fs::read_dir(&upper).unwrap().count(), 0);
        Dir::open(&lower).unwrap().clear().unwrap();
        assert_eq!(fs::read_dir(&lower).unwrap().count(), 0);
    }
}

#[test]
fn the_way_back_leads_to_where_one_came_from() {
    let (_one, _two, upper, _) = two();
    chain(&upper, 100);
    let mut cursor = Cursor::new(Dir::open(&upper).unwrap(), 1);
    for _ in 0..100 {
        let next = cursor.dir().sub("d".as_ref()).unwrap().unwrap();
        cursor.enter(next);
    }
    fs::create_dir(upper.join("elsewhere")).unwrap();
    fs::rename(upper.join("d/d/d"), upper.join("elsewhere/d")).unwrap();
    let left = (0..100).position(|_| cursor.leave().is_err());
    assert_eq!(left, Some(97), "not into what is above it now");
}

#[test]
fn what_was_merged_before_a_crash_stays_one_file() {
    let (_one, _two, upper, lower) = two();
    for name in ["f", "g", "h"] {
        match name {
            "f" => fs::write(upper.join(name), "text").unwrap(),
            _ => fs::hard_link(upper.join("f"), upper.join(name)).unwrap(),
        }
    }
    let branches = Branches {
        upper: upper.clone(),
        lower: lower.clone(),
        lower_honours: true,
        below: Vec::new(),
    };
    let options = Options {
        keep: true,
        ..Options::default()
    };
    Commit::new(branches, options)
        .unwrap()
        .run(&mut Patient)
        .unwrap();
    // As if the machine had failed when the first name was moved.
    let private = |path: &Path| {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    };
    let trash = upper.join(".wh..wh.commit");
    private(&trash);
    private(&trash.join("trash0"));
    fs::rename(upper.join("f"), trash.join("trash0/f")).unwrap();
    let ino = |name: &str| lower.join(name).metadata().unwrap().ino();
    let before = ino("f");
    commit(&upper, &lower).unwrap();
    assert_eq!([ino("f"), ino("g"), ino("h")], [before; 3]);
    assert_eq!(fs::read_dir(&upper).unwrap().count(), 0);
}

#[test]
fn what_a_commit_did_not_leave_is_refused() {
    let (_one, _two, upper, lower) = two();
    fs::write(upper.join("f"), "f").unwrap();
    let state = upper.join(".wh..wh.commit");
    for words in ["mode 755", "key is in it", "a symbolic link"] {
        match words {
            "a symbolic link" => symlink("/etc", &state).unwrap(),
            _ => fs::create_dir(&state).unwrap(),
        }
        if words == "key is in it" {
            fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
            fs::write(state.join("key"), "").unwrap();
        }
        let error = format!("{:#}", commit(&upper, &lower).unwrap_err());
        assert!(
            error.contains(words) && error.contains("move it away"),
            "{error}"
        );
        assert_eq!(fs::read_dir(&lower).unwrap().count(), 0);
        fs::rename(&state, upper.parent().unwrap().join(words)).unwrap();
    }
    commit(&upper, &lower).unwrap();
}

#[test]
fn another_file_system_may_lack_room_for_an_attribute() {
    let (_one, _two, upper, lower) = two();
    fs::write(upper.join("f"), "f").unwrap();
    let odd: &[u8] = b"user.\xff\xfe";
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(upper.join("f"), odd, b"v", flags).is_err() {
        return; // No such attributes in this kernel's tmpfs.
    }
    commit(&upper, &lower).unwrap();
    let mut value = [0; 2];
    let got = rustix::fs::getxattr(lower.join("f"), odd, &mut value[..]);
    assert_eq!((got, value[0]), (Ok(1), b'v'));
}

/// Any user can give a file more attributes than listxattr(2) lists.
#[test]
fn attributes_may_be_too_many_to_be_listed() {
    let (_one, _two, upper, lower) = two();
    let flags = rustix::fs::XattrFlags::empty();
    for (name, many) in [("f", true), ("d", true), ("g", false)] {
        match name {
            "d" => fs::create_dir(upper.join(name)).unwrap(),
            _ => fs::write(upper.join(name), name).unwrap(),
        }
        for i in 0..if many { 300 } else { 0 } {
            let key = format!("user.{i:0>240}");
            if rustix::fs::setxattr(upper.join(name), key, b"v", flags).is_err() {
                return; // No such attributes in this kernel's tmpfs.
            }
        }
    }
    fs::set_permissions(upper.join("f"), fs::Permissions::from_mode(0o4751)).unwrap();
    let branches = Branches {
        upper: upper.clone(),
        lower: lower.clone(),
        lower_honours: true,
        below: Vec::new(),
    };
    let mut told = Told::default();
    Commit::new(branches, Options::default())
        .unwrap()
        .run(&mut told)
        .unwrap();
    assert_eq!(told.0.len(), 2, "{:?}", told.0);
    assert!(told.0.iter().all(|text| text.contains("too many")));
    assert_eq!(fs::read_to_string(lower.join("f")).unwrap(), "f");
    assert_eq!(mode(&lower.join("f")), 0o4751);
    assert_eq!(fs::read_dir(&upper).unwrap().count(), 0);
}

/// The warnings.
#[derive(Default)]
struct Told(Vec<String>);

impl Watch for Told {
    fn action(&mut self, _: Action, _: &Path) {}

    fn object(&mut self) {}

    fn bytes(&mut self, _: u64) {}

    fn warn(&mut self, text: String) {
        self.0.push(text);
    }

    fn stop(&self) -> bool {
        false
    }
}
