// SPDX-License-Identifier: MIT
/*
 * Calls that open, name or change files, when they return: so the result is known, and a file that was
 * opened can be asked for its path. Optionally what was read and written, told when a file is closed.
 */
#include "resolved.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

KEEP_TYPE(file_record);
KEEP_TYPE(file_close_record);

const volatile bool paths_resolved = false; /* resolve.bpf.c is attached */

#define AT_FDCWD -100
#define AT_REMOVEDIR 0x200
#define O_CREAT 0100
#define O_TMPFILE 020000000
#define O_CREAT_FLAGS 01101 /* what creat() means: O_CREAT | O_WRONLY | O_TRUNC */

/* What a call said of a file. */
struct call_on_file {
	__u64 name;	/* address in the process, 0: none */
	__u64 new_name;
	__u64 flags;
	__u32 mode;
	__u32 gid;
	__s32 dir;	/* descriptor or AT_FDCWD */
	__s32 new_dir;
	__s32 fd;	/* the file itself, -1: none */
};

static __always_inline void read_open_how(__u64 address, struct call_on_file *to)
{
	struct { /* include/uapi/linux/openat2.h: struct open_how */
		__u64 flags, mode;
	} how = {};

	bpf_probe_read_user(&how, sizeof(how), (void *)address);
	to->flags = how.flags;
	to->mode = how.mode;
}

/* Which argument is what. */
static __always_inline void understand(enum call call, const struct call_arguments *args, __s64 result,
				       struct call_on_file *to)
{
	const __u64 *a = args->a;

	to->name = a[0];
	to->new_name = 0;
	to->flags = 0;
	to->mode = 0;
	to->gid = 0;
	to->dir = AT_FDCWD;
	to->new_dir = AT_FDCWD;
	to->fd = -1;
	switch (call) {
	case CALL_OPEN:
		to->flags = a[1], to->mode = a[2], to->fd = result;
		break;
	case CALL_OPENAT:
		to->dir = a[0], to->name = a[1], to->flags = a[2], to->mode = a[3], to->fd = result;
		break;
	case CALL_OPENAT2:
		to->dir = a[0], to->name = a[1], to->fd = result;
		read_open_how(a[2], to);
		break;
	case CALL_CREAT:
		to->flags = O_CREAT_FLAGS, to->mode = a[1], to->fd = result;
		break;
	case CALL_UNLINKAT:
		to->dir = a[0], to->name = a[1], to->flags = a[2];
		break;
	case CALL_RENAME:
	case CALL_LINK:
	case CALL_SYMLINK:
		to->new_name = a[1];
		break;
	case CALL_RENAMEAT:
	case CALL_RENAMEAT2:
	case CALL_LINKAT:
		to->dir = a[0], to->name = a[1], to->new_dir = a[2], to->new_name = a[3];
		to->flags = call == CALL_RENAMEAT ? 0 : (__u32)a[4];
		break;
	case CALL_SYMLINKAT:
		to->new_dir = a[1], to->new_name = a[2];
		break;
	case CALL_MKDIR:
	case CALL_CHMOD:
		to->mode = a[1];
		break;
	case CALL_MKDIRAT:
	case CALL_FCHMODAT:
		to->dir = a[0], to->name = a[1], to->mode = a[2];
		break;
	case CALL_FCHMODAT2:
		to->dir = a[0], to->name = a[1], to->mode = a[2], to->flags = a[3];
		break;
	case CALL_FCHMOD:
		to->name = 0, to->fd = a[0], to->mode = a[1];
		break;
	case CALL_CHOWN:
	case CALL_LCHOWN:
		to->mode = a[1], to->gid = a[2];
		break;
	case CALL_FCHOWN:
		to->name = 0, to->fd = a[0], to->mode = a[1], to->gid = a[2];
		break;
	case CALL_FCHOWNAT:
		to->dir = a[0], to->name = a[1], to->mode = a[2], to->gid = a[3], to->flags = a[4];
		break;
	case CALL_TRUNCATE:
		to->flags = a[1];
		break;
	case CALL_FTRUNCATE:
		to->name = 0, to->fd = a[0], to->flags = a[1];
		break;
	default:
		break;
	}
}

/* A name as it was given, and the directory that it is relative to. */
static __always_inline enum fit add_name(struct file_record *record, const __u32 room, const __u32 most, __u64 name,
					 __s32 dir, __u32 *name_bytes, __u32 *dir_bytes, __u32 known)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u32 before = used_bytes(&record->text_bytes);
	enum fit fit = append_user_string(record->text, &record->text_bytes, room, most, (void *)name);
	char first = 0;

	if (fit == TOO_LONG && room < LARGE_TEXT_BYTES)
		return fit;
	if (fit == TOO_LONG)
		record->file_flags |= FILE_TRUNCATED;
	else if (fit != FITS)
		record->file_flags |= FILE_UNREADABLE;
	*name_bytes = used_bytes(&record->text_bytes) - before;
	bpf_probe_read_user(&first, 1, (void *)name);
	if (first == '/')
		return FITS;
	struct dentry *dentry = BPF_CORE_READ(task, fs, pwd.dentry);
	struct vfsmount *mount = BPF_CORE_READ(task, fs, pwd.mnt);

	if (dir != AT_FDCWD) {
		struct file *file = file_of_fd(task, dir);

		if (!file)
			return FITS;
		dentry = BPF_CORE_READ(file, f_path.dentry);
		mount = BPF_CORE_READ(file, f_path.mnt);
	}
	before = used_bytes(&record->text_bytes);
	fit = append_path(record->text, &record->text_bytes, room, dentry, mount);
	if (fit == TOO_LONG && room < LARGE_TEXT_BYTES)
		return fit;
	record->file_flags |= known;
	if (fit != FITS)
		record->file_flags |= known == FILE_DIR_KNOWN ? FILE_CUT : FILE_NEW_CUT;
	*dir_bytes = used_bytes(&record->text_bytes) - before;
	return FITS;
}

