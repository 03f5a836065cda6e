// SPDX-License-Identifier: MIT
/*
 * Tells the tracer which images wanted processes run or load that it has not looked at yet, and holds
 * processes that it has launched itself until it has.
 *
 * Quiet in the steady state: an image in `known_images` costs one look-up and gives no notice. A process is
 * held by a SIGSTOP to its thread group, which takes effect before it is back in user space: at exec before
 * the first instruction of the new program, at dlopen before the first constructor of the new library.
 * `held` says who is held, so that a watchdog can let them go if the tracer dies.
 */
#include "tracking.h"
#include "images.h"
#include "stack.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define MAX_LAUNCHED 16384
#define MAX_LOADED_OBJECTS 4096
#define STOP_SIGNAL 19 /* SIGSTOP on x86-64 and arm64 */
#define SETUID_MODE 04000
#define EBUSY 16
#define SAME_LIST 0 /* r_state RT_CONSISTENT */

const volatile __u32 hold = 0;	     /* whether launched processes are held */
const volatile __u32 holder_uid = 0; /* the tracer's: unless it is root, it can let only its own go */

enum notice_kind {
	NOTICE_EXEC = 1,
	NOTICE_MAPPED = 2,
};

/* An image that is not known; inode 0: the kernel cannot tell which. libagenttracer/system/notices.py declares the same layout. */
struct notice {
	__u32 kind;
	__u32 tgid;
	__u64 start_ns;
	struct image_key image;
	__u32 held;
	__u32 reserved;
};

/*
 * Stays until the process ends or is held again: if the tracer took it out before it lets the process go,
 * and died between, the process would be forgotten; and after, it could take out the next one.
 */
#define LET_GO (1ULL << 63) /* set by the tracer */

struct held_state {
	__u64 start_ns; /* tells a reused pid */
	__u64 since_ns; /* CLOCK_BOOTTIME; with LET_GO: when it was let go */
};

/* What a process had loaded when its dynamic loader was last seen. */
struct loaded_state {
	__u64 start_ns;
	__u64 exec_count;
	__u64 objects;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} notices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct image_key);
	__type(value, __u8);
} known_images SEC(".maps");

/*
 * The command that the tracer has launched, and its descendants: thread-group id -> start time (0 for the
 * command itself: its entry is made before it runs and goes when it ends).
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_LAUNCHED);
	__type(key, __u32);
	__type(value, __u64);
} launched SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_LAUNCHED);
	__type(key, __u32);
	__type(value, struct held_state);
} held SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32);
	__type(value, struct loaded_state);
} loaded SEC(".maps");

__u64 lost_notices; /* the ring was full; the next look at all processes finds what they were about */
__u64 unheld;	    /* launched processes that ran on although their image was not known */

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct signal_struct___groups {
	struct pid *pids[4]; /* enum pid_type: PID, TGID, PGID, SID */
	void *tty;
};

struct task_struct___traced {
	__u32 ptrace;
	void *mm;
};

#pragma clang attribute pop

#define PROCESS_GROUP 2
#define SESSION 3

static __always_inline bool is_launched(__u32 tgid, __u64 start_ns)
{
	__u64 *since = bpf_map_lookup_elem(&launched, &tgid);

	return since && (!*since || *since == start_ns);
}

/*
 * Whether a stop would be harmless. The parent of a stopped process can see that. A shell with job control
 * takes it for the user's Ctrl-Z, and gives its jobs process groups of their own, by which they are known;
 * what gives its child a terminal, as script does, may stop itself with it, and so do sudo and su; a debugger
 * would show it.
 */
static __always_inline bool may_stop(struct task_struct *leader)
{
	struct signal_struct___groups *groups = (void *)BPF_CORE_READ(leader, signal);
	struct pid *self = BPF_CORE_READ(leader, thread_pid);
	struct task_struct *parent = BPF_CORE_READ(leader, real_parent, group_leader);
	struct inode___of_image *parent_image;

	if (BPF_CORE_READ((struct task_struct___traced *)leader, ptrace))
		return false;
	if (holder_uid && BPF_CORE_READ(leader, cred, uid.val) != holder_uid)
		return false;
	if (BPF_CORE_READ(groups, pids[PROCESS_GROUP]) == self &&
	    (BPF_CORE_READ(groups, pids[SESSION]) != self || BPF_CORE_READ(groups, tty)))
		return false;
	parent_image = (void *)BPF_CORE_READ(parent, mm, exe_file, f_inode);
	return !(BPF_CORE_READ(parent_image, i_mode) & SETUID_MODE);
}

