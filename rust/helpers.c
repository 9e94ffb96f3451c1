// SPDX-License-Identifier: GPL-2.0
/* Out-of-line forms of inline functions and macros that Rust calls; no logic. */

#include <linux/dcache.h>

#include "helpers.h"

struct dentry *ruaufs_helper_dget(struct dentry *dentry)
{
	return dget(dentry);
}