static __always_inline enum fit fill_file(struct file_record *record, const __u32 room, const __u32 most, __u64 regs,
					  enum call call, __s64 result, __u64 resolved_ns, __u64 pid_tgid,
					  __u64 start_ns)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct call_arguments args;
	struct call_on_file what;
	enum fit fit;

	read_arguments(regs, &args);
	understand(call, &args, result, &what);
	fill_header(&record->header, RECORD_FILE, bpf_ktime_get_boot_ns(), pid_tgid, start_ns);
	record->resolved_ns = resolved_ns;
	record->flags = what.flags;
	record->mode = what.mode;
	record->gid = what.gid;
	record->result = result < 0 ? result : 0;
	record->fd = what.fd;
	record->call = call;
	record->file_flags = 0;
	record->name_bytes = 0;
	record->dir_bytes = 0;
	record->new_name_bytes = 0;
	record->new_dir_bytes = 0;
	record->text_bytes = 0;

	struct file *file = what.fd >= 0 ? file_of_fd(task, what.fd) : NULL;

	if (file) {
		fit = append_path(record->text, &record->text_bytes, room, BPF_CORE_READ(file, f_path.dentry),
				  BPF_CORE_READ(file, f_path.mnt));
		if (fit == TOO_LONG && room < LARGE_TEXT_BYTES)
			return fit;
		record->file_flags |= FILE_RESOLVED;
		if (fit == ANONYMOUS)
			record->file_flags |= FILE_ANONYMOUS;
		else if (fit != FITS)
			record->file_flags |= FILE_CUT;
		record->dir_bytes = used_bytes(&record->text_bytes);
		return FITS;
	}
	if (what.name && add_name(record, room, most, what.name, what.dir, &record->name_bytes, &record->dir_bytes,
				  FILE_DIR_KNOWN) == TOO_LONG)
		return TOO_LONG;
	if (what.new_name && add_name(record, room, most, what.new_name, what.new_dir, &record->new_name_bytes,
				      &record->new_dir_bytes, FILE_NEW_DIR_KNOWN) == TOO_LONG)
		return TOO_LONG;
	return FITS;
}

/* unlinkat may be a rmdir */
static __always_inline __u32 lost_call(__u64 regs, __u32 call)
{
	struct call_arguments args;

	if (call != CALL_UNLINKAT)
		return call;
	read_arguments(regs, &args);
	return args.a[2] & AT_REMOVEDIR ? CALL_RMDIR : CALL_UNLINKAT;
}

#define SEND_FILE(room, most)                                                                          \
	do {                                                                                           \
		__u64 pid_tgid = bpf_get_current_pid_tgid();                                           \
		struct task_struct *task = (struct task_struct *)bpf_get_current_task();               \
		struct ring_control *control = get_ring_control();                                     \
                                                                                                       \
		if (!control)                                                                          \
			return UNREADABLE;                                                             \
		struct file_record *record =                                                           \
			bpf_ringbuf_reserve(&records, sizeof(*record) + (room) + (most), 0);           \
		if (!record) {                                                                         \
			count_lost_record(control, LOST_CALLS + lost_call(regs, call));                \
			return UNREADABLE;                                                             \
		}                                                                                      \
		if (fill_file(record, room, most, regs, call, result, resolved_ns, pid_tgid,           \
			      BPF_CORE_READ(task, group_leader, start_boottime)) == TOO_LONG &&        \
		    (room) < LARGE_TEXT_BYTES) {                                                       \
			bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);                                 \
			return TOO_LONG;                                                               \
		}                                                                                      \
		submit(record, control);                                                               \
	} while (0)

/* Global functions, so that the verifier looks at them once. */
__noinline int send_file_small(__u64 regs, __u32 call, __s64 result, __u64 resolved_ns)
{
	SEND_FILE(SMALL_TEXT_BYTES, NAME_BYTES);
	return FITS;
}

__noinline int send_file_large(__u64 regs, __u32 call, __s64 result, __u64 resolved_ns)
{
	SEND_FILE(LARGE_TEXT_BYTES, PATH_BYTES);
	return FITS;
}

