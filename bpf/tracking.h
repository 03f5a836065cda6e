/* SPDX-License-Identifier: MIT */
/*
 * Which processes are wanted, and which of them the reader knows already.
 * track.bpf.c keeps the map true over fork, exec and exit; the other objects ask it.
 */
#ifndef LAT_TRACKING_H
#define LAT_TRACKING_H

#include "paths.h"

#define MAX_PROCESSES 32768

enum filter_flags {
	FILTER_PIDS = 1,	 /* only processes marked as matched … */
	FILTER_COMMS = 2,	 /* … or whose leader's comm is in filter_comms */
	FILTER_UID = 4,		 /* and only of this user */
	FILTER_DESCENDANTS = 8,	 /* a matched process's children match too */
	FILTER_CGROUP = 16,	 /* … or in the cgroup of filter_cgroup */
	FILTER_EXE = 32,	 /* filter_comms has names of executables too */
};

const volatile __u32 filter_flags = 0;
const volatile __u32 filter_uid = 0;
const volatile __u32 ignored_tgid = 0; /* the tracer itself, when everything is traced */

enum matched {
	MATCHED_NOT = 0,
	MATCHED = 1,
	MATCHED_AT_EXEC = 2, /* from its next exec on: until then it is the tracer's own child */
};

struct process_state {
	__u64 start_ns;	 /* tells a reused pid */
	__u32 matched; /* enum matched */
	__u32 announced; /* its process record has been sent since the last exec */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PROCESSES);
	__type(key, __u32);
	__type(value, struct process_state);
} processes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, char[COMM_BYTES]);
	__type(value, __u8);
} filter_comms SEC(".maps");

/* An argument of a BTF tracepoint as a number: the verifier lets no kernel pointer into a global function. */
static __always_inline __u64 argument(__u64 *ctx, __u32 index)
{
	__u64 value = 0;

	bpf_probe_read_kernel(&value, sizeof(value), &ctx[index]);
	return value;
}

/* One cgroup (v2); set by the reader. */
struct {
	__uint(type, BPF_MAP_TYPE_CGROUP_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} filter_cgroup SEC(".maps");

/* By the comm of the leader, or by the executable's file name, both as far as a comm goes. */
static __always_inline bool comm_matches(struct task_struct *leader)
{
	char name[COMM_BYTES] = {};

	BPF_CORE_READ_STR_INTO(&name, leader, comm);
	if (bpf_map_lookup_elem(&filter_comms, name))
		return true;
	if (!(filter_flags & FILTER_EXE))
		return false;
	struct file *exe = BPF_CORE_READ(leader, mm, exe_file);

	if (!exe)
		return false;
	__builtin_memset(name, 0, sizeof(name));
	bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(exe, f_path.dentry, d_name.name));
	return bpf_map_lookup_elem(&filter_comms, name) != NULL;
}

static __always_inline bool current_in_cgroup(void)
{
	return (filter_flags & FILTER_CGROUP) && bpf_current_task_under_cgroup(&filter_cgroup, 0) == 1;
}

static __always_inline bool is_marked(__u32 tgid, __u64 start_ns)
{
	struct process_state *state = bpf_map_lookup_elem(&processes, &tgid);

	return state && state->start_ns == start_ns && state->matched == MATCHED;
}

/*
 * Whether the current process is wanted. Pids, comms and cgroup widen the choice, the uid narrows it; with
 * none of the first three all processes match.
 */
static __always_inline bool process_matches(struct task_struct *leader, __u32 tgid, __u64 start_ns, __u32 uid)
{
	if (ignored_tgid && tgid == ignored_tgid)
		return false;
	if ((filter_flags & FILTER_UID) && uid != filter_uid)
		return false;
	if (!(filter_flags & (FILTER_PIDS | FILTER_COMMS | FILTER_CGROUP)))
		return true;
	if ((filter_flags & (FILTER_PIDS | FILTER_DESCENDANTS)) && is_marked(tgid, start_ns))
		return true;
	return ((filter_flags & FILTER_COMMS) && comm_matches(leader)) || current_in_cgroup();
}

