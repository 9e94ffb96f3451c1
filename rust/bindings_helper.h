/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The C headers our bindgen step reads, sorted.  What it takes from them is
 * listed in bindgen_parameters.
 */

#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/namei.h>

#include "helpers.h"
