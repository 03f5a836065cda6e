// SPDX-License-Identifier: MIT
/*
 * Lives of processes: fork, exec, exit; signals that are sent; lines that are entered in a shell.
 *
 * Attached after the programs of track.bpf.c where they mark who matches (fork, exec), and before them
 * where they forget (exit).
 */
#include "stack.h"
#include "syscalls.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

KEEP_TYPE(record_header);
KEEP_TYPE(process_record);
KEEP_TYPE(exec_args_record);
KEEP_TYPE(fork_record);
KEEP_TYPE(exit_record);
KEEP_TYPE(signal_record);
KEEP_TYPE(shell_line_record);

#define MAX_ARGS_BYTES (128 * 1024)
#define MAX_ARGS_CHUNKS 160
#define SIGNAL_GROUP_EXIT 4 /* include/linux/sched/signal.h */

const volatile bool show_fork = true;
const volatile bool show_exec = true;
const volatile bool show_exit = true;
const volatile bool life_of_all = false; /* of processes that do not match too */

/* Ends that have been told: before Linux 6.16 the last two threads may both seem to be the last one. */
struct ended_key {
	__u64 start_ns;
	__u32 tgid;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct ended_key);
	__type(value, __u8);
} ended SEC(".maps");

static __always_inline bool life_wanted(__u64 pid_tgid, __u64 *start_ns)
{
	bool matches = current_matches(pid_tgid, start_ns);

	return matches || (life_of_all && !(ignored_tgid && pid_tgid >> 32 == ignored_tgid));
}

SEC("tp_btf/sched_process_fork")
int process_fork(__u64 *ctx)
{
	struct task_struct *child = (struct task_struct *)ctx[1];
	__u32 tgid = BPF_CORE_READ(child, tgid);
	__u64 pid_tgid = bpf_get_current_pid_tgid(), start_ns;
	struct ring_control *control = get_ring_control();

	if (BPF_CORE_READ(child, pid) != tgid || !control || !life_wanted(pid_tgid, &start_ns))
		return 0;
	__u64 child_start_ns = BPF_CORE_READ(child, start_boottime);

	announce_process();
	struct fork_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);

	if (!record) {
		if (show_fork)
			count_lost_record(control, RECORD_FORK);
		return 0;
	}
	struct task_struct *parent = BPF_CORE_READ(child, real_parent, group_leader);

	fill_header(&record->header, RECORD_FORK, bpf_ktime_get_boot_ns(), pid_tgid, start_ns);
	record->child_start_ns = child_start_ns;
	record->child_tgid = tgid;
	record->ppid = BPF_CORE_READ(parent, tgid);
	record->parent_start_ns = BPF_CORE_READ(parent, start_boottime);
	submit(record, control);
	/* the reader now knows the child: it is as its parent is */
	struct process_state *state = get_process(tgid, child_start_ns);

	if (state)
		state->announced = 1;
	return 0;
}

/* Reserved with a constant size, copied with the real one. */
#define SEND_ARGS(capacity)                                                                            \
	do {                                                                                           \
		__u32 n = take;                                                                        \
                                                                                                       \
		record = bpf_ringbuf_reserve(&records, sizeof(*record) + (capacity), 0);               \
		asm volatile("" : "+r"(n));                                                            \
		if (n > (capacity))                                                                    \
			n = (capacity);                                                                \
		if (record)                                                                            \
			fault = bpf_probe_read_user(record->payload, n, (void *)(start + offset));     \
	} while (0)

