// SPDX-License-Identifier: GPL-2.0
/* Inodes: what ours copy from those of branches, and their locks.  See helpers.h. */

#include <linux/fs.h> /* fileattr.h wants it first. */
#include <linux/exportfs.h>
#include <linux/fileattr.h>
#include <linux/fsnotify.h>
#include <linux/mount.h>
#include <linux/pagemap.h>
#include <linux/slab.h>

#include "../helpers.h"

/*
 * The mark by which overlayfs knows a directory that another mount writes, as
 * its upper or work directory.  Whether it was not there yet.
 */
bool ruaufs_helper_set_in_use(struct inode *inode)
{
	bool set;

	spin_lock(&inode->i_lock);
	set = !(inode_state_read(inode) & I_OVL_INUSE);
	inode_state_set(inode, I_OVL_INUSE);
	spin_unlock(&inode->i_lock);
	return set;
}

void ruaufs_helper_clear_in_use(struct inode *inode)
{
	spin_lock(&inode->i_lock);
	inode_state_clear(inode, I_OVL_INUSE);
	spin_unlock(&inode->i_lock);
}

unsigned int ruaufs_helper_icount(struct inode *inode)
{
	return icount_read_once(inode);
}

int ruaufs_helper_add_inode_mark(struct fsnotify_mark *mark,
				 struct inode *inode)
{
	return fsnotify_add_inode_mark(mark, inode, 0);
}

bool ruaufs_helper_is_mapped_writably(struct inode *inode)
{
	return mapping_writably_mapped(inode->i_mapping);
}

void ruaufs_helper_inode_lock(struct inode *inode)
{
	inode_lock(inode);
}

int ruaufs_helper_inode_lock_killable(struct inode *inode)
{
	return inode_lock_killable(inode);
}

void ruaufs_helper_assert_locked(struct inode *inode)
{
	lockdep_assert_held_write(&inode->i_rwsem);
}

void ruaufs_helper_inode_unlock(struct inode *inode)
{
	inode_unlock(inode);
}

bool ruaufs_helper_inode_is_new(struct inode *inode)
{
	return inode_state_read_once(inode) & I_NEW;
}

loff_t ruaufs_helper_i_size_read(const struct inode *inode)
{
	return i_size_read(inode);
}

/*
 * Owner and times of @from, through its mount's idmap, onto our inode.
 *
 * Ours gets the mark that the VFS sets on times which were seen if the next
 * change of @from might have the same change time, or if @changed: @from was
 * changed by us, and what others may have changed before is not copied.  The
 * mark has no other use here, as our file systems are not FS_MGTIME.  So ours
 * differs from all times that @from can have, until ruaufs_helper_confirm_attr()
 * or the next copy.
 */
void ruaufs_helper_copy_attr(struct inode *to, struct inode *from,
			     struct mnt_idmap *from_idmap, bool changed)
{
	/* Before all else: what changes meanwhile moves it. */
	u32 nsec = smp_load_acquire(&from->i_ctime_nsec);
	struct timespec64 ctime = {
		.tv_sec = inode_get_ctime_sec(from),
		.tv_nsec = nsec & ~I_CTIME_QUERIED,
	};
	bool doubt = changed;
	umode_t mode;

	/* Coarse times that cannot be marked are taken as they are. */
	if (!doubt && is_mgtime(from) && !(nsec & I_CTIME_QUERIED)) {
		struct timespec64 now = current_time(from);

		doubt = timespec64_compare(&now, &ctime) <= 0;
	}

	spin_lock(&to->i_lock);
	to->i_uid = vfsuid_into_kuid(i_uid_into_vfsuid(from_idmap, from));
	to->i_gid = vfsgid_into_kgid(i_gid_into_vfsgid(from_idmap, from));
	mode = (to->i_mode & S_IFMT) | (from->i_mode & ~S_IFMT);
	if (to->i_mode != mode)
		inode_set_flags(to, 0, S_NOSEC);
	/* The operations of @to are those of its type, which stays. */
	to->i_mode = mode;
	inode_set_atime_to_ts(to, inode_get_atime(from));
	inode_set_mtime_to_ts(to, inode_get_mtime(from));
	inode_set_ctime_to_ts(to, ctime);
	if (doubt)
		WRITE_ONCE(to->i_ctime_nsec, ctime.tv_nsec | I_CTIME_QUERIED);
	/* Owners cannot be compared then. */
	to->i_private = from_idmap == &nop_mnt_idmap ? NULL : from_idmap;
	to->i_blocks = from->i_blocks;
	to->i_bytes = from->i_bytes;
	i_size_write(to, i_size_read(from));
	spin_unlock(&to->i_lock);
}