static __always_inline int file_call(__u64 regs, enum call call, __s64 result)
{
	__u64 start_ns;

	if (call < CALL_OPEN || call > CALL_FTRUNCATE || !current_matches(bpf_get_current_pid_tgid(), &start_ns))
		return 0;
	announce_process();
	__u64 resolved_ns = paths_resolved ? take_resolved() : 0;

	if (send_file_small(regs, call, result, resolved_ns) == TOO_LONG)
		send_file_large(regs, call, result, resolved_ns);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_openat")
int file_exit(struct sys_exit_context *ctx)
{
	return file_call(current_regs(), call_of_number(ctx->nr), ctx->result);
}

SEC("tp_btf/sys_exit")
int file_any_exit(__u64 *ctx)
{
	__u64 regs = argument(ctx, 0);
	__s64 nr = CALL_NUMBER(regs);
	enum call call = call_of_number(nr);

	if (is_compat_call(nr, CALL_OPEN) || call < CALL_OPEN || call > CALL_FTRUNCATE)
		return 0;
	return file_call(regs, call, ctx[1]);
}

/* --- what goes through a file: only on request, as it is run for every read and write ----------- */

struct open_file_key {
	__u32 tgid;
	__s32 fd;
};

struct open_file {
	__u64 bytes_read;
	__u64 bytes_written;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct open_file_key);
	__type(value, struct open_file);
} open_files SEC(".maps");

SEC("tracepoint/syscalls/sys_exit_read")
int io_exit(struct sys_exit_context *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), start_ns;
	enum call call = call_of_number(ctx->nr);
	struct call_arguments args;
	struct open_file fresh = {};

	if (ctx->result <= 0 || (call != CALL_READ && call != CALL_WRITE) || !current_matches(pid_tgid, &start_ns))
		return 0;
	read_arguments(current_regs(), &args);
	struct open_file_key key = { .tgid = pid_tgid >> 32, .fd = args.a[0] };
	struct open_file *found = bpf_map_lookup_elem(&open_files, &key);

	if (!found) {
		struct file *file = file_of_fd((struct task_struct *)bpf_get_current_task(), key.fd);

		if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFREG)
			return 0;
		bpf_map_update_elem(&open_files, &key, &fresh, BPF_NOEXIST);
		found = bpf_map_lookup_elem(&open_files, &key);
		if (!found)
			return 0;
	}
	__sync_fetch_and_add(call == CALL_READ ? &found->bytes_read : &found->bytes_written, ctx->result);
	return 0;
}

/* Tells what went through a descriptor that is still open, and forgets it. */
__noinline int close_file(__u32 fd)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct open_file_key key = { .tgid = pid_tgid >> 32, .fd = fd };
	struct open_file *found = bpf_map_lookup_elem(&open_files, &key);
	struct ring_control *control = get_ring_control();

	if (!found || !control)
		return 0;
	struct file *file = file_of_fd(task, fd);
	struct file_close_record *record =
		bpf_ringbuf_reserve(&records, sizeof(*record) + PATH_BYTES + NAME_BYTES, 0);

	if (!record) {
		count_lost_record(control, RECORD_FILE_CLOSE);
		bpf_map_delete_elem(&open_files, &key);
		return 0;
	}
	fill_header(&record->header, RECORD_FILE_CLOSE, bpf_ktime_get_boot_ns(), pid_tgid,
		    BPF_CORE_READ(task, group_leader, start_boottime));
	record->bytes_read = found->bytes_read;
	record->bytes_written = found->bytes_written;
	record->fd = fd;
	record->file_flags = 0;
	record->reserved = 0;
	record->text_bytes = 0;
	enum fit fit = file ? append_path(record->text, &record->text_bytes, PATH_BYTES,
					  BPF_CORE_READ(file, f_path.dentry), BPF_CORE_READ(file, f_path.mnt)) :
			      UNREADABLE;

	record->file_flags = FILE_RESOLVED;
	if (fit == ANONYMOUS)
		record->file_flags |= FILE_ANONYMOUS;
	else if (fit != FITS)
		record->file_flags |= FILE_CUT;
	submit(record, control);
	bpf_map_delete_elem(&open_files, &key);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_close")
int io_close(struct sys_enter_context *ctx)
{
	__u64 start_ns;

	if (current_matches(bpf_get_current_pid_tgid(), &start_ns)) {
		announce_process();
		close_file(ctx->args[0]);
	}
	return 0;
}

SEC("tp_btf/sched_process_exit")
int io_end(__u64 *ctx)
{
	close_all((struct task_struct *)ctx[0], close_file);
	return 0;
}

/* --- io_uring: only counted ----------------------------------------------------------------------- */

SEC("tp_btf/io_uring_submit_req")
int file_uring(__u64 *ctx)
{
	struct io_kiocb *request = (struct io_kiocb *)ctx[0];

	switch (BPF_CORE_READ(request, opcode)) { /* include/uapi/linux/io_uring.h */
	case 18: /* OPENAT */
	case 28: /* OPENAT2 */
	case 35: /* RENAMEAT */
	case 36: /* UNLINKAT */
	case 37: /* MKDIRAT */
	case 38: /* SYMLINKAT */
	case 39: /* LINKAT */
	case 55: /* FTRUNCATE */
		count_uring_call();
	}
	return 0;
}