/* As comm_matches(), where pointers can be followed without a helper for each step (Linux 5.11). */
static __always_inline bool comm_matches_directly(struct task_struct *leader)
{
	char name[COMM_BYTES] = {};

	bpf_probe_read_kernel_str(name, sizeof(name), leader->comm);
	if (bpf_map_lookup_elem(&filter_comms, name))
		return true;
	if (!(filter_flags & FILTER_EXE))
		return false;
	__builtin_memset(name, 0, sizeof(name));
	/* a step from nowhere gives nothing: kernel threads have no program */
	bpf_probe_read_kernel_str(name, sizeof(name), leader->mm->exe_file->f_path.dentry->d_name.name);
	return bpf_map_lookup_elem(&filter_comms, name) != NULL;
}

/* Every call of every process that is not wanted pays for this. */
static __always_inline bool current_matches(__u64 pid_tgid, __u64 *start_ns)
{
	struct task_struct *leader;
	__u32 tgid = pid_tgid >> 32;

	if (!bpf_core_enum_value_exists(enum bpf_func_id___probe, BPF_FUNC_get_current_task_btf___probe)) {
		leader = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), group_leader);
		*start_ns = BPF_CORE_READ(leader, start_boottime);
		return process_matches(leader, tgid, *start_ns, (__u32)bpf_get_current_uid_gid());
	}
	leader = bpf_get_current_task_btf()->group_leader;
	*start_ns = leader->start_boottime;
	if (ignored_tgid && tgid == ignored_tgid)
		return false;
	if ((filter_flags & FILTER_UID) && (__u32)bpf_get_current_uid_gid() != filter_uid)
		return false;
	if (!(filter_flags & (FILTER_PIDS | FILTER_COMMS | FILTER_CGROUP)))
		return true;
	if ((filter_flags & (FILTER_PIDS | FILTER_DESCENDANTS)) && is_marked(tgid, *start_ns))
		return true;
	return ((filter_flags & FILTER_COMMS) && comm_matches_directly(leader)) || current_in_cgroup();
}

/* Reads what a process record tells, and its paths: executable, working directory, file name. */
static __always_inline enum fit fill_process(struct process_record *record, const __u32 room, const __u32 most,
					     enum record_kind kind, struct task_struct *leader, __u64 bprm)
{
	struct task_struct *parent = BPF_CORE_READ(leader, real_parent, group_leader);
	struct mm_struct *mm = BPF_CORE_READ(leader, mm);
	struct file *exe = BPF_CORE_READ(mm, exe_file);
	struct pid *pid = BPF_CORE_READ(leader, thread_pid);
	enum fit fit = FITS;
	__u32 level = BPF_CORE_READ(pid, level);
	__u32 tgid = BPF_CORE_READ(leader, tgid);
	__u64 pid_tgid = bpf_get_current_pid_tgid();

	fill_header(&record->header, kind, bpf_ktime_get_boot_ns(),
		    pid_tgid >> 32 == tgid ? pid_tgid : (__u64)tgid << 32 | tgid,
		    BPF_CORE_READ(leader, start_boottime));
	record->header.uid = BPF_CORE_READ(leader, cred, uid.val);
	record->parent_start_ns = BPF_CORE_READ(parent, start_boottime);
	record->ppid = BPF_CORE_READ(parent, tgid);
	record->exec_count = BPF_CORE_READ(leader, self_exec_id);
	record->cgroup_id = BPF_CORE_READ(leader, cgroups, dfl_cgrp, kn, id);
	record->gid = BPF_CORE_READ(leader, cred, gid.val);
	record->namespace_pid = 0;
	bpf_core_read(&record->namespace_pid, sizeof(__s32),
		      (void *)pid + bpf_core_field_offset(struct pid, numbers) +
			      level * bpf_core_type_size(struct upid));
	BPF_CORE_READ_INTO(&record->comm, leader, comm);
	record->flags = 0;
	record->exe_bytes = 0;
	record->cwd_bytes = 0;
	record->text_bytes = 0;
	record->args_bytes = BPF_CORE_READ(mm, arg_end) - BPF_CORE_READ(mm, arg_start);
	if (mm && BPF_CORE_READ(mm, task_size) <= 1ULL << 32)
		record->flags |= PROCESS_COMPAT;
	if (exe) {
		struct dentry *dentry = BPF_CORE_READ(exe, f_path.dentry);

		if (is_unlinked(dentry))
			record->flags |= PROCESS_EXE_DELETED;
		fit = append_path(record->text, &record->text_bytes, room, dentry, BPF_CORE_READ(exe, f_path.mnt));
		if (fit == TOO_LONG)
			return fit;
		if (fit == ANONYMOUS)
			record->flags |= PROCESS_EXE_ANONYMOUS;
		else if (fit != FITS)
			record->flags |= PROCESS_EXE_TRUNCATED;
	}
	record->exe_bytes = used_bytes(&record->text_bytes);
	if (!bprm)
		return FITS;
	fit = append_path(record->text, &record->text_bytes, room, BPF_CORE_READ(leader, fs, pwd.dentry),
			  BPF_CORE_READ(leader, fs, pwd.mnt));
	if (fit == TOO_LONG)
		return fit;
	if (fit != FITS)
		record->flags |= PROCESS_CWD_TRUNCATED;
	record->cwd_bytes = used_bytes(&record->text_bytes) - record->exe_bytes;
	__u32 used = used_bytes(&record->text_bytes);

