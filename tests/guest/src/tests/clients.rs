// SPDX-License-Identifier: GPL-2.0

//! What real programs do with a file system called `aufs`, command for command: live systems with
//! busybox's mount(2), initramfs scripts with util-linux. The outcomes are those of aufs, or better.

use std::{path::PathBuf, process::Command};

use rustix::mount::UnmountFlags;

use crate::harness::{prelude::*, scratch};

cases! {
    ONCE: detection, slax, slax_module_builder, porteus, puppy, puppy_sandbox, overlayroot,
        live_boot, bilibop, schroot, others, as_the_root, displayed_options_come_back;
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
        busybox mount -o remount,udba=notify $U; busybox mount -o remount,udba=reval $U
        busybox mount -o remount,noxino,noplink,ro $U
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
        "ro,relatime,si=N,noxino,noplink 0 0\n\n",
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

/// What dracut, genkernel and the firmware of storage boxes do.
fn others(cx: &Ctx) -> Result<()> {
    let sh = Shell::new(cx)?;
    let said = sh.run(
        r#"
        mkdir cow image u; echo i >image/i
        mount -t aufs -o noatime,noxino,dirs=$D/cow=rw:$D/image=rr dracut $D/u
        echo +>>u/i; cat cow/i image/i; branches $D/u
        grep " $D/u aufs " /proc/mounts | sed 's/.* aufs //; s/si=[0-9a-f]*/si=N/'
        # The branches move into the union.
        mkdir rw ro mnt root; mount --make-private $D
        for n in rw ro mnt; do mount -t tmpfs $n $D/$n; done
        mkdir -p ro/mnt/rw ro/mnt/ro; echo r >ro/f
        mount -t aufs -o dirs=$D/rw=rw:$D/ro=ro:$D/mnt=ro aufs $D/root
        mount -o move $D/rw $D/root/mnt/rw
        mount -o move $D/ro $D/root/mnt/ro
        cat root/f; branches $D/root | cut -d= -f2
        # A package that becomes the new top, and two options `-o`.
        mkdir package; echo p >package/i
        mount -t aufs -o remount,prepend:$D/package=rw $D/u
        cat u/i
        umount $D/u
        mount -t aufs -o noxino -o br:$D/cow=rw:$D/image=ro none $D/u
        branches $D/u
        umount $D/u
        "#,
    )?;
    let d = sh.dir.display();
    let wanted = [
        "i\n+\ni\n",
        &format!("{d}/cow=rw\n{d}/image=rr\n"),
        "rw,noatime,si=N,noxino 0 0\n",
        "r\nrw\nro\nro\n",
        "p\n",
        &format!("{d}/cow=rw\n{d}/image=ro\n"),
    ];
    assert_eq!(said, wanted.concat());
    sh.end()
}

/// A union becomes the root directory, as for a live system and a container.
fn as_the_root(cx: &Ctx) -> Result<()> {
    let sh = Shell::new(cx)?;
    let said = sh.run(
        r#"
        mkdir -p low/bin low/proc low/old up u; cp /bin/busybox low/bin/
        mount -t aufs -o br:$D/up=rw:$D/low=ro+wh,dirperm1 none $D/u
        mount --make-private $D/u
        unshare -m /bin/busybox sh -euc '
            busybox mount --make-rprivate /
            busybox mount -o bind $D/u $D/u; cd $D/u
            busybox pivot_root . old
            exec /bin/busybox chroot . /bin/busybox sh -euc "
                b=/bin/busybox; \$b mount -t proc proc /proc; \$b umount -l /old
                \$b mknod /null c 1 3; echo gone >/null
                \$b cp \$b /bin/sh; /bin/sh -c \"echo runs\"; \$b rmdir /old
                \$b grep \" / aufs \" /proc/mounts | \$b cut -d\" \" -f1,2,3"
        '
        ls -A up | grep -v '^\.wh\.\.wh\.'; ls up/bin; umount $D/u
        "#,
    )?;
    assert_eq!(said, "runs\nnone / aufs\n.wh.old\nbin\nnull\nsh\n");
    sh.end()
}

/// mount(8) gives a remount all that `/proc/mounts` shows, and a new mount may be given it.
fn displayed_options_come_back(cx: &Ctx) -> Result<()> {
    let sh = Shell::new(cx)?;
    let said = sh.run(
        r#"
        mkdir rw ro u
        shown() { grep " $D/u $1 " /proc/mounts | cut -d' ' -f4 | sed 's/si=[0-9a-f]*/si=N/'; }
        for type in aufs ruaufs; do
            O=noxino,trunc_xino,udba=notify,noplink,dirperm1,create=mfs:60,cpup=bu,diropq=a,dirwh=7
            O=$O,rdcache=5,rdblk=1024,rdhash=64,dirren,sum,nowarn_perm,verbose,acl,shwh
            mount -t $type -o $O,br=$D/rw=rw:$D/ro=ro none $D/u
            before=$(shown $type); echo "$before" | sed "s|,br=.*||"
            mount -o remount,ro $D/u; mount -o remount,rw $D/u
            [ "$(shown $type)" = "$before" ]
            again=$(grep " $D/u $type " /proc/mounts | cut -d' ' -f4)
            busybox mount -o remount,"$again" $D/u
            [ "$(shown $type)" = "$before" ]
            umount $D/u
            case $again in *br=*) ;; *) again=$again,br=$D/rw=rw:$D/ro=ro ;; esac
            busybox mount -t $type -o "$again" none $D/u
            [ "$(shown $type)" = "$before" ]
            umount $D/u
        done
        "#,
    )?;
    let wanted = "rw,relatime,acl,si=N,noxino,trunc_xino,udba=notify,shwh,noplink,dirperm1,\
        create=mfs:60,cpup=bu,diropq=a,dirwh=7,rdcache=5,rdblk=1024,rdhash=64,dirren,sum,\
        nowarn_perm,verbose\n";
    assert_eq!(said, wanted.repeat(2));
    sh.end()
}