/* Sends the arguments from `offset` on; returns where the next part begins, 0 if there is none. */
__noinline int send_args(__u32 offset)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	__u64 start = BPF_CORE_READ(task, mm, arg_start), end = BPF_CORE_READ(task, mm, arg_end);
	struct ring_control *control = get_ring_control();
	struct exec_args_record *record;
	long fault = 0;

	if (!control || start + offset >= end || offset >= MAX_ARGS_BYTES)
		return 0;
	__u64 left = end - start - offset;
	__u32 take = left < max_chunk_bytes ? left : max_chunk_bytes;

	if (take > MAX_ARGS_BYTES - offset)
		take = MAX_ARGS_BYTES - offset;
	if (take <= 128)
		SEND_ARGS(128);
	else if (take <= 512)
		SEND_ARGS(512);
	else if (take <= 2048)
		SEND_ARGS(2048);
	else if (take <= 16384)
		SEND_ARGS(16384);
	else
		SEND_ARGS(65536);
	if (!record)
		return 0; /* the record of the exec says how many bytes there are */
	fill_header(&record->header, RECORD_EXEC_ARGS, bpf_ktime_get_boot_ns(), bpf_get_current_pid_tgid(),
		    BPF_CORE_READ(leader, start_boottime));
	record->exec_count = BPF_CORE_READ(leader, self_exec_id);
	record->offset = offset;
	record->data_bytes = take;
	if (fault) {
		bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		count_loss(control, LOSS_READ_FAULT, take);
	} else {
		submit(record, control);
	}
	return offset + take;
}

SEC("tp_btf/sched_process_exec")
int process_exec(__u64 *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), start_ns, bprm = argument(ctx, 2);
	__u32 tgid = pid_tgid >> 32, offset = 0;
	struct ring_control *control = get_ring_control();
	struct task_struct *task = (struct task_struct *)ctx[0];

	if (!control || !life_wanted(pid_tgid, &start_ns))
		return 0;
	if (is_32_bit(task))
		count_loss(control, LOSS_COMPAT, 0);
	if (!show_exec) {
		announce_process();
		return 0;
	}
	for (int i = 0; i < MAX_ARGS_CHUNKS; i++) {
		offset = send_args(offset);
		if (!offset)
			break;
	}
	if (send_process(RECORD_EXEC, bprm, (__u64)BPF_CORE_READ(task, group_leader)) != FITS)
		return 0;
	struct process_state *state = get_process(tgid, start_ns);

	if (state)
		state->announced = 1;
	return 0;
}

SEC("tp_btf/sched_process_exit")
int process_exit(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct signal_struct *signal = BPF_CORE_READ(task, signal);
	__u64 pid_tgid = bpf_get_current_pid_tgid(), start_ns;
	struct ring_control *control = get_ring_control();

	if (BPF_CORE_READ(signal, live.counter) || !control || !life_wanted(pid_tgid, &start_ns))
		return 0;
	struct ended_key key = { .start_ns = start_ns, .tgid = pid_tgid >> 32 };
	__u8 one = 1;

	if (bpf_map_update_elem(&ended, &key, &one, BPF_NOEXIST))
		return 0;
	announce_process();
	struct exit_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);

	if (!record) {
		if (show_exit)
			count_lost_record(control, RECORD_EXIT);
		return 0;
	}
	fill_header(&record->header, RECORD_EXIT, bpf_ktime_get_boot_ns(), pid_tgid, start_ns);
	record->user_ns = BPF_CORE_READ(signal, utime) + BPF_CORE_READ(task, utime);
	record->system_ns = BPF_CORE_READ(signal, stime) + BPF_CORE_READ(task, stime);
	record->runtime_ns = BPF_CORE_READ(signal, sum_sched_runtime) + BPF_CORE_READ(task, se.sum_exec_runtime);
	if (task != leader) { /* it ended earlier, and still waits for the others */
		record->user_ns += BPF_CORE_READ(leader, utime);
		record->system_ns += BPF_CORE_READ(leader, stime);
		record->runtime_ns += BPF_CORE_READ(leader, se.sum_exec_runtime);
	}
	record->max_rss_pages = BPF_CORE_READ(signal, maxrss);
	record->status = BPF_CORE_READ(signal, flags) & SIGNAL_GROUP_EXIT ?
				 BPF_CORE_READ(signal, group_exit_code) :
				 BPF_CORE_READ(leader, exit_code);
	record->reserved = 0;
	submit(record, control);
	return 0;
}

/*
 * Tells of the processes that ran before: those that match, or all. Run after everything is attached, so
 * that none is missed; one that has been told of meanwhile is not told again.
 */
