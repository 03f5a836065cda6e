/* SPDX-License-Identifier: MIT */
/*
 * System calls when they return: numbers, arguments, and the two ways to be called.
 *
 * The tracepoints of single system calls (syscalls/sys_exit_NAME) tax calls of other kinds least, but
 * need tracefs; the BTF tracepoint sys_exit needs nothing, and is run for every call. Both end in the
 * same function, which gets the registers that the thread had in user space: the arguments are still
 * in them, so nothing has to be noted when a call begins.
 */
#ifndef LAT_SYSCALLS_H
#define LAT_SYSCALLS_H

#include "tracking.h"

struct sys_exit_context { /* /sys/kernel/tracing/events/syscalls/sys_exit_NAME/format */
	__u64 common;
	__s64 nr;
	__s64 result;
};

struct sys_enter_context { /* …/sys_enter_NAME/format */
	__u64 common;
	__s64 nr;
	__u64 args[6];
};

struct call_arguments {
	__u64 a[6];
};

#if defined(__TARGET_ARCH_x86)

#define THREAD_SIZE 16384 /* without KASAN */
#define KERNEL_REGS_BYTES sizeof(struct pt_regs)
#define NR_WRITE 1
#define NR_WRITEV 20
#define NR_SENDTO 44
#define NR_SENDMSG 46
#define NR_SENDMMSG 307
#define CALL_NUMBER(regs) ((__s64)BPF_PROBE_READ_REGS(regs, orig_ax))
#define BPF_PROBE_READ_REGS(regs, field)                                                               \
	({                                                                                             \
		unsigned long value = 0;                                                               \
		bpf_probe_read_kernel(&value, sizeof(value), &((struct pt_regs *)(regs))->field);      \
		value;                                                                                 \
	})

static __always_inline void read_arguments(__u64 regs, struct call_arguments *to)
{
	struct { /* the part of struct pt_regs that has them, at once */
		unsigned long r10, r9, r8, ax, cx, dx, si, di;
	} part;

	bpf_probe_read_kernel(&part, sizeof(part), &((struct pt_regs *)regs)->r10);
	to->a[0] = part.di;
	to->a[1] = part.si;
	to->a[2] = part.dx;
	to->a[3] = part.r10;
	to->a[4] = part.r8;
	to->a[5] = part.r9;
}

/* One argument, where the stack has no room for all. */
static __always_inline __u64 call_argument(__u64 regs, const int index)
{
	switch (index) {
	case 0: return BPF_PROBE_READ_REGS(regs, di);
	case 1: return BPF_PROBE_READ_REGS(regs, si);
	case 2: return BPF_PROBE_READ_REGS(regs, dx);
	default: return BPF_PROBE_READ_REGS(regs, r8); /* 4 */
	}
}

/* arch/x86/entry/syscalls/syscall_64.tbl */
static __always_inline enum call call_of_number(__s64 nr)
{
	switch (nr) {
	case 2: return CALL_OPEN;
	case 3: return CALL_CLOSE;
	case 42: return CALL_CONNECT;
	case 43: return CALL_ACCEPT;
	case 44: return CALL_SENDTO;
	case 46: return CALL_SENDMSG;
	case 49: return CALL_BIND;
	case 50: return CALL_LISTEN;
	case 62: return CALL_KILL;
	case 76: return CALL_TRUNCATE;
	case 77: return CALL_FTRUNCATE;
	case 82: return CALL_RENAME;
	case 83: return CALL_MKDIR;
	case 84: return CALL_RMDIR;
	case 85: return CALL_CREAT;
	case 86: return CALL_LINK;
	case 87: return CALL_UNLINK;
	case 88: return CALL_SYMLINK;
	case 90: return CALL_CHMOD;
	case 91: return CALL_FCHMOD;
	case 92: return CALL_CHOWN;
	case 93: return CALL_FCHOWN;
	case 94: return CALL_LCHOWN;
	case 129: return CALL_RT_SIGQUEUEINFO;
	case 200: return CALL_TKILL;
	case 234: return CALL_TGKILL;
	case 257: return CALL_OPENAT;
	case 258: return CALL_MKDIRAT;
	case 260: return CALL_FCHOWNAT;
	case 263: return CALL_UNLINKAT;
	case 264: return CALL_RENAMEAT;
	case 265: return CALL_LINKAT;
	case 266: return CALL_SYMLINKAT;
	case 268: return CALL_FCHMODAT;
	case 288: return CALL_ACCEPT4;
	case 297: return CALL_RT_TGSIGQUEUEINFO;
	case 307: return CALL_SENDMMSG;
	case 316: return CALL_RENAMEAT2;
	case 424: return CALL_PIDFD_SEND_SIGNAL;
	case 437: return CALL_OPENAT2;
	case 452: return CALL_FCHMODAT2;
	case 0: case 17: case 19: case 295: case 327: return CALL_READ;
	case 1: case 18: case 20: case 296: case 328: return CALL_WRITE;
	default: return CALL_NONE;
	}
}

