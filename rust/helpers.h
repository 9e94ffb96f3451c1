/* SPDX-License-Identifier: GPL-2.0 */
/* Prototypes of helpers.c; bindgen reads them, so Rust's view cannot drift. */
#ifndef RUAUFS_HELPERS_H
#define RUAUFS_HELPERS_H

#include <linux/fs.h>

struct dentry *ruaufs_helper_dget(struct dentry *dentry);

#endif /* RUAUFS_HELPERS_H */