SEC("iter/task")
int tell_running(struct bpf_iter__task *ctx)
{
	__u64 task = argument((__u64 *)ctx, 1);
	struct task_struct *leader = (struct task_struct *)task;

	if (!task)
		return 0;
	__u32 tgid = BPF_CORE_READ(leader, tgid);
	__u64 start_ns = BPF_CORE_READ(leader, start_boottime);
	bool all = life_of_all || !(filter_flags & (FILTER_PIDS | FILTER_COMMS | FILTER_CGROUP));

	if (BPF_CORE_READ(leader, pid) != tgid || (!all && !is_marked(tgid, start_ns)))
		return 0;
	struct process_state *state = get_process(tgid, start_ns);

	if (!state || state->announced || send_process(RECORD_PROCESS, 0, task) != FITS)
		return 0;
	state = bpf_map_lookup_elem(&processes, &tgid);
	if (state)
		state->announced = 1;
	return 0;
}

/* --- signals ----------------------------------------------------------------------------------- */

static __always_inline __s32 pid_of_pidfd(struct task_struct *task, __s32 fd)
{
	struct file *file = file_of_fd(task, fd);
	struct pid *pid;

	if (!file)
		return 0;
	if (bpf_core_field_exists(struct pid, stashed))
		pid = BPF_CORE_READ(file, f_inode, i_private);
	else
		pid = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(pid, numbers[0].nr);
}

__noinline int signal_call(__u64 regs, __s64 nr, __s64 result)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), start_ns;
	struct ring_control *control = get_ring_control();
	enum call call = call_of_number(nr);
	struct call_arguments args;

	if (!control || call < CALL_KILL || call > CALL_RT_TGSIGQUEUEINFO || !current_matches(pid_tgid, &start_ns))
		return 0;
	announce_process();
	read_arguments(regs, &args);
	struct signal_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);

	if (!record) {
		count_lost_record(control, RECORD_SIGNAL);
		return 0;
	}
	fill_header(&record->header, RECORD_SIGNAL, bpf_ktime_get_boot_ns(), pid_tgid, start_ns);
	bool two = call == CALL_TGKILL || call == CALL_RT_TGSIGQUEUEINFO; /* process and thread */

	record->target = args.a[0];
	if (call == CALL_PIDFD_SEND_SIGNAL)
		record->target = pid_of_pidfd((struct task_struct *)bpf_get_current_task(), args.a[0]);
	record->signal = two ? args.a[2] : args.a[1];
	record->result = result;
	record->call = call;
	submit(record, control);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_kill")
int signal_exit(struct sys_exit_context *ctx)
{
	return signal_call(current_regs(), ctx->nr, ctx->result);
}

SEC("tp_btf/sys_exit")
int signal_any_exit(__u64 *ctx)
{
	__u64 regs = argument(ctx, 0);
	__s64 nr = CALL_NUMBER(regs);
	enum call call = call_of_number(nr);

	if (is_compat_call(nr, CALL_KILL) || call < CALL_KILL || call > CALL_RT_TGSIGQUEUEINFO)
		return 0;
	return signal_call(regs, nr, ctx[1]);
}

/* --- shell lines -------------------------------------------------------------------------------- */

SEC("uretprobe")
int readline_return(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), start_ns;
	struct ring_control *control = get_ring_control();
	const void *line = (const void *)RETURN_VALUE(ctx);

	keep_own_stack(ctx);
	if (!line || !control || !current_matches(pid_tgid, &start_ns))
		return 0;
	announce_process();
	struct shell_line_record *record = bpf_ringbuf_reserve(&records, sizeof(*record) + PATH_BYTES, 0);

	if (!record) {
		count_lost_record(control, RECORD_SHELL_LINE);
		return 0;
	}
	fill_header(&record->header, RECORD_SHELL_LINE, bpf_ktime_get_boot_ns(), pid_tgid, start_ns);
	long n = bpf_probe_read_user_str(record->payload, PATH_BYTES, line);

	if (n <= 0) {
		count_loss(control, LOSS_READ_FAULT, 0);
		n = 1;
	}
	record->data_bytes = n - 1;
	record->flags = n == PATH_BYTES;
	submit(record, control);
	return 0;
}
