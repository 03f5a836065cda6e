/* SPDX-License-Identifier: MIT */
/*
 * Paths and user strings into the text at a record's end. bpf_d_path cannot be called from these
 * programs, so a path is walked up to the root by hand; the reader turns the names round.
 *
 * A record comes in two sizes. The small one is tried first; what does not fit is thrown away and sent
 * again in the large one. Behind the text of either is room for one more write of constant size, since
 * the verifier cannot follow "what is left". How much is used stands in the record, not in a register:
 * then the verifier has one state to follow.
 */
#ifndef LAT_PATHS_H
#define LAT_PATHS_H

#include "ring.h"

#define MAX_PATH_COMPONENTS 128
#define NAME_BYTES 256
#define SMALL_TEXT_BYTES 448
#define LARGE_TEXT_BYTES (4 * PATH_BYTES)

enum fit {
	FITS = 0,
	TOO_LONG = 1,	 /* for this size of record */
	TOO_DEEP = 2,	 /* for the walk: the path's beginning is missing */
	UNREADABLE = 3,
	ANONYMOUS = 4,	 /* no path, only a name: a memfd, a pipe */
};

#define used_bytes(counter) (*(volatile __u32 *)(counter))

/* What is read of a directory entry, at once: these fields have been neighbours in all kernels. */
struct dentry_part {
	struct dentry *parent;
	__u64 hash_and_length;
	const unsigned char *name;
};

static __always_inline void read_dentry(struct dentry *dentry, struct dentry_part *part)
{
	if (bpf_core_field_offset(struct dentry, d_name.name) - bpf_core_field_offset(struct dentry, d_parent) == 16) {
		bpf_probe_read_kernel(part, sizeof(*part), (void *)dentry + bpf_core_field_offset(struct dentry, d_parent));
		return;
	}
	part->parent = BPF_CORE_READ(dentry, d_parent);
	part->name = BPF_CORE_READ(dentry, d_name.name);
}

/* Names from the last to the first, each ended by NUL. `room` is a constant. */
static __always_inline enum fit append_path(__u8 *text, __u32 *counter, const __u32 room, struct dentry *dentry,
					    struct vfsmount *vfsmount)
{
	struct mount *mount = container_of(vfsmount, struct mount, mnt);
	struct dentry *root = BPF_CORE_READ(vfsmount, mnt_root);
	struct dentry *first = dentry;
	struct dentry_part part = {};
	long n;

	for (int i = 0; i < MAX_PATH_COMPONENTS; i++) {
		read_dentry(dentry, &part);
		if (dentry == root || dentry == part.parent) {
			struct mount *above = BPF_CORE_READ(mount, mnt_parent);

			if (above == mount || !above) {
				char letter = 0;

				if (dentry != first)
					return FITS;
				/* "/" itself has this name; anything else has no place in a directory */
				bpf_probe_read_kernel(&letter, 1, part.name);
				if (letter == '/')
					return FITS;
				__u32 at = used_bytes(counter);

				if (at > room)
					return TOO_LONG;
				n = bpf_probe_read_kernel_str(text + at, NAME_BYTES, part.name);
				if (n > 0)
					*counter = at + n;
				return ANONYMOUS;
			}
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = above;
			root = BPF_CORE_READ(mount, mnt.mnt_root);
			continue;
		}
		__u32 used = used_bytes(counter);

		if (used > room)
			return TOO_LONG;
		n = bpf_probe_read_kernel_str(text + used, NAME_BYTES, part.name);
		if (n <= 0)
			return UNREADABLE;
		*counter = used + n;
		dentry = part.parent;
	}
	return TOO_DEEP;
}

/* A string of the process, with its NUL. `room` and `most` are constants. */
static __always_inline enum fit append_user_string(__u8 *text, __u32 *counter, const __u32 room, const __u32 most,
						   const void *string)
{
	__u32 used = used_bytes(counter);

	if (used > room)
		return TOO_LONG;
	long n = bpf_probe_read_user_str(text + used, most, string);

	if (n <= 0)
		return UNREADABLE;
	*counter = used + n;
	return n >= most ? TOO_LONG : FITS;
}

static __always_inline struct file *file_of_fd(struct task_struct *task, __s32 fd)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	struct file *file = NULL;

	if (!table || fd < 0 || (__u32)fd >= BPF_CORE_READ(table, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), BPF_CORE_READ(table, fd) + fd);
	return file;
}

/* Which of the 64 descriptors from 64 * index on are open, as bits. */
static __always_inline __u64 open_fds(struct task_struct *task, __u32 index)
{
	struct fdtable *table = BPF_CORE_READ(task, files, fdt);
	__u64 word = 0;

	if (!table || index * 64 >= BPF_CORE_READ(table, max_fds))
		return 0;
	bpf_probe_read_kernel(&word, sizeof(word), BPF_CORE_READ(table, open_fds) + index);
	return word;
}

static __always_inline bool is_unlinked(struct dentry *dentry)
{
	return !BPF_CORE_READ(dentry, d_hash.pprev) && BPF_CORE_READ(dentry, d_parent) != dentry;
}

#endif
