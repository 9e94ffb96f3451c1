// SPDX-License-Identifier: GPL-2.0
/* ACLs.  See helpers.h. */

#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>

#include "../helpers.h"

bool ruaufs_helper_is_posixacl(const struct inode *inode)
{
	return IS_POSIXACL(inode);
}

/*
 * Takes over from @from that it has no ACL.  Where nothing says whether there is
 * one, each component of a walk is a call more.  As __get_acl() does it: what
 * others do to the cache of @inode meanwhile goes before.
 */
void ruaufs_helper_copy_no_acl(struct inode *inode, const struct inode *from)
{
	struct posix_acl *sentinel = uncached_acl_sentinel(current);

	if (IS_POSIXACL(from) && READ_ONCE(from->i_acl))
		return;
	if (cmpxchg(&inode->i_acl, ACL_NOT_CACHED, sentinel) != ACL_NOT_CACHED)
		return;
	if (IS_POSIXACL(from) && READ_ONCE(from->i_acl))
		cmpxchg(&inode->i_acl, sentinel, ACL_NOT_CACHED);
	else
		cmpxchg(&inode->i_acl, sentinel, NULL);
}

/* Whether @acl has an @i-th entry. */
bool ruaufs_helper_acl_entry(const struct posix_acl *acl, unsigned int i,
			     unsigned short *tag, unsigned short *perm)
{
	if (i >= acl->a_count)
		return false;
	*tag = acl->a_entries[i].e_tag;
	*perm = acl->a_entries[i].e_perm;
	return true;
}

void ruaufs_helper_cache_no_acl(struct inode *inode)
{
	cache_no_acl(inode);
}

struct posix_acl *ruaufs_helper_real_acl(const struct path *path, int type)
{
	if (!IS_POSIXACL(d_inode(path->dentry)))
		return NULL;
	return get_inode_acl(d_inode(path->dentry), type);
}

bool ruaufs_helper_same_acl(const struct posix_acl *a, const struct posix_acl *b)
{
	unsigned int i;

	if (a->a_count != b->a_count)
		return false;
	for (i = 0; i < a->a_count; i++) {
		const struct posix_acl_entry *x = &a->a_entries[i];
		const struct posix_acl_entry *y = &b->a_entries[i];

		if (x->e_tag != y->e_tag || x->e_perm != y->e_perm ||
		    (x->e_tag == ACL_USER && !uid_eq(x->e_uid, y->e_uid)) ||
		    (x->e_tag == ACL_GROUP && !gid_eq(x->e_gid, y->e_gid)))
			return false;
	}
	return true;
}

void ruaufs_helper_posix_acl_release(struct posix_acl *acl)
{
	posix_acl_release(acl);
}

const char *ruaufs_helper_acl_name(int type)
{
	return posix_acl_xattr_name(type);
}

bool ruaufs_helper_sgid_must_go(struct mnt_idmap *idmap, struct inode *inode)
{
	return (inode->i_mode & S_ISGID) &&
	       !in_group_or_capable(idmap, inode,
				    i_gid_into_vfsgid(idmap, inode));
}

int ruaufs_helper_cap_for_trusted(void)
{
	return ns_capable_noaudit(&init_user_ns, CAP_SYS_ADMIN);
}