/* Sets the link count, unless that would revive an object without names. */
bool ruaufs_helper_set_nlink(struct inode *inode, unsigned int nlink,
			     bool revive)
{
	bool set;

	spin_lock(&inode->i_lock);
	set = revive || inode->i_nlink;
	if (set && inode->i_nlink != nlink)
		set_nlink(inode, nlink);
	spin_unlock(&inode->i_lock);
	return set;
}

/* Capabilities may have come: the next write looks. */
void ruaufs_helper_forget_nosec(struct inode *inode)
{
	inode_set_flags(inode, 0, S_NOSEC);
}

/*
 * Flags that forbid changes of a branch's directory, lifted in memory while the
 * union puts a name of its own making there; what is on disk keeps them.  They
 * wait in bits that the VFS does not use, so one access shows both.
 */
#define RUAUFS_FORBID (S_IMMUTABLE | S_APPEND)
#define RUAUFS_LIFT_SHIFT 28
#define RUAUFS_LIFTED ((unsigned int)RUAUFS_FORBID << RUAUFS_LIFT_SHIFT)
static_assert((RUAUFS_LIFTED >> RUAUFS_LIFT_SHIFT) == RUAUFS_FORBID);
static_assert(RUAUFS_LIFTED > S_ANON_INODE);

/* The flags of @inode, lifted or not. */
static unsigned int flags_of(const struct inode *inode)
{
	const unsigned int flags = READ_ONCE(inode->i_flags);

	return flags | (flags & RUAUFS_LIFTED) >> RUAUFS_LIFT_SHIFT;
}

bool ruaufs_helper_is_protected(const struct inode *inode)
{
	return flags_of(inode) & RUAUFS_FORBID;
}

/* @inode is locked, so nobody else changes its flags.  True: lifted. */
bool ruaufs_helper_lift_flags(struct inode *inode)
{
	const unsigned int flags = inode->i_flags & RUAUFS_FORBID;

	if (!flags)
		return false;
	inode_set_flags(inode, flags << RUAUFS_LIFT_SHIFT,
			RUAUFS_FORBID | RUAUFS_LIFTED);
	return true;
}

void ruaufs_helper_lower_flags(struct inode *inode)
{
	const unsigned int flags = inode->i_flags & RUAUFS_LIFTED;

	inode_set_flags(inode, flags >> RUAUFS_LIFT_SHIFT,
			RUAUFS_FORBID | RUAUFS_LIFTED);
}

#define RUAUFS_COPIED_FLAGS \
	(S_SYNC | S_IMMUTABLE | S_APPEND | S_NOATIME | S_CASEFOLD)

static unsigned int ruaufs_flags_to_copy(const struct inode *from)
{
	return flags_of(from) & RUAUFS_COPIED_FLAGS;
}

void ruaufs_helper_copy_flags(struct inode *to, const struct inode *from)
{
	inode_set_flags(to, ruaufs_flags_to_copy(from), RUAUFS_COPIED_FLAGS);
}

/* Whether all that was copied from @from, or is known of it, is so still. */
static bool ruaufs_same_attr(const struct inode *to, const struct inode *from)
{
	unsigned int known = READ_ONCE(to->i_flags);

	return !to->i_private && uid_eq(to->i_uid, from->i_uid) &&
	       gid_eq(to->i_gid, from->i_gid) &&
	       to->i_mode == from->i_mode && to->i_nlink == from->i_nlink &&
	       i_size_read(to) == i_size_read(from) &&
	       inode_get_mtime_sec(to) == inode_get_mtime_sec(from) &&
	       inode_get_mtime_nsec(to) == inode_get_mtime_nsec(from) &&
	       inode_get_atime_sec(to) == inode_get_atime_sec(from) &&
	       inode_get_atime_nsec(to) == inode_get_atime_nsec(from) &&
	       (known & RUAUFS_COPIED_FLAGS) == ruaufs_flags_to_copy(from) &&
	       (!(known & S_NOSEC) || READ_ONCE(from->i_flags) & S_NOSEC) &&
	       (!IS_POSIXACL(from) ||
		(!READ_ONCE(to->i_acl) && !READ_ONCE(from->i_acl) &&
		 (!S_ISDIR(to->i_mode) || !READ_ONCE(from->i_default_acl))));
}

/*
 * If the change time of @to has the mark of ruaufs_helper_copy_attr(): whether
 * nothing else has changed since.  Then the mark is taken away, and the next
 * change of @from is sure to show, as far as it can.  Does not sleep; a walk
 * under RCU may ask.
 */
