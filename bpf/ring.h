/* SPDX-License-Identifier: MIT */
/*
 * The ring that all objects of one tracer share, how its reader is woken, and how losses are counted.
 * Maps of the same name in several objects become one: the loader makes the first and reuses it.
 */
#ifndef LAT_RING_H
#define LAT_RING_H

#include "records.h"

enum loss_cause {
	LOSS_RING_FULL = 0,	/* the record did not fit: the reader was too slow */
	LOSS_READ_FAULT = 1,	/* the record is there, its payload could not be read */
	LOSS_TRUNCATED = 2,	/* a call moved more than its records may hold */
	LOSS_MAP_FULL = 3,	/* no room to remember a call or a connection */
	LOSS_MISSED_RETURN = 4, /* a call was seen to begin but not to return */
	LOSS_IO_URING = 5,	/* done through io_uring, where it cannot be seen */
	LOSS_COMPAT = 6,	/* a program of another word size: its calls cannot be seen */
	LOSS_COMPAT_CALL = 7,	/* a 32-bit call (int 0x80) of a 64-bit program */
	LOSS_CAUSES = 8,
};

enum reader_state {
	READER_RUNS = 0,  /* it will look at the ring again: do not wake it */
	READER_NAPS = 1,  /* it looks again soon: wake it only when the ring fills */
	READER_WAITS = 2, /* it sleeps until woken */
};

struct loss {
	__u64 records;
	__u64 bytes;
};

/* Mapped by the reader. */
struct ring_control {
	__u32 reader_state;
	__u32 reserved;
	struct loss lost[LOSS_CAUSES];
	__u64 lost_by_kind[LOST_KINDS]; /* of those that did not fit into the ring */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20); /* set before loading */
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ring_control);
} ring_control SEC(".maps");

const volatile __u32 max_chunk_bytes = 65536; /* no record may take more than an eighth of the ring */
const volatile __u64 wake_bytes = 1 << 18; /* a napping reader is woken when this much waits */

static __always_inline struct ring_control *get_ring_control(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&ring_control, &zero);
}

/* Plain atomic adds: uprobe programs can be preempted, and fetching atomics need Linux 5.12. */
static __always_inline void count_loss(struct ring_control *control, enum loss_cause cause, __u64 bytes)
{
	debug("lost a record: cause %d, %llu bytes", cause, bytes);
	__sync_fetch_and_add(&control->lost[cause].records, 1);
	if (bytes)
		__sync_fetch_and_add(&control->lost[cause].bytes, bytes);
}

/* A record of a kind (or LOST_CALLS + call) that has no number and offset of its own did not fit into the ring. */
static __always_inline void count_lost_record(struct ring_control *control, __u32 kind)
{
	count_loss(control, LOSS_RING_FULL, 0);
	__sync_fetch_and_add(&control->lost_by_kind[kind & (LOST_KINDS - 1)], 1);
}

static __always_inline void fill_header(struct record_header *header, enum record_kind kind, __u64 time_ns,
					__u64 pid_tgid, __u64 start_ns)
{
	header->kind = kind;
	header->time_ns = time_ns;
	header->tgid = pid_tgid >> 32;
	header->tid = (__u32)pid_tgid;
	header->uid = (__u32)bpf_get_current_uid_gid();
	header->start_ns = start_ns;
}

/*
 * A wakeup costs the traced thread microseconds, so there is one only when the reader asked for it.
 * Resetting the state first means that one sleep is ended by one wakeup.
 */
static __always_inline void submit(void *record, struct ring_control *control)
{
	__u32 state = *(volatile __u32 *)&control->reader_state;
	__u64 flags = BPF_RB_NO_WAKEUP;

	if (state == READER_WAITS ||
	    (state == READER_NAPS && bpf_ringbuf_query(&records, BPF_RB_AVAIL_DATA) > wake_bytes)) {
		*(volatile __u32 *)&control->reader_state = READER_RUNS;
		flags = BPF_RB_FORCE_WAKEUP;
	}
	bpf_ringbuf_submit(record, flags);
}

#endif
