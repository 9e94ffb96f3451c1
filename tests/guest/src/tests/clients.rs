// SPDX-License-Identifier: GPL-2.0

//! What real programs do with a file system called `aufs`, command for command: live systems with
//! busybox's mount(2), initramfs scripts with util-linux, container engines with option strings of
//! their own. The outcomes are those of aufs, or better.

use std::{path::PathBuf, process::Command};

use rustix::mount::{MountFlags, UnmountFlags};

use crate::harness::{
    prelude::*,
    scratch,
    union::{mounts_line, remount2},
};

cases! {
    ONCE: detection, slax, slax_module_builder, porteus, puppy, puppy_sandbox, overlayroot,
        live_boot, bilibop, schroot, docker_probe, docker_many_layers, docker_read_only_in_the_string,
        containerd_views, lxc, oci_layers_of_others;
}

/// Runs a script of busybox's shell, each command of which must succeed, in an empty directory.
struct Shell {
    dir: PathBuf,
}

impl Shell {
    /// In a tmpfs: what the scripts mount goes with it.
    fn new(cx: &Ctx) -> Result<Self> {
        let dir = cx.mount_point()?;
        scratch::mount("clients", "tmpfs", &dir, "")?;
        Ok(Self { dir })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The output. `$D` is the directory; `si` prints the directory in sysfs of the union on `$1`.
    fn run(&self, script: &str) -> Result<String> {
        const PRELUDE: &str = r#"
            fail() { echo "failed: $*" >&2; exit 1; }
            si() {
                n=$(sed -n "s|^[^ ]* $1 aufs [^ ]*si=\([0-9a-f]*\).*|\1|p" /proc/mounts | tail -n 1)
                [ -n "$n" ] || fail "no si= of $1"
                echo "/sys/fs/aufs/si_$n"
            }
            branches() { d=$(si "$1"); for f in $(ls -v "$d" | grep '^br[0-9]'); do cat "$d/$f"; done; }
            refused() { ! "$@" 2>/dev/null || fail "should have been refused: $*"; }
        "#;
        let out = Command::new("busybox")
            .args(["sh", "-euc", &format!("{PRELUDE}\n{script}")])
            .env("D", &self.dir)
            .current_dir(&self.dir)
            .output()?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        anyhow::ensure!(
            out.status.success(),
            "{}\n{text}{}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        );
        Ok(text)
    }

    /// Lets go of all mounts below at once, as a shutdown does: a union and a branch that was moved
    /// into it hold each other. What stays in use is found by the use count of the module.
    fn end(self) -> Result<()> {
        rustix::mount::unmount(&self.dir, UnmountFlags::DETACH)?;
        Ok(())
    }
}

impl Drop for Shell {
    /// After a failure: nothing may stay in the way of the tests that follow.
    fn drop(&mut self) {
        while rustix::mount::unmount(&self.dir, UnmountFlags::DETACH).is_ok() {}
    }
}

fn detection(_: &Ctx) -> Result<()> {
    scratch::run("modprobe", &["aufs"])?;
    let known = std::fs::read_to_string("/proc/filesystems")?;
    let types: Vec<_> = known.lines().filter_map(|l| l.split('\t').nth(1)).collect();
    assert!(
        types.contains(&"aufs") && types.contains(&"ruaufs"),
        "{types:?}"
    );
    let config = text("/sys/fs/aufs/config")?;
    assert!(config.contains("CONFIG_AUFS_"), "{config}");
    assert_eq!(text("/sys/module/aufs/parameters/brs")?, "1\n");
    Ok(())
}

fn slax(cx: &Ctx) -> Result<()> {
    let sh = Shell::new(cx)?;
    let said = sh.run(
        r#"
        mkdir -p memory/changes memory/union memory/bundles a b
        echo base >a/f1; echo base >a/f2; mkdir -p a/d; echo x >a/d/x
        echo later >b/f2; echo only >b/only
        mksquashfs a 01-a.sb -noappend -quiet >/dev/null; mksquashfs b 02-b.sb -noappend -quiet >/dev/null
        grep -q aufs /proc/filesystems
        U=$D/memory/union
        busybox mount -t aufs -o xino=/.xino,trunc_xino,br=$D/memory/changes aufs $U
        for n in 01-a 02-b; do
            mkdir memory/bundles/$n.sb
            busybox mount -o loop,ro -t squashfs $n.sb $D/memory/bundles/$n.sb
            busybox mount -o remount,add:1:$D/memory/bundles/$n.sb=rr+wh aufs $U
        done
        branches $U
        cat $U/f2
        mkdir $U/dev; mknod $U/dev/console c 5 1
        rm $U/f1; rm -r $U/d
        ls -A memory/changes
        busybox mount -n -o remount,ro aufs $U; refused touch $U/x
        busybox mount -n -o remount,rw aufs $U; touch $U/x
        # `slax deactivate` while a file is open, then when it is not.
        exec 3<$U/only
        refused busybox mount -t aufs -o remount,verbose,del:$D/memory/bundles/02-b.sb aufs $U
        exec 3<&-
        busybox mount -t aufs -o remount,verbose,del:$D/memory/bundles/02-b.sb aufs $U
        umount $D/memory/bundles/02-b.sb
        grep " $U aufs " /proc/mounts | grep -q verbose
        cat $U/f2
        busybox mount -t aufs -o remount,del:$D/memory/bundles/02-b.sb aufs $U
        "#,
    )?;
    let at = |name: &str, perm: &str| format!("{}={perm}\n", sh.path(name).display());
    let wanted = [
        &*at("memory/changes", "rw"),
        &at("memory/bundles/02-b.sb", "rr+wh"),
        &at("memory/bundles/01-a.sb", "rr+wh"),
        "later\n",
        ".wh..wh.aufs\n.wh..wh.orph\n.wh..wh.plnk\n.wh.d\n.wh.f1\ndev\n",
        "base\n",
    ];
    assert_eq!(said, wanted.concat());
    sh.end()
}

fn slax_module_builder(cx: &Ctx) -> Result<()> {
    let sh = Shell::new(cx)?;
    let said = sh.run(
        r#"
        mkdir one two U; echo 1 >one/f
        mount -t aufs -o xino=$D/.xino,br=$D/one aufs $D/U
        mount -o remount,add:0:$D/two aufs $D/U
        mount -o remount,mod:$D/one=ro aufs $D/U
        echo 2 >>U/f; branches $D/U
        mkdir U/proc; mount -o bind /proc $D/U/proc
        mount -o remount,mod:$D/one=rw aufs $D/U
        umount $D/U/proc
        mount -o remount,del:$D/two aufs $D/U
        cat U/f two/f; branches $D/U
        "#,
    )?;
    let d = sh.dir.display();
    assert_eq!(
        said,
        format!("{d}/two=rw\n{d}/one=ro\n1\n1\n2\n{d}/one=rw\n")
    );
    sh.end()
}

fn porteus(cx: &Ctx) -> Result<()> {
    let sh = Shell::new(cx)?;
    let said = sh.run(
        r#"
        mkdir -p memory/changes memory/images/a memory/images/b memory/images/c memory/xino union
        for n in a b c; do echo $n >memory/images/$n/f; echo $n >memory/images/$n/$n; done
        U=$D/union; I=$D/memory/images
        busybox mount -nt aufs -o nowarn_perm,xino=$D/memory/xino/.aufs.xino,br:$D/memory/changes=rw,udba=reval aufs $U
        busybox mount -no remount,add:1:$I/a=rr aufs $U
        busybox mount -no remount,add:1:$I/b=rr aufs $U
        busybox mount -t aufs -o remount,dirperm1,add=1:$I/c=rr aufs $U
        cat $U/f; branches $U
        mount -t aufs -o remount,del=$I/b $U
        busybox mount -no remount,del:$I/c aufs $U
        ls $U; cat $U/f
        grep -o " - aufs aufs rw.*" /proc/self/mountinfo | sed 's/si=[0-9a-f]*/si=N/'
        "#,
    )?;
    let d = sh.dir.display();
    let images = format!("{d}/memory/images");
    let wanted = [
        "c\n",
        &format!("{d}/memory/changes=rw\n{images}/c=rr\n{images}/b=rr\n{images}/a=rr\n"),
        "a\nf\na\n",
        " - aufs aufs rw,si=N,dirperm1,nowarn_perm\n",
    ];
    assert_eq!(said, wanted.concat());
    sh.end()
}

fn puppy(cx: &Ctx) -> Result<()> {
    let sh = Shell::new(cx)?;
    let said = sh.run(
        r#"
        mkdir -p tmpfs/pup_rw save sfs1 sfs2 sfs3 pup_new
        for n in 1 2 3; do echo $n >sfs$n/s$n; echo $n >sfs$n/f; done; echo saved >save/saved
        U=$D/pup_new
        busybox mount -t aufs -o udba=reval,diropq=w,br=$D/tmpfs/pup_rw=rw,xino=$D/tmpfs/.aufs.xino unionfs $U
        busybox mount -o remount,append:$D/sfs1=rr $U
        busybox mount -o remount,append:$D/sfs2=rr $U
        busybox mount -o remount,add:1:$D/sfs3=rr $U
        branches $U; cat $U/f
        echo tmp >$U/tmp
        exec 3<$U/s1
        busybox mount -t aufs -o remount,prepend:$D/save=rw,mod:$D/tmpfs/pup_rw=ro,del:$D/tmpfs/pup_rw $U
        cat <&3; exec 3<&-
        ls $U
        # Tools edit the branch and rely on udba=reval.
        rm $U/f; [ -e save/.wh.f ]; refused [ -e $U/f ]
        echo direct >save/direct; cat $U/direct
        busybox mount -o remount,udba=reval $U
        cut -d= -f1 "$(si $U)/br0"
        busybox mount -o remount,noxino,ro $U
        grep " $U aufs " /proc/mounts | sed 's/.* aufs //; s/si=[0-9a-f]*/si=N/'
        cat "$(si $U)/xi_path"
        busybox mount -o remount,del:$D/save $U
        branches $U
        "#,
    )?;
    let d = sh.dir.display();
    let lower = format!("{d}/sfs3=rr\n{d}/sfs1=rr\n{d}/sfs2=rr\n");
    let wanted = [
        &*format!("{d}/tmpfs/pup_rw=rw\n{lower}3\n"),
        "1\nf\ns1\ns2\ns3\nsaved\ndirect\n",
        &format!("{d}/save\n"),
        "ro,relatime,si=N,noxino 0 0\n\n",
        &lower,
    ];
    assert_eq!(said, wanted.concat());
    sh.end()
}

fn puppy_sandbox(cx: &Ctx) -> Result<()> {
    let sh = Shell::new(cx)?;
    let said = sh.run(
        r#"
        mkdir -p rw a b root box scratch; echo a >a/a; echo b >b/b
        busybox mount -t aufs -o br=$D/rw=rw:$D/a=ro:$D/b=ro aufs $D/root
        # A second union over branches that the first one uses.
        mount -t tmpfs none $D/scratch
        busybox mount -t aufs -o br:$D/scratch=rw:$D/a=ro:$D/b=ro aufs $D/box
        echo +>>box/a; cat root/a box/a; ls scratch
        mkdir box/bin; cp /bin/busybox box/bin/
        busybox chroot $D/box /bin/busybox cat /b
        [ "$(si $D/root)" != "$(si $D/box)" ]
        "#,
    )?;
    assert_eq!(said, "a\na\n+\na\nb\n");
    sh.end()
}

fn overlayroot(cx: &Ctx) -> Result<()> {
    let sh = Shell::new(cx)?;
    let said = sh.run(
        r#"
        mkdir -p root media/root-rw media/root-ro
        mount -t tmpfs root $D/root
        mkdir -p root/media/root-rw root/media/root-ro root/etc; echo host >root/etc/hostname
        mount -t tmpfs tmpfs-root $D/media/root-rw
        mkdir media/root-rw/overlay
        mount --make-private $D
        mount --move $D/root $D/media/root-ro
        mount -t aufs -o dirs=$D/media/root-rw//overlay:$D/media/root-ro=ro aufs-root $D/root
        mount --move $D/media/root-ro $D/root/media/root-ro
        mount --move $D/media/root-rw $D/root/media/root-rw
        branches $D/root
        echo new >root/etc/hostname; cat root/media/root-ro/etc/hostname root/media/root-rw/overlay/etc/hostname
        mount -o remount,ro $D/root
        grep " $D/root aufs " /proc/mounts | sed 's/ .*aufs ro.*/ ro/'
        refused touch $D/root/x
        "#,
    )?;
    let d = sh.dir.display();
    let wanted = format!(
        "{d}/root/media/root-rw/overlay=rw\n{d}/root/media/root-ro=ro\nhost\nnew\naufs-root ro\n"
    );
    assert_eq!(said, wanted);
    sh.end()
}

fn live_boot(cx: &Ctx) -> Result<()> {
    let sh = Shell::new(cx)?;
    let said = sh.run(
        r#"
        mkdir -p fs/bin fs/etc fs/run root run; echo conf >fs/etc/conf; cp /bin/busybox fs/bin/
        mksquashfs fs filesystem.squashfs -noappend -quiet >/dev/null
        mount --make-private $D
        mount -t tmpfs run $D/run
        mkdir -p run/live/overlay run/live/rootfs/filesystem.squashfs
        mount -o loop,ro -t squashfs filesystem.squashfs $D/run/live/rootfs/filesystem.squashfs
        mount -t tmpfs -o noatime,mode=755 tmpfs $D/run/live/overlay
        mount -t aufs -o noatime,noxino,dirs=$D/run/live/overlay=rw:$D/run/live/rootfs/filesystem.squashfs/=rr+wh aufs $D/root
        mount --move $D/run $D/root/run
        rm root/etc/conf; ls -A root/run/live/overlay/etc
        busybox chroot $D/root /bin/busybox sh -c 'echo ran; cat /run/live/overlay/etc/.wh.conf; [ ! -e /etc/conf ]'
        branches $D/root
        grep " $D/root aufs " /proc/mounts | sed 's/.* aufs //; s/si=[0-9a-f]*/si=N/'
        [ "$(df -P $D/root | awk 'NR == 2 { print $2 }')" = "$(df -P $D/root/run/live/overlay | awk 'NR == 2 { print $2 }')" ]
        "#,
    )?;
    let d = sh.dir.display();
    let wanted = [
        ".wh.conf\nran\n",
        &format!("{d}/root/run/live/overlay=rw\n"),
        &format!("{d}/root/run/live/rootfs/filesystem.squashfs=rr+wh\n"),
        "rw,noatime,si=N,noxino 0 0\n",
    ];
    assert_eq!(said, wanted.concat());
    sh.end()
}

fn bilibop(cx: &Ctx) -> Result<()> {
    let sh = Shell::new(cx)?;
    let said = sh.run(
        r#"
        mkdir -p root aufs/rw aufs/ro tmp/union
        mount --make-private $D
        modprobe aufs; grep -q '	aufs$' /proc/filesystems
        mount -t tmpfs root $D/root; mkdir -p root/aufs/rw root/aufs/ro; echo f >root/f
        mount -t tmpfs -o mode=0755 tmpfs $D/aufs/rw
        mount -o bind $D/root $D/aufs/ro
        mount -t aufs -o br:$D/aufs/rw=rw:$D/aufs/ro=rr aufs $D/tmp/union
        umount $D/root
        mount -o move $D/tmp/union $D/root
        mount -o move $D/aufs/ro $D/root/aufs/ro
        mount -o move $D/aufs/rw $D/root/aufs/rw
        branches $D/root; cat root/f
        grep -lE '=r[or](\+wh)?$' "$(si $D/root)"/br? | wc -l
        grep -lE '=rw(\+nolwh)?$' "$(si $D/root)"/br? | wc -l
        # mount.lockfs: a branch below another union's branch.
        mkdir -p root/aufs/rw/home root/home
        mount -t aufs -o ro,br:$D/root/aufs/rw/home=rw:$D/root/aufs/ro/aufs=ro home $D/root/home
        refused touch $D/root/home/x
        umount $D/root/home
        "#,
    )?;
    let d = sh.dir.display();
    assert_eq!(
        said,
        format!("{d}/root/aufs/rw=rw\n{d}/root/aufs/ro=rr\nf\n1\n1\n")
    );
    sh.end()
}

fn schroot(cx: &Ctx) -> Result<()> {
    let sh = Shell::new(cx)?;
    let said = sh.run(
        r#"
        S=t-0f4cd7c2-3f1e-4b1c-9a39-4b8e0c9d1f55
        mkdir -p srv/etc union/overlay/$S union/underlay/$S mnt/$S; echo h >srv/etc/hosts
        mount --bind $D/srv $D/union/underlay/$S
        mount --make-private $D/union/underlay/$S
        mount -t aufs -o br:$D/union/overlay/$S:$D/union/underlay/$S=ro t $D/mnt/$S
        mkdir mnt/$S/proc; mount -t proc proc $D/mnt/$S/proc
        touch mnt/$S/new; rm mnt/$S/etc/hosts
        grep " $D/mnt/$S aufs " /proc/mounts | cut -d' ' -f1
        ls -A union/overlay/$S/etc; cat srv/etc/hosts
        umount $D/mnt/$S/proc; umount $D/mnt/$S
        rm -r union/overlay/$S; umount $D/union/underlay/$S; rmdir union/underlay/$S
        ls -A union/overlay union/underlay srv
        "#,
    )?;
    assert_eq!(
        said,
        "t\n.wh.hosts\nh\nsrv:\netc\n\nunion/overlay:\n\nunion/underlay:\n"
    );
    sh.end()
}

/// mount(2) as the Go programs call it.
fn go_mount(target: &std::path::Path, flags: MountFlags, data: &str) -> Result<()> {
    let data = std::ffi::CString::new(data)?;
    rustix::mount::mount("none", target, "aufs", flags, data.as_c_str())
        .with_context(|| format!("mount(2) with {data:?}"))
}

fn docker_probe(cx: &Ctx) -> Result<()> {
    let base = cx.branch(Kind::Ext4, "rw", &Tree::new())?;
    let mnt = cx.mount_point()?;
    for _ in 0..2 {
        let data = format!("br:{},dirperm1,xino=/dev/shm/aufs.xino", base.display());
        go_mount(&mnt, MountFlags::empty(), &data)?;
        let stat = rustix::fs::statfs(&mnt)?;
        assert_eq!(stat.f_type as u64, 0x6175_6673);
        assert_eq!(stat.f_namelen, 242);
        scratch::umount(&mnt)?;
    }
    assert!(!sys::exists("/dev/shm/aufs.xino"));
    Ok(())
}

fn docker_many_layers(cx: &Ctx) -> Result<()> {
    const LAYERS: usize = 60;
    let mnt = cx.mount_point()?;
    let base = cx.dir(Kind::Ext4)?;
    let id = |n: usize| base.join(format!("{n:0>64}"));
    let mut made = Vec::new();
    for n in 0..=LAYERS {
        sys::mkdir(id(n))?;
        let tree = Tree::new()
            .file(&format!("f{n}"), n.to_string())
            .file("same", n.to_string())
            .whiteout(&format!("f{}", n + 1));
        if n > 0 {
            tree.build(&id(n))?;
        }
        made.push(id(n));
    }
    // What fits into a page with the options that follow; the rest comes by remounts.
    let mut data = format!("br:{}=rw", id(0).display());
    let mut n = 1;
    while n <= LAYERS && data.len() + 200 < 4096 {
        data += &format!(":{}=ro+wh", id(n).display());
        n += 1;
    }
    anyhow::ensure!(n <= LAYERS, "too few layers to need a remount");
    data += ",dio,xino=/dev/shm/aufs.xino,dirperm1";
    go_mount(&mnt, MountFlags::empty(), &data)?;
    let mut data = String::new();
    for n in n..=LAYERS {
        let item = format!("append:{}=ro+wh,", id(n).display());
        if data.len() + item.len() > 4000 {
            remount2(&mnt, MountFlags::empty(), &data)?;
            data.clear();
        }
        data += &item;
    }
    remount2(&mnt, MountFlags::empty(), &data)?;
    // As the runtime does: private, bound onto itself, then entered.
    rustix::mount::mount_change(&mnt, rustix::mount::MountPropagationFlags::PRIVATE)?;
    let line = mounts_line(&mnt)?;
    assert_eq!(line[2], "aufs");
    let shown: Vec<_> = line[3]
        .split(',')
        .filter(|o| !o.starts_with("si="))
        .collect();
    assert_eq!(shown, ["rw", "relatime", "dirperm1"]);
    // Each layer's whiteout hides the file of the next.
    assert_eq!(names(&mnt)?, set(["f1", "same"]));
    assert_eq!(text(mnt.join("same"))?, "1");
    sys::append(mnt.join("same"), "+")?;
    sys::unlink(mnt.join("f1"))?;
    sys::mkdir(mnt.join("op"))?;
    // The engine reads the branch while the union is mounted.
    let upper = names(id(0))?;
    let wanted = [
        ".wh..wh.aufs",
        ".wh..wh.orph",
        ".wh..wh.plnk",
        ".wh.f1",
        "op",
        "same",
    ];
    assert_eq!(upper, set(wanted));
    assert_eq!(text(id(0).join("same"))?, "1+");
    scratch::umount(&mnt)?;
    // Removal renames first.
    for dir in made {
        let removing = dir.with_extension("removing");
        sys::rename(&dir, &removing)?;
        std::fs::remove_dir_all(removing)?;
    }
    Ok(())
}

/// containers/storage puts the caller's `ro` into the string; original aufs refuses that.
fn docker_read_only_in_the_string(cx: &Ctx) -> Result<()> {
    let kind = Kind::Ext4;
    let rw = cx.branch(kind, "rw", &Tree::new())?;
    let lower = cx.branch(kind, "ro", &Tree::new().file("f", "f"))?;
    let mnt = cx.mount_point()?;
    let data = format!(
        "br:{}=rw:{}=ro+wh,dio,xino=/dev/shm/aufs.xino,ro,dirperm1",
        rw.display(),
        lower.display()
    );
    go_mount(&mnt, MountFlags::empty(), &data)?;
    assert_eq!(text(mnt.join("f"))?, "f");
    errno(sys::create(mnt.join("n")), Errno::ROFS);
    scratch::umount(&mnt)
}

fn containerd_views(cx: &Ctx) -> Result<()> {
    let kind = Kind::Ext4;
    let six = cx.branch(kind, "rw", &Tree::new())?;
    let five = cx.branch(
        kind,
        "ro",
        &Tree::new().file("etc/passwd", "p").whiteout("gone"),
    )?;
    let four = cx.branch(
        kind,
        "ro",
        &Tree::new().file("gone", "g").file("bin/sh", "s"),
    )?;
    let (mnt, other) = (cx.mount_point()?, cx.mount_point()?);
    // `br:` comes last.
    let data = format!(
        "dio,xino=/dev/shm/aufs.xino,dirperm1,br:{}=rw:{}=ro+wh:{}=ro+wh",
        six.display(),
        five.display(),
        four.display()
    );
    // Read-only first, to read user names, though its first branch is rw.
    go_mount(&mnt, MountFlags::RDONLY, &data)?;
    assert_eq!(text(mnt.join("etc/passwd"))?, "p");
    errno(sys::create(mnt.join("n")), Errno::ROFS);
    scratch::umount(&mnt)?;
    go_mount(&mnt, MountFlags::empty(), &data)?;
    sys::write(mnt.join("etc/passwd"), "changed")?;
    sys::unlink(mnt.join("bin/sh"))?;
    // A view has no writable branch; both are compared by walking.
    let data = format!(
        "dio,xino=/dev/shm/aufs.xino,dirperm1,br:{}=ro+wh:{}=ro+wh",
        five.display(),
        four.display()
    );
    go_mount(&other, MountFlags::empty(), &data)?;
    assert_eq!(names(&other)?, set(["etc", "bin"]));
    errno(sys::create(other.join("n")), Errno::ROFS);
    assert_eq!(text(other.join("etc/passwd"))?, "p");
    assert_eq!(text(mnt.join("etc/passwd"))?, "changed");
    assert_eq!(names(six.join("bin"))?, set([".wh.sh"]));
    scratch::umount(&other)?;
    scratch::umount(&mnt)
}

fn lxc(cx: &Ctx) -> Result<()> {
    let kind = Kind::Tmpfs;
    let upper = cx.branch(kind, "rw", &Tree::new())?;
    let lower = cx.branch(kind, "ro", &Tree::new().file("f", "f"))?;
    let mnt = cx.mount_point()?;
    let data = std::ffi::CString::new(format!(
        "br={}=rw:{}=ro,xino=/dev/shm/aufs.xino",
        upper.display(),
        lower.display()
    ))?;
    // MS_MGC_VAL, as old programs add it; the source is the lower directory.
    let flags = MountFlags::from_bits_retain(0xC0ED_0000);
    rustix::mount::mount(&lower, &mnt, "aufs", flags, data.as_c_str())?;
    assert_eq!(mounts_line(&mnt)?[0], lower.display().to_string());
    sys::append(mnt.join("f"), "+")?;
    assert_eq!(text(upper.join("f"))?, "f+");
    scratch::umount(&mnt)
}

/// Whiteouts of any mode and owner, as other programs unpack them.
fn oci_layers_of_others(cx: &Ctx) -> Result<()> {
    let kind = Kind::Ext4;
    let base = Tree::new()
        .files("n", 3)
        .file("d/x", "x")
        .file("keep/y", "y")
        .file("replaced/old", "old");
    let base = cx.branch(kind, "ro", &base)?;
    let layer = Tree::new()
        .file(".wh.n0", "")
        .mode(0o644)
        .file(".wh.n1", "")
        .mode(0)
        .owner(1000, 1000)
        .file(".wh.n2", "not empty")
        .file(".wh.d", "")
        .file("replaced/.wh..wh..opq", "")
        .mode(0o600)
        .file("replaced/new", "new")
        .file("keep/.wh.y", "")
        .file("keep/y", "beside its whiteout");
    let layer = cx.branch(kind, "ro", &layer)?;
    let rw = cx.branch(kind, "rw", &Tree::new())?;
    let u = cx
        .union()
        .at(&rw, "rw")
        .at(&layer, "ro+wh")
        .at(&base, "ro+wh")
        .fstype("aufs")
        .mount()?;
    assert_eq!(names(u.root())?, set(["keep", "replaced"]));
    assert_eq!(names(u.at("replaced"))?, set(["new"]));
    assert_eq!(text(u.at("keep/y"))?, "beside its whiteout");
    errno(sys::create(u.at(".wh.z")), Errno::PERM);
    u.umount()
}
