/* SPDX-License-Identifier: MIT */
/* Files as the kernel knows them: what tells one image from another, cheaply. */
#ifndef LAT_IMAGES_H
#define LAT_IMAGES_H

#include "kernel.h"

/*
 * One content of one file. An inode number is used again after its file was deleted, and a file can be
 * written over: the time of the last change, which nobody can set, tells these apart.
 */
struct image_key {
	__u64 inode;
	__u64 changed_ns;
	__u32 device; /* the kernel's dev_t: 12 bits major, 20 bits minor */
	__u32 reserved;
};

#define CHANGE_TIME_QUERIED (1U << 31) /* since Linux 6.13, I_CTIME_QUERIED in i_ctime_nsec */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct super_block {
	__u32 s_dev;
};

struct timespec64 {
	__s64 tv_sec;
	long tv_nsec;
};

struct inode___of_image {
	unsigned short i_mode;
	struct super_block *i_sb;
	unsigned long i_ino;
	__s64 i_ctime_sec; /* since Linux 6.11 */
	__u32 i_ctime_nsec;
};

struct inode___before_6_11 {
	struct timespec64 __i_ctime; /* since Linux 6.6 */
};

struct inode___before_6_6 {
	struct timespec64 i_ctime;
};

struct vm_area_struct {
	struct file *vm_file;
};

#pragma clang attribute pop

static __always_inline __u64 nanoseconds(__s64 seconds, __s64 rest)
{
	return (__u64)seconds * 1000000000ULL + rest;
}

static __always_inline bool read_image_key(struct file *file, struct image_key *key)
{
	struct inode___of_image *inode;

	__builtin_memset(key, 0, sizeof(*key));
	if (!file)
		return false;
	inode = (struct inode___of_image *)BPF_CORE_READ(file, f_inode);
	if (!inode)
		return false;
	key->inode = BPF_CORE_READ(inode, i_ino);
	key->device = BPF_CORE_READ(inode, i_sb, s_dev);
	if (bpf_core_field_exists(inode->i_ctime_sec)) {
		key->changed_ns = nanoseconds(BPF_CORE_READ(inode, i_ctime_sec),
					      BPF_CORE_READ(inode, i_ctime_nsec) & ~CHANGE_TIME_QUERIED);
	} else if (bpf_core_field_exists(struct inode___before_6_11, __i_ctime)) {
		struct inode___before_6_11 *older = (void *)inode;

		key->changed_ns = nanoseconds(BPF_CORE_READ(older, __i_ctime.tv_sec),
					      BPF_CORE_READ(older, __i_ctime.tv_nsec));
	} else {
		struct inode___before_6_6 *oldest = (void *)inode;

		key->changed_ns =
			nanoseconds(BPF_CORE_READ(oldest, i_ctime.tv_sec), BPF_CORE_READ(oldest, i_ctime.tv_nsec));
	}
	return true;
}

#endif
