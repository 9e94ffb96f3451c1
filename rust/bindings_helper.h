/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The C headers our bindgen step reads, sorted.  What it takes from them is
 * listed in bindgen_parameters.
 */

#include <linux/anon_inodes.h>
#include <linux/backing-file.h>
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/exportfs.h>
#include <linux/falloc.h>
#include <linux/fileattr.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/fsnotify_backend.h>
#include <linux/iversion.h>
#include <linux/magic.h>
#include <linux/mman.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/proc_fs.h>
#include <linux/security.h>
#include <linux/seq_file.h>
#include <linux/splice.h>
#include <linux/statfs.h>
#include <linux/xattr.h>

#include "helpers.h"
#include "helpers/trace.h"

/* Macros that bindgen cannot evaluate, as constants of the same name. */
const unsigned long RUAUFS_SB_POSIXACL = SB_POSIXACL;
const unsigned int RUAUFS_S_ENCRYPTED = S_ENCRYPTED;
const unsigned int RUAUFS_S_APPEND = S_APPEND;
const unsigned long RUAUFS_SB_RDONLY = SB_RDONLY;
const unsigned long RUAUFS_SB_NOATIME = SB_NOATIME;
const unsigned long RUAUFS_SB_NODIRATIME = SB_NODIRATIME;
const unsigned long RUAUFS_SB_NOSEC = SB_NOSEC;
const unsigned long RUAUFS_SB_I_NOUMASK = SB_I_NOUMASK;
const unsigned long RUAUFS_SB_I_SKIP_SYNC = SB_I_SKIP_SYNC;
const unsigned long RUAUFS_SB_I_EVM_HMAC_UNSUPPORTED = SB_I_EVM_HMAC_UNSUPPORTED;
const unsigned int RUAUFS_LOOKUP_FOLLOW = LOOKUP_FOLLOW;
const unsigned int RUAUFS_LOOKUP_DIRECTORY = LOOKUP_DIRECTORY;
const unsigned int RUAUFS_LOOKUP_RCU = LOOKUP_RCU;
const unsigned int RUAUFS_SLAB_FLAGS = SLAB_RECLAIM_ACCOUNT | SLAB_ACCOUNT;
const unsigned int RUAUFS_I_CTIME_QUERIED = I_CTIME_QUERIED;
const long long RUAUFS_I_VERSION_QUERIED = I_VERSION_QUERIED;
const int RUAUFS_MAX_STACK_DEPTH = FILESYSTEM_MAX_STACK_DEPTH;
const int RUAUFS_ACL_TYPE_ACCESS = ACL_TYPE_ACCESS;
const int RUAUFS_ACL_TYPE_DEFAULT = ACL_TYPE_DEFAULT;
const unsigned char RUAUFS_FILEID_INVALID = FILEID_INVALID;
const unsigned int RUAUFS_FMODE_NOWAIT = FMODE_NOWAIT;
const unsigned int RUAUFS_FMODE_WRITE = FMODE_WRITE;
const unsigned int RUAUFS_FMODE_OPENED = FMODE_OPENED;
const int RUAUFS_IOCB_NOWAIT = IOCB_NOWAIT;
const int RUAUFS_IOCB_DIRECT = IOCB_DIRECT;
const int RUAUFS_IOCB_APPEND = IOCB_APPEND;
const int RUAUFS_EIOCBQUEUED = EIOCBQUEUED;
const unsigned long RUAUFS_MAP_FIXED = MAP_FIXED;
const unsigned long RUAUFS_MAP_TYPE = MAP_TYPE;
const unsigned long RUAUFS_MAP_SHARED = MAP_SHARED;
const unsigned long RUAUFS_MAP_SHARED_VALIDATE = MAP_SHARED_VALIDATE;
const unsigned int RUAUFS_SPLICE_F_NONBLOCK = SPLICE_F_NONBLOCK;
const unsigned int RUAUFS_REMAP_FILE_DEDUP = REMAP_FILE_DEDUP;
const unsigned int RUAUFS_REMAP_FILE_ADVISORY = REMAP_FILE_ADVISORY;
