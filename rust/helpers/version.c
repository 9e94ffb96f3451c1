// SPDX-License-Identifier: GPL-2.0

#include <linux/module.h>

/* module! has no word for it.  scripts/check-version.sh compares it with the tools' version. */
MODULE_VERSION("0.1.0");
