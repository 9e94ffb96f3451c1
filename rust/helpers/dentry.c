// SPDX-License-Identifier: GPL-2.0
/* Dentries.  See helpers.h. */

#include <linux/dcache.h>
#include <linux/fs.h>
#include <linux/fscrypt.h>
#include <linux/lockref.h>
#include <linux/rcupdate.h>
#include <linux/seqlock.h>

#include "../helpers.h"

/* Between lockref_mark_dead() and the end; the test has another name in each kernel. */
static bool is_dead(const struct dentry *dentry)
{
	return (int)dentry->d_lockref.count < 0;
}

struct dentry *ruaufs_helper_dget(struct dentry *dentry)
{
	return dget(dentry);
}

unsigned int ruaufs_helper_d_count(const struct dentry *dentry)
{
	return d_count(dentry);
}

/* The parent of @dentry if its name is @name, else NULL; under RCU. */
const struct dentry *ruaufs_helper_d_named(const struct dentry *dentry,
					   const struct qstr *name)
{
	const struct dentry *parent;
	const unsigned char *bytes;
	unsigned int seq, len;

	do {
		seq = read_seqcount_begin(&dentry->d_seq);
		parent = READ_ONCE(dentry->d_parent);
		bytes = READ_ONCE(dentry->d_name.name);
		len = READ_ONCE(dentry->d_name.len);
		if (len != name->len || memcmp(bytes, name->name, len))
			parent = NULL;
	} while (read_seqcount_retry(&dentry->d_seq, seq));
	return parent;
}

/* Whether @dentry is on its way to be freed. */
bool ruaufs_helper_is_dying(const struct dentry *dentry)
{
	return is_dead(dentry);
}

/*
 * The cached children of @parent: with references to those for which there is
 * @room; how many there are.  Those that die, or are cursors of a listing, are
 * passed over; @guarded says whether one of those that die has a guard still.
 * As it leaves the list after ->d_release(), none is missed.
 */
unsigned long ruaufs_helper_children(struct dentry *parent,
				     struct dentry **children,
				     unsigned long room, bool *guarded)
{
	unsigned long count = 0;
	struct dentry *child;

	spin_lock(&parent->d_lock);
	hlist_for_each_entry(child, &parent->d_children, d_sib) {
		if (child->d_flags & DCACHE_DENTRY_CURSOR)
			continue;
		spin_lock_nested(&child->d_lock, DENTRY_D_LOCK_NESTED);
		if (!is_dead(child)) {
			if (count < room)
				children[count] = dget_dlock(child);
			count++;
		} else if (child->d_fsdata) {
			*guarded = true;
		}
		spin_unlock(&child->d_lock);
	}
	spin_unlock(&parent->d_lock);
	return count;
}

/* A hashed alias of @inode that is not @except, with a reference, or NULL. */
struct dentry *ruaufs_helper_other_name(struct inode *inode,
					struct dentry *except)
{
	struct dentry *alias, *found = NULL;

	spin_lock(&inode->i_lock);
	hlist_for_each_entry(alias, &inode->i_dentry, d_alias) {
		if (alias == except)
			continue;
		spin_lock(&alias->d_lock);
		if (!d_unhashed(alias))
			found = dget_dlock(alias);
		spin_unlock(&alias->d_lock);
		if (found)
			break;
	}
	spin_unlock(&inode->i_lock);
	return found;
}

/* Whether walks are to ask our d_revalidate() about @dentry. */
void ruaufs_helper_set_checked(struct dentry *dentry, bool checked)
{
	spin_lock(&dentry->d_lock);
	if (checked)
		dentry->d_flags |= DCACHE_OP_REVALIDATE;
	else
		dentry->d_flags &= ~DCACHE_OP_REVALIDATE;
	spin_unlock(&dentry->d_lock);
}

/*
 * Whether names in the directory @dentry are looked up without regard to case.
 * Where a file system decides that for each directory, all its dentries have the
 * operations that other file systems have for that alone.
 */
