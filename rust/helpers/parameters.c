// SPDX-License-Identifier: GPL-2.0
/*
 * The parameters of the module.  See helpers.h.  module! makes no files in sysfs of them, and
 * has no word for bool in Linux 7.2.
 */

#include <linux/module.h>
#include <linux/moduleparam.h>

#include "../helpers.h"

static bool aufs_alias = true;
module_param(aufs_alias, bool, 0444);
MODULE_PARM_DESC(aufs_alias, "register the file system type aufs, too");

static int brs = 1;
module_param(brs, int, 0444);
MODULE_PARM_DESC(brs, "branches: 1 in sysfs, 0 in /proc/mounts (type aufs)");

bool ruaufs_helper_aufs_alias(void)
{
	return aufs_alias;
}

bool ruaufs_helper_brs(void)
{
	return brs;
}