#else

#define THREAD_SIZE 16384 /* pages of 4 KiB */

/* arch/arm64/include/asm/ptrace.h */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct pt_regs___kernel {
	__u64 regs[31];
	__u64 orig_x0;
	__s32 syscallno;
};
#pragma clang attribute pop
#define NR_WRITE 64
#define NR_WRITEV 66
#define NR_SENDTO 206
#define NR_SENDMSG 211
#define NR_SENDMMSG 269
#define KERNEL_REGS_BYTES bpf_core_type_size(struct pt_regs___kernel)
#define CALL_NUMBER(regs) ((__s64)BPF_CORE_READ((struct pt_regs___kernel *)(regs), syscallno))

static __always_inline void read_arguments(__u64 regs, struct call_arguments *to)
{
	struct pt_regs___kernel *kernel = (struct pt_regs___kernel *)regs;

	to->a[0] = BPF_CORE_READ(kernel, orig_x0);
	to->a[1] = BPF_CORE_READ(kernel, regs[1]);
	to->a[2] = BPF_CORE_READ(kernel, regs[2]);
	to->a[3] = BPF_CORE_READ(kernel, regs[3]);
	to->a[4] = BPF_CORE_READ(kernel, regs[4]);
	to->a[5] = BPF_CORE_READ(kernel, regs[5]);
}

/* One argument, where the stack has no room for all. */
static __always_inline __u64 call_argument(__u64 regs, const int index)
{
	struct pt_regs___kernel *kernel = (struct pt_regs___kernel *)regs;

	switch (index) {
	case 0: return BPF_CORE_READ(kernel, orig_x0);
	case 1: return BPF_CORE_READ(kernel, regs[1]);
	case 2: return BPF_CORE_READ(kernel, regs[2]);
	default: return BPF_CORE_READ(kernel, regs[4]);
	}
}

/* include/uapi/asm-generic/unistd.h */
static __always_inline enum call call_of_number(__s64 nr)
{
	switch (nr) {
	case 34: return CALL_MKDIRAT;
	case 35: return CALL_UNLINKAT;
	case 36: return CALL_SYMLINKAT;
	case 37: return CALL_LINKAT;
	case 38: return CALL_RENAMEAT;
	case 45: return CALL_TRUNCATE;
	case 46: return CALL_FTRUNCATE;
	case 52: return CALL_FCHMOD;
	case 53: return CALL_FCHMODAT;
	case 54: return CALL_FCHOWNAT;
	case 55: return CALL_FCHOWN;
	case 56: return CALL_OPENAT;
	case 57: return CALL_CLOSE;
	case 129: return CALL_KILL;
	case 130: return CALL_TKILL;
	case 131: return CALL_TGKILL;
	case 138: return CALL_RT_SIGQUEUEINFO;
	case 200: return CALL_BIND;
	case 201: return CALL_LISTEN;
	case 202: return CALL_ACCEPT;
	case 203: return CALL_CONNECT;
	case 206: return CALL_SENDTO;
	case 211: return CALL_SENDMSG;
	case 240: return CALL_RT_TGSIGQUEUEINFO;
	case 242: return CALL_ACCEPT4;
	case 269: return CALL_SENDMMSG;
	case 276: return CALL_RENAMEAT2;
	case 424: return CALL_PIDFD_SEND_SIGNAL;
	case 437: return CALL_OPENAT2;
	case 452: return CALL_FCHMODAT2;
	case 63: case 65: case 67: case 69: case 286: return CALL_READ;
	case 64: case 66: case 68: case 70: case 287: return CALL_WRITE;
	default: return CALL_NONE;
	}
}