bool ruaufs_helper_folds_case(const struct dentry *dentry)
{
	if (sb_has_encoding(dentry->d_sb))
		return IS_CASEFOLDED(d_inode(dentry));
	return dentry->d_flags & (DCACHE_OP_HASH | DCACHE_OP_COMPARE);
}

struct dentry *ruaufs_helper_d_real(struct dentry *dentry,
				    enum d_real_type type)
{
	return d_real(dentry, type);
}

/* Whether somebody refers to a dentry of @inode. */
bool ruaufs_helper_is_named_in_use(struct inode *inode)
{
	struct dentry *alias;
	bool found = false;

	spin_lock(&inode->i_lock);
	hlist_for_each_entry(alias, &inode->i_dentry, d_alias)
		found |= d_count(alias) != 0;
	spin_unlock(&inode->i_lock);
	return found;
}

/* As if @dentry had no d_real(). */
void ruaufs_helper_clear_real(struct dentry *dentry)
{
	if (!(READ_ONCE(dentry->d_flags) & DCACHE_OP_REAL))
		return;
	spin_lock(&dentry->d_lock);
	dentry->d_flags &= ~DCACHE_OP_REAL;
	spin_unlock(&dentry->d_lock);
}

/* Whether @dentry is, or is below, a directory that an overlayfs writes to. */
bool ruaufs_helper_is_below_overlay(const struct dentry *dentry)
{
	const struct dentry *dir = dentry, *child;
	bool found = false;

	rcu_read_lock();
	do {
		struct inode *inode = d_inode_rcu(dir);

		child = dir;
		found = inode && inode_state_read_once(inode) & I_OVL_INUSE;
		dir = READ_ONCE(dir->d_parent);
	} while (!found && dir != child);
	rcu_read_unlock();
	return found;
}

/*
 * Sees that @dentry, one of ours, has a d_real() unless it is below a directory
 * that an overlayfs writes to.  @reals, what is known of the files of the
 * directory that it is in, is forgotten before: see fs/objects/overlay.rs.
 */
void ruaufs_helper_settle_real(struct dentry *dentry, u32 *reals)
{
	spin_lock(&dentry->d_lock);
	if (READ_ONCE(*reals) != RUAUFS_REALS_SOME)
		xchg(reals, RUAUFS_REALS_SOME);
	if (ruaufs_helper_is_below_overlay(dentry))
		dentry->d_flags &= ~DCACHE_OP_REAL;
	else
		dentry->d_flags |= DCACHE_OP_REAL;
	spin_unlock(&dentry->d_lock);
}

/*
 * As if no cached child of @dir had a d_real().  False if some may have, since
 * the one that the walk paused at was moved away.  Children that come meanwhile
 * are the caller's matter.
 */
bool ruaufs_helper_hide_reals(struct dentry *dir)
{
	struct dentry *child, *pause = NULL;
	bool all = true;

	do {
		struct dentry *last = pause;
		unsigned int left = 1000;

		pause = NULL;
		spin_lock(&dir->d_lock);
		all = !last || last->d_parent == dir;
		child = !all ? NULL : last ? d_next_sibling(last) : d_first_child(dir);
		hlist_for_each_entry_from(child, d_sib) {
			spin_lock_nested(&child->d_lock, DENTRY_D_LOCK_NESTED);
			child->d_flags &= ~DCACHE_OP_REAL;
			if (left)
				left--;
			else if (!is_dead(child))
				pause = dget_dlock(child);
			spin_unlock(&child->d_lock);
			if (pause)
				break;
		}
		spin_unlock(&dir->d_lock);
		dput(last);
		cond_resched();
	} while (pause);
	return all;
}

/* Whether names in the directory @inode are encrypted, and the key is not there. */
bool ruaufs_helper_is_locked(const struct inode *inode)
{
	return IS_ENCRYPTED(inode) && !fscrypt_has_encryption_key(inode);
}
