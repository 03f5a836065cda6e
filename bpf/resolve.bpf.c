// SPDX-License-Identifier: MIT
/*
 * The paths that the kernel finds under the names of a call that opens nothing (unlink, rename, mkdir …),
 * where symbolic links are followed: from the security hooks, which are given directory entries. Needs
 * fentry; without it such a path is what was given, and marked as unresolved.
 */
#include "resolved.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

KEEP_TYPE(paths_record);

/* A directory entry and the mount that it is in, as numbers. */
#define DENTRY(entry) ((struct dentry *)(entry))
#define MOUNT(mount) ((struct vfsmount *)(mount))

static __always_inline enum fit fill_paths(struct paths_record *record, const __u32 room, __u64 entry, __u64 mount,
					   __u64 new_entry, __u64 new_mount)
{
	record->file_flags = 0;
	record->path_bytes = 0;
	record->new_path_bytes = 0;
	record->text_bytes = 0;
	if (entry) {
		enum fit fit = append_path(record->text, &record->text_bytes, room, DENTRY(entry), MOUNT(mount));

		if (fit == TOO_LONG && room < LARGE_TEXT_BYTES)
			return fit;
		if (fit != FITS)
			record->file_flags |= FILE_CUT;
		record->path_bytes = used_bytes(&record->text_bytes);
	}
	if (new_entry) {
		__u32 before = used_bytes(&record->text_bytes);
		enum fit fit = append_path(record->text, &record->text_bytes, room, DENTRY(new_entry), MOUNT(new_mount));

		if (fit == TOO_LONG && room < LARGE_TEXT_BYTES)
			return fit;
		if (fit != FITS)
			record->file_flags |= FILE_NEW_CUT;
		record->new_path_bytes = used_bytes(&record->text_bytes) - before;
	}
	return FITS;
}

/* If there is no room, the call's own record says that its paths are unresolved. */
#define SEND_PATHS(room)                                                                                   \
	do {                                                                                               \
		struct task_struct *task = (struct task_struct *)bpf_get_current_task();                   \
		__u64 pid_tgid = bpf_get_current_pid_tgid(), now_ns = bpf_ktime_get_boot_ns();             \
		struct ring_control *control = get_ring_control();                                         \
                                                                                                           \
		if (!control)                                                                              \
			return UNREADABLE;                                                                 \
		struct paths_record *record =                                                              \
			bpf_ringbuf_reserve(&records, sizeof(*record) + (room) + NAME_BYTES, 0);           \
		if (!record)                                                                               \
			return UNREADABLE;                                                                 \
		fill_header(&record->header, RECORD_PATHS, now_ns, pid_tgid,                               \
			    BPF_CORE_READ(task, group_leader, start_boottime));                            \
		if (fill_paths(record, room, entry, mount, new_entry, new_mount) == TOO_LONG &&            \
		    (room) < LARGE_TEXT_BYTES) {                                                           \
			bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);                                     \
			return TOO_LONG;                                                                   \
		}                                                                                          \
		submit(record, control);                                                                   \
		bpf_map_update_elem(&resolved, &pid_tgid, &now_ns, BPF_ANY);                               \
	} while (0)

__noinline int send_paths_small(__u64 entry, __u64 mount, __u64 new_entry, __u64 new_mount)
{
	SEND_PATHS(SMALL_TEXT_BYTES);
	return FITS;
}

__noinline int send_paths_large(__u64 entry, __u64 mount, __u64 new_entry, __u64 new_mount)
{
	SEND_PATHS(LARGE_TEXT_BYTES);
	return FITS;
}

/* Only for calls by name that are told themselves: not for io_uring, nor what the kernel does for itself. */
static __always_inline bool is_told(void)
{
	enum call call = call_of_number(CALL_NUMBER(current_regs()));
	__u64 start_ns;

	return call >= CALL_UNLINK && call <= CALL_TRUNCATE && call != CALL_FCHMOD && call != CALL_FCHOWN &&
	       !in_compat_call() && current_matches(bpf_get_current_pid_tgid(), &start_ns);
}

static __always_inline int send_paths(__u64 entry, __u64 mount, __u64 new_entry, __u64 new_mount)
{
	if (send_paths_small(entry, mount, new_entry, new_mount) == TOO_LONG)
		send_paths_large(entry, mount, new_entry, new_mount);
	return 0;
}

/* An entry of a directory: (const struct path *directory, struct dentry *entry, …) */
static __always_inline int entry_of_directory(__u64 *ctx)
{
	struct path *directory = (struct path *)argument(ctx, 0);

	return is_told() ? send_paths(argument(ctx, 1), (__u64)BPF_CORE_READ(directory, mnt), 0, 0) : 0;
}

/* A file: (const struct path *path, …) */
static __always_inline int file_itself(__u64 *ctx)
{
	struct path *path = (struct path *)argument(ctx, 0);

	return is_told() ? send_paths((__u64)BPF_CORE_READ(path, dentry), (__u64)BPF_CORE_READ(path, mnt), 0, 0) : 0;
}

SEC("fentry/security_path_unlink")
int on_unlink(__u64 *ctx)
{
	return entry_of_directory(ctx);
}

SEC("fentry/security_path_mkdir")
int on_mkdir(__u64 *ctx)
{
	return entry_of_directory(ctx);
}

SEC("fentry/security_path_rmdir")
int on_rmdir(__u64 *ctx)
{
	return entry_of_directory(ctx);
}

/* What a symbolic link says is no path that was followed: only its own place is. */
SEC("fentry/security_path_symlink")
int on_symlink(__u64 *ctx)
{
	struct path *directory = (struct path *)argument(ctx, 0);

	return is_told() ? send_paths(0, 0, argument(ctx, 1), (__u64)BPF_CORE_READ(directory, mnt)) : 0;
}

/* (struct dentry *old, const struct path *new_directory, struct dentry *new): both lie in the same mount */
SEC("fentry/security_path_link")
int on_link(__u64 *ctx)
{
	struct path *directory = (struct path *)argument(ctx, 1);
	__u64 mount = (__u64)BPF_CORE_READ(directory, mnt);

	return is_told() ? send_paths(argument(ctx, 0), mount, argument(ctx, 2), mount) : 0;
}

/* (const struct path *directory, struct dentry *old, const struct path *new_directory, struct dentry *new, …) */
SEC("fentry/security_path_rename")
int on_rename(__u64 *ctx)
{
	struct path *directory = (struct path *)argument(ctx, 0);
	struct path *new_directory = (struct path *)argument(ctx, 2);

	return is_told() ? send_paths(argument(ctx, 1), (__u64)BPF_CORE_READ(directory, mnt), argument(ctx, 3),
				      (__u64)BPF_CORE_READ(new_directory, mnt)) :
			   0;
}

SEC("fentry/security_path_truncate")
int on_truncate(__u64 *ctx)
{
	return file_itself(ctx);
}

SEC("fentry/security_path_chmod")
int on_chmod(__u64 *ctx)
{
	return file_itself(ctx);
}

SEC("fentry/security_path_chown")
int on_chown(__u64 *ctx)
{
	return file_itself(ctx);
}