	if (used > room)
		return TOO_LONG;
	long n = bpf_probe_read_kernel_str(record->text + used, most,
					   BPF_CORE_READ((struct linux_binprm *)bprm, filename));
	if (n > 0)
		record->text_bytes = used + n;
	return n >= most ? TOO_LONG : FITS;
}

/* In either size; a constant one each, as the verifier wants it. */
#define SEND_PROCESS(room, most)                                                                       \
	do {                                                                                           \
		struct process_record *record =                                                        \
			bpf_ringbuf_reserve(&records, sizeof(*record) + (room) + (most), 0);           \
		if (!record) {                                                                         \
			count_lost_record(control, kind);                                              \
			return UNREADABLE;                                                             \
		}                                                                                      \
		enum fit fit = fill_process(record, room, most, kind, leader, bprm);                   \
		if (fit == TOO_LONG && (room) < LARGE_TEXT_BYTES) {                                    \
			bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);                                 \
			return TOO_LONG;                                                               \
		}                                                                                      \
		submit(record, control);                                                               \
	} while (0)

/*
 * Global functions, so that the verifier looks at them once. `bprm`: 0, or that of the exec. `task`: the
 * thread group's leader.
 */
__noinline int send_process_small(__u32 kind, __u64 bprm, __u64 task)
{
	struct task_struct *leader = (struct task_struct *)task;
	struct ring_control *control = get_ring_control();

	if (!control)
		return UNREADABLE;
	SEND_PROCESS(SMALL_TEXT_BYTES, NAME_BYTES);
	return FITS;
}

__noinline int send_process_large(__u32 kind, __u64 bprm, __u64 task)
{
	struct task_struct *leader = (struct task_struct *)task;
	struct ring_control *control = get_ring_control();

	if (!control)
		return UNREADABLE;
	SEND_PROCESS(LARGE_TEXT_BYTES, PATH_BYTES);
	return FITS;
}

static __always_inline int send_process(__u32 kind, __u64 bprm, __u64 task)
{
	int fit = send_process_small(kind, bprm, task);

	return fit == TOO_LONG ? send_process_large(kind, bprm, task) : fit;
}

/* The current process's entry in `processes`, made if need be; NULL if there is no room. */
static __always_inline struct process_state *get_process(__u32 tgid, __u64 start_ns)
{
	struct process_state *state = bpf_map_lookup_elem(&processes, &tgid);
	struct process_state fresh = { .start_ns = start_ns };
	struct ring_control *control;

	if (state && state->start_ns == start_ns)
		return state;
	if (bpf_map_update_elem(&processes, &tgid, &fresh, BPF_ANY)) {
		control = get_ring_control();
		if (control)
			count_loss(control, LOSS_MAP_FULL, 0);
	}
	return bpf_map_lookup_elem(&processes, &tgid);
}

/*
 * Sends the current process's record unless the reader has it. If the ring is full, the next record of
 * the process tries again.
 */
__noinline int announce_process(void)
{
	struct task_struct *leader = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), group_leader);
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct process_state *state = get_process(tgid, BPF_CORE_READ(leader, start_boottime));

	if (state && state->announced)
		return 0;
	if (send_process(RECORD_PROCESS, 0, (__u64)leader) != FITS)
		return 0;
	state = bpf_map_lookup_elem(&processes, &tgid); /* the verifier has forgotten it */
	if (state)
		state->announced = 1;
	return 0;
}

#endif