bool ruaufs_helper_confirm_attr(struct inode *to, struct inode *from)
{
	struct timespec64 ctime;
	struct kstat seen;
	bool same;

	if (!(READ_ONCE(to->i_ctime_nsec) & I_CTIME_QUERIED))
		return false;
	if (is_mgtime(from)) {
		fill_mg_cmtime(&seen, STATX_CTIME, from);
		ctime = seen.ctime;
	} else {
		ctime = inode_get_ctime(from);
	}
	/* Before the comparison: what changes after it moves the time. */
	smp_mb();
	spin_lock(&to->i_lock);
	same = to->i_ctime_nsec == (ctime.tv_nsec | I_CTIME_QUERIED) &&
	       to->i_ctime_sec == ctime.tv_sec && ruaufs_same_attr(to, from);
	if (same)
		WRITE_ONCE(to->i_ctime_nsec, ctime.tv_nsec);
	spin_unlock(&to->i_lock);
	return same;
}

/*
 * A union may lie on another union: the same lock classes would nest.  One
 * class per stacking depth keeps lockdep's view true.
 */
void ruaufs_helper_inode_lockdep(struct inode *inode)
{
#ifdef CONFIG_LOCKDEP
	static struct lock_class_key dir_key[FILESYSTEM_MAX_STACK_DEPTH + 1];
	static struct lock_class_key other_key[FILESYSTEM_MAX_STACK_DEPTH + 1];
	int depth = clamp(inode->i_sb->s_stack_depth, 0,
			  FILESYSTEM_MAX_STACK_DEPTH);

	if (S_ISDIR(inode->i_mode))
		lockdep_set_class(&inode->i_rwsem, &dir_key[depth]);
	else
		lockdep_set_class(&inode->i_rwsem, &other_key[depth]);
#endif
}

void *ruaufs_helper_alloc_inode_sb(struct super_block *sb,
				   struct kmem_cache *cache, gfp_t gfp)
{
	return alloc_inode_sb(sb, cache, gfp);
}

struct kmem_cache *ruaufs_helper_kmem_cache_create(const char *name,
						   unsigned int size,
						   unsigned int align,
						   slab_flags_t flags,
						   void (*ctor)(void *))
{
	return kmem_cache_create(name, size, align, flags, ctor);
}

long ruaufs_helper_get_write_access(struct inode *inode)
{
	return get_write_access(inode);
}

/* deny_write_access() and allow_write_access() want a file. */
int ruaufs_helper_deny_write_access(struct inode *inode)
{
	return atomic_dec_unless_positive(&inode->i_writecount) ? 0 : -ETXTBSY;
}

void ruaufs_helper_allow_write_access(struct inode *inode)
{
	atomic_inc(&inode->i_writecount);
}

void ruaufs_helper_put_write_access(struct inode *inode)
{
	put_write_access(inode);
}

/*
 * Times are kept by the branch.  A function of C, as the type of an enum
 * argument is part of a function's kCFI identity.
 */
int ruaufs_helper_update_time(struct inode *inode, enum fs_update_time type,
			      unsigned int flags)
{
	return 0;
}

/* Whether @inode is a directory that was removed. */
bool ruaufs_helper_is_dead_dir(const struct inode *inode)
{
	return IS_DEADDIR(inode);
}

/*
 * Whether the last change is so long ago that the next one has another time,
 * however coarse the times are: FAT's are two seconds.
 */
bool ruaufs_helper_is_settled(const struct inode *inode)
{
	struct timespec64 now;

	ktime_get_coarse_real_ts64(&now);
	return inode_get_ctime_sec(inode) + 2 < now.tv_sec;
}

/*
 * Sees to it that the next change shows in the times of @inode.  False if that
 * cannot be promised: with coarse times two changes may look like one.
 */
bool ruaufs_helper_watch(struct inode *inode)
{
	struct kstat stat;

	if (!is_mgtime(inode))
		return ruaufs_helper_is_settled(inode);
	fill_mg_cmtime(&stat, STATX_CTIME, inode);
	return true;
}

/* The time that a change of @inode has now, as coarse as its file system's. */
void ruaufs_helper_now(struct inode *inode, s64 *seconds, u32 *nanoseconds)
{
	struct timespec64 now = current_time(inode);

	*seconds = now.tv_sec;
	*nanoseconds = now.tv_nsec;
}

/* Brings attributes to disk, as nfsd does for a file system of its own. */
int ruaufs_helper_commit_metadata(struct inode *inode)
{
	const struct export_operations *ops = inode->i_sb->s_export_op;

	if (ops && ops->commit_metadata)
		return ops->commit_metadata(inode);
	return sync_inode_metadata(inode, 1);
}