/* Returns whether the current process is stopped when it would next be in user space. */
static __always_inline bool hold_current(struct task_struct *leader, __u32 tgid, __u64 start_ns)
{
	struct held_state state = { .start_ns = start_ns, .since_ns = bpf_ktime_get_boot_ns() };

	if (!hold || !is_launched(tgid, start_ns))
		return false;
	/* noted first: whoever is stopped must be in the map */
	if (!may_stop(leader) || bpf_map_update_elem(&held, &tgid, &state, BPF_ANY)) {
		__sync_fetch_and_add(&unheld, 1);
		return false;
	}
	if (bpf_send_signal(STOP_SIGNAL)) {
		bpf_map_delete_elem(&held, &tgid);
		__sync_fetch_and_add(&unheld, 1);
		return false;
	}
	debug("holding process %u", tgid);
	return true;
}

static __always_inline void give_notice(enum notice_kind kind, __u32 tgid, __u64 start_ns,
					const struct image_key *image, bool is_held)
{
	struct notice *notice = bpf_ringbuf_reserve(&notices, sizeof(*notice), 0);

	if (!notice) {
		__sync_fetch_and_add(&lost_notices, 1);
		return;
	}
	notice->kind = kind;
	notice->tgid = tgid;
	notice->start_ns = start_ns;
	notice->image = *image;
	notice->held = is_held;
	notice->reserved = 0;
	bpf_ringbuf_submit(notice, BPF_RB_FORCE_WAKEUP);
}

