/* SPDX-License-Identifier: MIT */
/*
 * The kernel types that the programs touch, and nothing else.
 *
 * Every struct below lists only the fields that are read; preserve_access_index makes the loader
 * look their real offsets up in the running kernel's BTF. So objects build the same on any machine,
 * for x86-64 and arm64, without a generated header.
 */
#ifndef LAT_KERNEL_H
#define LAT_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0

/* include/uapi/linux/bpf.h: map types, flags (a stable kernel interface) */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1, BPF_EXIST = 2 };
enum { BPF_F_MMAPABLE = 1024 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };
enum { BPF_RB_AVAIL_DATA = 0 };

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* Into /sys/kernel/tracing/trace_pipe, in objects that 'make debug' has built; three values at most. */
#ifdef DEBUG
#define debug(...) bpf_printk(__VA_ARGS__)
#else
#define debug(...) ((void)0)
#endif

/* Present in the kernel's BTF only where the helper exists: the loader turns this into 0 or 1. */
enum bpf_func_id___probe {
	BPF_FUNC_get_attach_cookie___probe = 174,
};

#if defined(__TARGET_ARCH_x86)

/* arch/x86/include/asm/ptrace.h, a fixed interface for uprobes */
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8;
	unsigned long ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};
#define ARG1(ctx) ((ctx)->di)
#define ARG2(ctx) ((ctx)->si)
#define ARG3(ctx) ((ctx)->dx)
#define ARG4(ctx) ((ctx)->cx)
#define ARG5(ctx) ((ctx)->r8)
#define RETURN_VALUE(ctx) ((ctx)->ax)
#define ENTRY_SP(ctx) ((ctx)->sp)
#define RETURN_SP(ctx) ((ctx)->sp - 8) /* the return address has been popped */

#elif defined(__TARGET_ARCH_arm64)

/* arch/arm64/include/uapi/asm/ptrace.h: struct user_pt_regs */
struct pt_regs {
	unsigned long regs[31];
	unsigned long sp, pc, pstate;
};
#define ARG1(ctx) ((ctx)->regs[0])
#define ARG2(ctx) ((ctx)->regs[1])
#define ARG3(ctx) ((ctx)->regs[2])
#define ARG4(ctx) ((ctx)->regs[3])
#define ARG5(ctx) ((ctx)->regs[4])
#define RETURN_VALUE(ctx) ((ctx)->regs[0])
#define ENTRY_SP(ctx) ((ctx)->sp)
#define RETURN_SP(ctx) ((ctx)->sp)

#else
#error "compile with -D__TARGET_ARCH_x86 or -D__TARGET_ARCH_arm64"
#endif

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct dentry *d_parent;
	struct qstr d_name;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	struct path f_path;
};

struct mm_struct {
	struct file *exe_file;
};

typedef struct {
	__u32 val;
} kuid_t;

struct cred {
	kuid_t uid;
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live;
};

struct task_struct {
	__u32 pid;
	__u32 tgid;
	__u64 start_boottime;
	__u64 self_exec_id;
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	struct mm_struct *mm;
	const struct cred *cred;
	struct signal_struct *signal;
	char comm[16];
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

#endif
