// SPDX-License-Identifier: GPL-2.0
/* Super blocks, mounts, and the readers of a super block's shape.  See helpers.h. */

#include <linux/bitops.h>
#include <linux/dcache.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/list.h>
#include <linux/mount.h>
#include <linux/path.h>
#include <linux/ratelimit.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/srcu.h>
#include <linux/threads.h>

#include "../helpers.h"

static_assert(PID_MAX_LIMIT <= 1UL << RUAUFS_PID_BITS);
static_assert(sizeof(struct ruaufs_seat) == 4 * sizeof(long));

/* As ruaufs_helper_set_checked(), for dentries that are made from now on. */
void ruaufs_helper_sb_set_checked(struct super_block *sb, bool checked)
{
	set_mask_bits(&sb->s_d_flags, DCACHE_OP_REVALIDATE,
		      checked ? DCACHE_OP_REVALIDATE : 0);
}

/* Whether dentries that are made from now on have a d_real(). */
bool ruaufs_helper_sb_has_real(const struct super_block *sb)
{
	return READ_ONCE(sb->s_d_flags) & DCACHE_OP_REAL;
}

void ruaufs_helper_sb_clear_real(struct super_block *sb)
{
	set_mask_bits(&sb->s_d_flags, DCACHE_OP_REAL, 0);
}

/* A lock class for each depth of stacking. */
int ruaufs_helper_srcu_init(struct srcu_struct *srcu, int depth)
{
	if (depth <= 1)
		return init_srcu_struct_fast(srcu);
	return init_srcu_struct_fast(srcu);
}

notrace unsigned long ruaufs_helper_srcu_lock(struct srcu_struct *srcu)
{
	return (__force unsigned long)srcu_read_lock_fast(srcu);
}

notrace void ruaufs_helper_srcu_unlock(struct srcu_struct *srcu,
				       unsigned long section)
{
	srcu_read_unlock_fast(srcu, (__force struct srcu_ctr __percpu *)section);
}

/*
 * Has the current task take a seat in the row of its CPU; @rows is a power of
 * two.  NULL if all are taken, which takes as many tasks of this CPU that sleep
 * inside.
 */
notrace struct ruaufs_seat *ruaufs_helper_take_seat(struct ruaufs_seat *seats,
						    unsigned long rows,
						    unsigned long doing)
{
	const unsigned long who = doing << RUAUFS_PID_BITS | current->pid;
	struct ruaufs_seat *seat, *end;

	seat = seats + (raw_smp_processor_id() & (rows - 1)) * RUAUFS_ROW;
	for (end = seat + RUAUFS_ROW; seat < end; seat++)
		if (likely(!READ_ONCE(seat->who)) &&
		    likely(!cmpxchg_acquire(&seat->who, 0, who)))
			return seat;
	return NULL;
}

unsigned long ruaufs_helper_cpus(void)
{
	return nr_cpu_ids;
}

/*
 * The cached inode after @prev, which the caller holds (NULL: the first), with
 * a reference.
 */
struct inode *ruaufs_helper_next_inode(struct super_block *sb,
				       struct inode *prev)
{
	struct inode *inode, *found = NULL;

	spin_lock(&sb->s_inode_list_lock);
	inode = prev ? list_next_entry(prev, i_sb_list) :
		       list_first_entry(&sb->s_inodes, struct inode, i_sb_list);
	list_for_each_entry_from(inode, &sb->s_inodes, i_sb_list) {
		/* One that is made or freed just now is nobody's yet, or no more. */
		found = igrab(inode);
		if (found)
			break;
	}
	spin_unlock(&sb->s_inode_list_lock);
	return found;
}

struct mnt_idmap *ruaufs_helper_mnt_idmap(const struct vfsmount *mnt)
{
	return mnt_idmap(mnt);
}

bool ruaufs_helper_is_idmapped(const struct vfsmount *mnt)
{
	return is_idmapped_mnt(mnt);
}

/* Freeze protection, unless somebody froze @sb. */
bool ruaufs_helper_sb_start_write_trylock(struct super_block *sb)
{
	return sb_start_write_trylock(sb);
}

/* The directory that the caller's descriptor @fd is of, with references. */
int ruaufs_helper_dir_of_descriptor(unsigned int fd, struct path *path)
{
	struct file *file = fget_raw(fd);
	int ret = -ENOTDIR;

	if (!file)
		return -EBADF;
	if (d_is_dir(file->f_path.dentry)) {
		*path = file->f_path;
		path_get(path);
		ret = 0;
	}
	fput(file);
	return ret;
}

/* One line in the log that user space can read from a context, by level. */
void ruaufs_helper_fc_log(struct fs_context *fc, char level, const char *text)
{
	if (fc->log.log)
		logfc(fc->log.log, NULL, level, "%s", text);
}

/*
 * Whether one more line may go to the kernel's log now: one about a mount, or
 * another one, which users may cause.
 */
bool ruaufs_helper_may_log(bool mount)
{
	static DEFINE_RATELIMIT_STATE(mounts, 5 * HZ, 100);
	static DEFINE_RATELIMIT_STATE(others, 5 * HZ, 100);

	return ___ratelimit(mount ? &mounts : &others, "ruaufs");
}