SEC("tp_btf/sched_process_fork")
int on_launched_fork(__u64 *ctx)
{
	struct task_struct *parent = (struct task_struct *)ctx[0];
	struct task_struct *child = (struct task_struct *)ctx[1];
	__u32 tgid = BPF_CORE_READ(child, tgid);
	__u64 start_ns;

	if (BPF_CORE_READ(child, pid) != tgid)
		return 0;
	if (!is_launched(BPF_CORE_READ(parent, tgid), BPF_CORE_READ(parent, group_leader, start_boottime)))
		return 0;
	start_ns = BPF_CORE_READ(child, start_boottime);
	bpf_map_update_elem(&launched, &tgid, &start_ns, BPF_ANY);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int on_launched_exit(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	__u32 tgid = BPF_CORE_READ(task, tgid);

	if (BPF_CORE_READ(task, signal, live.counter) == 0) { /* the group's last thread */
		bpf_map_delete_elem(&launched, &tgid);
		bpf_map_delete_elem(&held, &tgid);
	}
	return 0;
}

SEC("tp_btf/sched_process_exec")
int on_discover_exec(__u64 *ctx)
{
	struct task_struct *leader = BPF_CORE_READ((struct task_struct *)ctx[0], group_leader);
	__u32 tgid = BPF_CORE_READ(leader, tgid);
	__u64 start_ns = BPF_CORE_READ(leader, start_boottime);
	struct image_key image;

	if (!read_image_key(BPF_CORE_READ(leader, mm, exe_file), &image))
		return 0;
	if (bpf_map_lookup_elem(&known_images, &image))
		return 0;
	if (!process_matches(leader, tgid, start_ns, (__u32)bpf_get_current_uid_gid()))
		return 0;
	give_notice(NOTICE_EXEC, tgid, start_ns, &image, hold_current(leader, tgid, start_ns));
	return 0;
}

/* <link.h>, a fixed interface for debuggers: struct r_debug and struct link_map, as they begin. */
struct debug_interface {
	__s32 version;
	__s32 padding;
	__u64 objects;
	__u64 notify;
	__s32 state;
	__s32 padding2;
};

struct loaded_object {
	__u64 base;
	__u64 name;
	__u64 dynamic; /* address of its dynamic section: lies in a mapping of its file */
	__u64 next;
};

struct walk {
	__u64 at;
	__u64 seen;  /* objects passed so far */
	__u64 known; /* how many of them were there at the last walk */
	__u64 start_ns;
	__u32 tgid;
	__u32 stopped;
	struct task_struct *leader;
	struct image_key image;
};

static long note_file(struct task_struct *task, struct vm_area_struct *vma, void *data)
{
	struct walk *walk = data;

	(void)task;
	read_image_key(BPF_CORE_READ(vma, vm_file), &walk->image);
	return 0;
}

static long look_at_object(__u32 index, void *data)
{
	struct walk *walk = data;
	struct loaded_object object;
	struct image_key image;
	bool busy;

	(void)index;
	if (!walk->at || bpf_probe_read_user(&object, sizeof(object), (void *)walk->at))
		return 1;
	walk->at = object.next;
	if (++walk->seen <= walk->known)
		return 0;
	walk->image.inode = 0;
	/* another thread may just map something: then the tracer looks at all that is mapped */
	busy = bpf_find_vma(bpf_get_current_task_btf(), object.dynamic, note_file, walk, 0) == -EBUSY;
	image = walk->image;
	if ((!image.inode && !busy) || bpf_map_lookup_elem(&known_images, &image))
		return 0;
	if (!walk->stopped)
		walk->stopped = 1 + hold_current(walk->leader, walk->tgid, walk->start_ns);
	give_notice(NOTICE_MAPPED, walk->tgid, walk->start_ns, &image, walk->stopped == 2);
	return 0;
}

/*
 * In the dynamic loader's _dl_debug_state(), which it calls for debuggers when the list of loaded objects
 * is complete again, before any of their code runs. The cookie: bytes from there to the list's description,
 * times two; with the lowest bit set, to a pointer to it.
 */
SEC("uprobe")
int on_loaded(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct task_struct *task = (struct task_struct *)bpf_get_current_task(), *leader;
	struct loaded_state state = {}, *before;
	struct debug_interface interface;
	struct walk walk = {};

	keep_own_stack(ctx);
	if (!current_matches(pid_tgid, &walk.start_ns))
		return 0;
	/* the trap is at the function's first byte */
#if defined(__TARGET_ARCH_x86)
	__u64 here = ctx->ip;
#else
	__u64 here = ctx->pc;
#endif
	__s64 cookie = bpf_get_attach_cookie(ctx);

	here += cookie >> 1;
	if ((cookie & 1) && bpf_probe_read_user(&here, sizeof(here), (void *)here))
		return 0;
	if (bpf_probe_read_user(&interface, sizeof(interface), (void *)here))
		return 0;
	if (interface.state != SAME_LIST)
		return 0;
	walk.tgid = pid_tgid >> 32;
	leader = walk.leader = BPF_CORE_READ(task, group_leader);
	walk.at = interface.objects;
	state.start_ns = walk.start_ns;
	state.exec_count = BPF_CORE_READ(leader, self_exec_id);
	before = bpf_map_lookup_elem(&loaded, &walk.tgid);
	/* new objects are put at the list's end */
	if (before && before->start_ns == state.start_ns && before->exec_count == state.exec_count)
		walk.known = before->objects;
	bpf_loop(MAX_LOADED_OBJECTS, look_at_object, &walk, 0);
	state.objects = walk.seen;
	bpf_map_update_elem(&loaded, &walk.tgid, &state, BPF_ANY);
	return 0;
}

/*
 * The same where the kernel cannot tell which file is mapped at an address (before Linux 5.17): whatever has
 * been loaded is worth a look.
 */
SEC("uprobe")
int on_loaded_unknown(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct task_struct *task = (struct task_struct *)bpf_get_current_task(), *leader;
	const struct image_key unknown = {};
	__u32 tgid = pid_tgid >> 32;
	__u64 start_ns;

	keep_own_stack(ctx);
	if (!current_matches(pid_tgid, &start_ns))
		return 0;
	leader = BPF_CORE_READ(task, group_leader);
	give_notice(NOTICE_MAPPED, tgid, start_ns, &unknown, hold_current(leader, tgid, start_ns));
	return 0;
}

/* Puts the types into the object's BTF, where the layout check finds them. */
KEEP_TYPE(notice);
KEEP_TYPE(held_state);
KEEP_TYPE(image_key);
