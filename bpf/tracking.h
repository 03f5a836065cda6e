/* SPDX-License-Identifier: MIT */
/*
 * Which processes are wanted, and which of them the reader knows already.
 * track.bpf.c keeps the map true over fork, exec and exit; the other objects ask it.
 */
#ifndef LAT_TRACKING_H
#define LAT_TRACKING_H

#include "ring.h"

#define MAX_PROCESSES 32768
#define MAX_PATH_COMPONENTS 64
#define NAME_BYTES 256

enum filter_flags {
	FILTER_PIDS = 1,	 /* only processes marked as matched … */
	FILTER_COMMS = 2,	 /* … or whose leader's comm is in filter_comms */
	FILTER_UID = 4,		 /* and only of this user */
	FILTER_DESCENDANTS = 8,	 /* a matched process's children match too */
};

const volatile __u32 filter_flags = 0;
const volatile __u32 filter_uid = 0;
const volatile __u32 ignored_tgid = 0; /* the tracer itself, when everything is traced */

struct process_state {
	__u64 start_ns;	 /* tells a reused pid */
	__u32 matched;
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

static __always_inline bool comm_matches(struct task_struct *leader)
{
	char comm[COMM_BYTES] = {};

	BPF_CORE_READ_STR_INTO(&comm, leader, comm);
	return bpf_map_lookup_elem(&filter_comms, comm) != NULL;
}

static __always_inline bool is_marked(__u32 tgid, __u64 start_ns)
{
	struct process_state *state = bpf_map_lookup_elem(&processes, &tgid);

	return state && state->start_ns == start_ns && state->matched;
}

/* Pids and comms widen the choice, the uid narrows it; with neither pids nor comms all processes match. */
static __always_inline bool process_matches(struct task_struct *leader, __u32 tgid, __u64 start_ns, __u32 uid)
{
	if (ignored_tgid && tgid == ignored_tgid)
		return false;
	if ((filter_flags & FILTER_UID) && uid != filter_uid)
		return false;
	if (!(filter_flags & (FILTER_PIDS | FILTER_COMMS)))
		return true;
	if ((filter_flags & (FILTER_PIDS | FILTER_DESCENDANTS)) && is_marked(tgid, start_ns))
		return true;
	return (filter_flags & FILTER_COMMS) && comm_matches(leader);
}

/*
 * bpf_d_path cannot be called here, so walk to the root by hand; the reader turns the names round.
 * How much is used stands in the record, not in a register: the verifier then has one state to follow.
 */
static __always_inline void read_exe_path(struct file *file, struct process_record *record)
{
	struct dentry *dentry = BPF_CORE_READ(file, f_path.dentry);
	struct vfsmount *vfsmount = BPF_CORE_READ(file, f_path.mnt);
	struct mount *mount = container_of(vfsmount, struct mount, mnt);

	for (int i = 0; i < MAX_PATH_COMPONENTS; i++) {
		struct dentry *parent = BPF_CORE_READ(dentry, d_parent);

		if (dentry == BPF_CORE_READ(mount, mnt.mnt_root) || dentry == parent) {
			struct mount *above = BPF_CORE_READ(mount, mnt_parent);

			if (above == mount || !above)
				return;
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = above;
			continue;
		}
		__u32 used = *(volatile __u32 *)&record->exe_bytes;

		if (used > PATH_BYTES - NAME_BYTES)
			break;
		long n = bpf_probe_read_kernel_str(record->exe + used, NAME_BYTES, BPF_CORE_READ(dentry, d_name.name));
		if (n <= 0)
			break;
		record->exe_bytes = used + n;
		dentry = parent;
	}
	record->flags |= PROCESS_EXE_TRUNCATED;
}

/*
 * Sends the current process's record unless the reader has it. A global function, so that the
 * verifier looks at it once. If the ring is full, the next record of the process tries again.
 */
__noinline int announce_process(void)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u32 tgid = pid_tgid >> 32;
	struct task_struct *leader = BPF_CORE_READ((struct task_struct *)bpf_get_current_task(), group_leader);
	__u64 start_ns = BPF_CORE_READ(leader, start_boottime);
	struct process_state *state = bpf_map_lookup_elem(&processes, &tgid);
	struct ring_control *control = get_ring_control();

	if (!control)
		return 0;
	if (!state || state->start_ns != start_ns) {
		struct process_state fresh = { .start_ns = start_ns };

		if (bpf_map_update_elem(&processes, &tgid, &fresh, BPF_ANY))
			count_loss(control, LOSS_MAP_FULL, 0);
		state = bpf_map_lookup_elem(&processes, &tgid);
	} else if (state->announced) {
		return 0;
	}

	struct process_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);
	if (!record) {
		count_loss(control, LOSS_RING_FULL, 0);
		return 0;
	}
	struct task_struct *parent = BPF_CORE_READ(leader, real_parent, group_leader);

	fill_header(&record->header, RECORD_PROCESS, bpf_ktime_get_boot_ns(), pid_tgid, start_ns);
	record->parent_start_ns = BPF_CORE_READ(parent, start_boottime);
	record->ppid = BPF_CORE_READ(parent, tgid);
	record->exec_count = BPF_CORE_READ(leader, self_exec_id);
	record->cgroup_id = bpf_get_current_cgroup_id();
	record->uid = BPF_CORE_READ(leader, cred, uid.val);
	BPF_CORE_READ_INTO(&record->comm, leader, comm);
	record->flags = 0;
	record->exe_bytes = 0;
	struct file *exe = BPF_CORE_READ(leader, mm, exe_file);
	if (exe)
		read_exe_path(exe, record);
	submit(record, control);
	if (state)
		state->announced = 1;
	return 0;
}

#endif
