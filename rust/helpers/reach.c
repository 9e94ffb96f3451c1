// SPDX-License-Identifier: GPL-2.0
/* What can be reached, and through what.  See helpers.h. */

#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/fs_struct.h>
#include <linux/mount.h>
#include <linux/sched.h>

#include "../helpers.h"

/*
 * Whether the mount that @file came through shows its whole file system as it
 * is, and nothing less is what the caller can reach.
 */
bool ruaufs_helper_shows_all(const struct file *file)
{
	struct vfsmount *mnt = file->f_path.mnt;
	struct path whole = { .mnt = mnt, .dentry = mnt->mnt_root };
	struct path root;
	bool all;

	if (mnt->mnt_root != mnt->mnt_sb->s_root || is_idmapped_mnt(mnt))
		return false;
	get_fs_root(current->fs, &root);
	all = path_is_under(&whole, &root);
	path_put(&root);
	return all;
}

/* What @mnt forbids of what is found through it. */
int ruaufs_helper_forbidden(const struct vfsmount *mnt)
{
	return READ_ONCE(mnt->mnt_flags) & (MNT_NOSUID | MNT_NODEV | MNT_NOEXEC);
}

/*
 * Puts names of @inode that are in the cache into @names, at most @room, each
 * with a reference, and returns how many.
 */
int ruaufs_helper_names(struct inode *inode, struct dentry **names, int room)
{
	struct dentry *alias;
	int count = 0;

	spin_lock(&inode->i_lock);
	for_each_alias(alias, inode) {
		if (count == room)
			break;
		if (!d_unhashed(alias) && !IS_ROOT(alias) &&
		    dget_alias_ilocked(alias))
			names[count++] = alias;
	}
	spin_unlock(&inode->i_lock);
	return count;
}