#endif

/*
 * A 32-bit call has other numbers. The tracepoints of single calls leave these out by themselves.
 * arch/x86/include/asm/thread_info.h: TS_COMPAT; a 32-bit program of arm64 is known by its size.
 */
static __always_inline bool is_32_bit(struct task_struct *task)
{
	return BPF_CORE_READ(task, mm, task_size) <= 1ULL << 32;
}

static __always_inline bool in_compat_call(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

#if defined(__TARGET_ARCH_x86)
	/* run for every call: from Linux 5.11 on without calling a helper to read it */
	if (bpf_core_enum_value_exists(enum bpf_func_id___probe, BPF_FUNC_get_current_task_btf___probe))
		return bpf_get_current_task_btf()->thread_info.status & 2;
	return BPF_CORE_READ(task, thread_info.status) & 2;
#else
	return is_32_bit(task);
#endif
}

/* A 32-bit call of a 64-bit program. 32-bit programs are told at their exec. */
static __always_inline void count_compat_call(void)
{
	struct ring_control *control = get_ring_control();
	__u64 start_ns;

	if (control && !is_32_bit((struct task_struct *)bpf_get_current_task()) &&
	    current_matches(bpf_get_current_pid_tgid(), &start_ns))
		count_loss(control, LOSS_COMPAT_CALL, 0);
}

/* The same kinds of call, by their 32-bit numbers: arch/x86/entry/syscalls/syscall_32.tbl. */
static __always_inline enum call kind_of_compat_call(__s64 nr)
{
#if defined(__TARGET_ARCH_x86)
	switch (nr) {
	case 5: case 8: case 9: case 10: case 15: case 16: case 38: case 39: case 40: case 83: case 92: case 93:
	case 94: case 95: case 182: case 193: case 194: case 198: case 207: case 212: case 295: case 296:
	case 298: case 301: case 302: case 303: case 304: case 306: case 353: case 437: case 452:
		return CALL_OPEN;
	case 102: case 345: case 361: case 362: case 363: case 364: case 369: case 370:
		return CALL_CONNECT;
	case 37: case 178: case 238: case 270: case 335: case 424:
		return CALL_KILL;
	}
#else
	(void)nr; /* a program of 64 bits cannot make any */
#endif
	return CALL_NONE;
}

/* For a program that is run for every call: whether it is a 32-bit one. If of this kind, it is counted. */
static __always_inline bool is_compat_call(__s64 nr, enum call kind)
{
	if (!in_compat_call())
		return false;
	if (kind_of_compat_call(nr) == kind)
		count_compat_call();
	return true;
}

/* The current thread's registers in user space. */
static __always_inline __u64 current_regs(void)
{
	/* Linux 5.15 has a helper */
	if (bpf_core_enum_value_exists(enum bpf_func_id___probe, BPF_FUNC_task_pt_regs___probe)) {
		__u64 regs = (__u64)bpf_task_pt_regs(bpf_get_current_task_btf());

		return argument(&regs, 0);
	}
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	return (__u64)BPF_CORE_READ(task, stack) + THREAD_SIZE - KERNEL_REGS_BYTES;
}

/* --- what the programs of files and of sockets share ------------------------------------------- */

#define S_IFMT 0170000
#define S_IFREG 0100000
#define S_IFSOCK 0140000
#define MAX_FDS 1024 /* that are looked at when a process ends */

/* At the exit of a thread: if it is the last one of a process that matches, for each open descriptor. */
static __always_inline void close_all(struct task_struct *task, int (*close)(__u32))
{
	__u64 start_ns;

	if (BPF_CORE_READ(task, signal, live.counter) || !current_matches(bpf_get_current_pid_tgid(), &start_ns))
		return;
	for (__u32 i = 0; i < MAX_FDS / 64; i++) {
		__u64 open = open_fds(task, i);

		for (__u32 bit = 0; bit < 64 && open >> bit; bit++)
			if (open >> bit & 1)
				close(i * 64 + bit);
	}
}

/* A request to io_uring of a kind that would be told if it were a system call. */
static __always_inline void count_uring_call(void)
{
	struct ring_control *control = get_ring_control();
	__u64 start_ns;

	if (control && current_matches(bpf_get_current_pid_tgid(), &start_ns))
		count_loss(control, LOSS_IO_URING, 0);
}

#endif
