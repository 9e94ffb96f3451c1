// SPDX-License-Identifier: GPL-2.0

//! Memory mappings, and programs, which are mappings that run.

use std::process::Command;

use crate::harness::{map::Map, prelude::*};

cases! {
    ALL: private_mapping, shared_mapping_for_reading, execution;
    WRITABLE: shared_mapping_for_writing, shared_mapping_of_an_emptied_file;
    BASIC: execution_after_copy_up, running_program_cannot_be_written,
        open_for_write_cannot_be_run, mapping_survives_unlink;
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 256 + i * 7) as u8).collect()
}

fn private_mapping(cx: &Ctx) -> Result<()> {
    let data = pattern(20_000);
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", &data))
        .mount()?;
    let fd = sys::open_ro(u.at("f"))?;
    let mut map = Map::private(&fd, 20_000)?;
    assert!(map.bytes()[..] == data[..]);
    map.bytes_mut()[0] = !data[0];
    assert!(sys::pread_fd(&fd)? == data, "private to the process");
    drop(map);
    assert!(!exists(u.br(0, "f")));
    Ok(())
}

fn shared_mapping_for_reading(cx: &Ctx) -> Result<()> {
    let data = pattern(20_000);
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", &data))
        .mount()?;
    let fd = sys::open_ro(u.at("f"))?;
    let map = Map::shared_ro(&fd, 20_000)?;
    drop(fd);
    assert!(map.bytes()[..] == data[..]);
    let fd = sys::open_ro(u.at("f"))?;
    errno(Map::shared(&fd, 20_000), Errno::ACCESS);
    Ok(())
}

fn shared_mapping_for_writing(cx: &Ctx) -> Result<()> {
    let data = pattern(20_000);
    let u = cx
        .union()
        .rw(Tree::new().file("t", &data))
        .ro(Tree::new().file("l", &data))
        .mount()?;
    for name in ["t", "l"] {
        let fd = sys::open_rw(u.at(name))?;
        let reader = sys::open_ro(u.at(name))?;
        let mut map = Map::shared(&fd, 20_000)?;
        assert!(map.bytes()[..] == data[..]);
        map.bytes_mut()[10_000] = !data[10_000];
        let seen = sys::pread_fd(&reader)?;
        assert_eq!(seen[10_000], !data[10_000], "read(2) sees the mapping");
        sys::pwrite_fd(&fd, &[7], 3)?;
        assert_eq!(map.bytes()[3], 7, "the mapping sees write(2)");
        map.sync()?;
        // tmpfs maps pages writable at the first read and does not see later stores.
        if cx.layout != Layout::Tmpfs {
            sys::utimens(u.at(name), MTIME, MTIME)?;
            map.bytes_mut()[15_000] = !data[15_000];
            map.sync()?;
            let after = sys::mtime(&sys::fstat(&fd)?);
            assert!(after > MTIME, "a store is a modification");
        }
        drop((map, fd, reader));
        assert_eq!(sys::read(u.br(0, name))?[10_000], !data[10_000]);
    }
    Ok(())
}

fn mapping_survives_unlink(cx: &Ctx) -> Result<()> {
    let data = pattern(9000);
    let u = cx
        .union()
        .rw(Tree::new().file("t", &data))
        .ro(Tree::new().file("l", &data))
        .mount()?;
    for name in ["t", "l"] {
        let fd = sys::open_ro(u.at(name))?;
        let map = Map::shared_ro(&fd, 9000)?;
        drop(fd);
        sys::unlink(u.at(name))?;
        sys::drop_caches();
        assert!(map.bytes()[..] == data[..]);
    }
    Ok(())
}

/// open(2) with O_TRUNC has no copy to open yet.
fn shared_mapping_of_an_emptied_file(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("f", pattern(20_000));
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let fd = sys::open(u.at("f"), OFlags::RDWR | OFlags::TRUNC)?;
    assert_eq!(
        sys::lstat(u.br(0, "f"))?.st_size,
        0,
        "it is cut, nothing else"
    );
    sys::truncate(u.at("f"), 5000)?;
    let mut map = Map::shared(&fd, 5000)?;
    assert!(map.bytes().iter().all(|b| *b == 0), "the old data shows");
    map.bytes_mut()[4999] = b'x';
    map.sync()?;
    for path in [u.at("f"), u.br(0, "f")] {
        assert_eq!(sys::read(path)?[4998..], [0, b'x']);
    }
    assert!(sys::read(u.br(1, "f"))? == pattern(20_000));
    Ok(())
}

fn execution(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("bin/echo", std::fs::read("/bin/echo")?)
        .mode(0o755)
        .file("script", "#!/bin/sh\necho script $1\n")
        .mode(0o755)
        .file("noexec", "#!/bin/sh\n")
        .mode(0o644);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let output = Command::new(u.at("bin/echo")).arg("it runs").output()?;
    assert_eq!(output.stdout, b"it runs\n");
    let output = Command::new(u.at("script")).arg("runs").output()?;
    assert_eq!(output.stdout, b"script runs\n");
    let refused = Command::new(u.at("noexec"))
        .output()
        .expect_err("it is not executable");
    assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    assert!(!exists(u.br(0, "bin")));
    Ok(())
}

fn execution_after_copy_up(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("echo", std::fs::read("/bin/echo")?)
        .mode(0o600);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::chmod(u.at("echo"), 0o755)?;
    let output = Command::new(u.at("echo")).arg("copied").output()?;
    assert_eq!(output.stdout, b"copied\n");
    sys::rename(u.at("echo"), u.at("moved"))?;
    assert!(Command::new(u.at("moved")).output()?.status.success());
    Ok(())
}

fn running_program_cannot_be_written(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("sleep", std::fs::read("/bin/sleep")?)
        .mode(0o755);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let mut child = Command::new(u.at("sleep")).arg("1000").spawn()?;
    let tries = [
        sys::open_rw(u.at("sleep")).map(drop),
        sys::open(u.at("sleep"), OFlags::TRUNC | OFlags::WRONLY).map(drop),
        sys::truncate(u.at("sleep"), 0),
    ];
    let replaced =
        sys::write(u.at("new"), "").and_then(|()| sys::rename(u.at("new"), u.at("sleep")));
    child.kill()?;
    child.wait()?;
    for result in tries {
        errno(result, Errno::TXTBSY);
    }
    replaced?;
    assert_eq!(
        text(u.at("sleep"))?,
        "",
        "but its name can be given to another file"
    );
    Ok(())
}

fn open_for_write_cannot_be_run(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("echo", std::fs::read("/bin/echo")?)
        .mode(0o755);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let fd = sys::open_rw(u.at("echo"))?;
    let refused = Command::new(u.at("echo"))
        .output()
        .expect_err("it is open for writing");
    assert_eq!(refused.raw_os_error(), Some(libc::ETXTBSY));
    drop(fd);
    assert!(Command::new(u.at("echo")).output()?.status.success());
    Ok(())
}
