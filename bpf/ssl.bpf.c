// SPDX-License-Identifier: MIT
/*
 * TLS plaintext from OpenSSL's API. Arguments are noted when a call begins; when it returns, what it
 * really moved is sent, so that a call retried after WANT_READ or WANT_WRITE shows once.
 */
#include "stack.h"
#include "tracking.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

KEEP_TYPE(record_header);
KEEP_TYPE(process_record);
KEEP_TYPE(ssl_data_record);
KEEP_TYPE(ssl_handshake_record);
KEEP_TYPE(ssl_sendfile_record);
KEEP_TYPE(ssl_close_record);

#define MAX_DEPTH 4	     /* calls of one thread inside one another (TLS in TLS); a power of two */
#define MAX_THREADS 16384
#define MAX_CONNECTIONS 16384
#define MAX_CHUNKS 4096	     /* records of one call */
#define MAX_LIBRARIES 256

/* A call in progress, known by the stack pointer at its entry. */
struct frame {
	__u64 sp;
	__u64 ssl;
	__u64 buffer;	   /* SSL_sendfile: the file descriptor */
	__u64 buffer_bytes;
	__u64 moved_bytes; /* where an _ex function stores how much it moved; SSL_sendfile: file offset */
	__u64 entered_ns;
	__u32 function;
	__u32 library;
};

/* A payload on its way into the ring, record by record. */
struct transfer {
	struct frame frame;
	__u64 now_ns;
	__u64 generation_ns;
	__u64 offset; /* of the call's first byte in the connection's stream */
	__u64 total;
	__u64 done;
	__u32 flags;
	__u32 reserved;
};

struct thread_state {
	__u64 start_ns; /* of the process */
	__u32 depth;
	__u32 reserved;
	struct frame frames[MAX_DEPTH];
	struct transfer transfer;
};

struct connection_key {
	__u32 tgid;
	__u32 reserved;
	__u64 ssl;
};

struct connection {
	__u64 generation_ns;
	__u64 read_bytes;
	__u64 written_bytes;
	__u32 read_records;
	__u32 written_records;
	__u32 joined_late;
	__u32 handshake_calls;
	__u64 handshake_began_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_THREADS);
	__type(key, __u64); /* pid_tgid */
	__type(value, struct thread_state);
} threads SEC(".maps");

/* LRU: processes end without freeing their connections. One that returns after eviction joins late. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_CONNECTIONS);
	__type(key, struct connection_key);
	__type(value, struct connection);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_LIBRARIES * FN_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} probe_hits SEC(".maps");

static __always_inline __u32 library_index(void *ctx)
{
	/* Linux 5.15; before that the reader knows the library only if there is a single one */
	if (bpf_core_enum_value_exists(enum bpf_func_id___probe, BPF_FUNC_get_attach_cookie___probe))
		return (__u32)bpf_get_attach_cookie(ctx);
	return 0;
}

static __always_inline void count_hit(__u32 library, __u32 function)
{
	__u32 index = (library & (MAX_LIBRARIES - 1)) * FN_COUNT + function;
	__u64 *hits = bpf_map_lookup_elem(&probe_hits, &index);

	if (hits)
		__sync_fetch_and_add(hits, 1);
}

static __always_inline struct thread_state *get_thread(__u64 pid_tgid, __u64 start_ns)
{
	struct thread_state *thread = bpf_map_lookup_elem(&threads, &pid_tgid);
	struct ring_control *control;

	if (thread)
		return thread;
	/* too large for the stack; the transfer is written before it is read */
	static const struct thread_state zero;
	if (bpf_map_update_elem(&threads, &pid_tgid, &zero, BPF_ANY)) {
		control = get_ring_control();
		if (control)
			count_loss(control, LOSS_MAP_FULL, 0);
		return NULL;
	}
	thread = bpf_map_lookup_elem(&threads, &pid_tgid);
	if (thread)
		thread->start_ns = start_ns;
	return thread;
}

/* The mask only tells the verifier what the callers know already. */
static __always_inline struct frame *frame_at(struct thread_state *thread, __u32 index)
{
	asm volatile("" : "+r"(index));
	return &thread->frames[index & (MAX_DEPTH - 1)];
}

static __always_inline struct connection *get_connection(__u32 tgid, __u64 ssl, __u64 now_ns, bool joined_late)
{
	struct connection_key key = { .tgid = tgid, .ssl = ssl };
	struct connection *connection = bpf_map_lookup_elem(&connections, &key);
	struct connection fresh = { .generation_ns = now_ns, .joined_late = joined_late };

	if (connection)
		return connection;
	bpf_map_update_elem(&connections, &key, &fresh, BPF_ANY);
	return bpf_map_lookup_elem(&connections, &key);
}

static __always_inline __u32 is_write(__u32 function)
{
	return function == FN_SSL_WRITE || function == FN_SSL_WRITE_EX || function == FN_SSL_WRITE_EX2 ||
	       function == FN_SSL_SENDFILE;
}

/* Whether a call inside another one of the same connection is a part of it: SSL_write_ex inside SSL_write is.
 * One of another kind is not: a callback of the handshake, which SSL_read may do, can write. */
static __always_inline bool is_part(__u32 inner, __u32 outer)
{
	bool inner_shakes = inner >= FN_SSL_DO_HANDSHAKE && inner <= FN_SSL_ACCEPT;
	bool outer_shakes = outer >= FN_SSL_DO_HANDSHAKE && outer <= FN_SSL_ACCEPT;

	return inner_shakes == outer_shakes && is_write(inner) == is_write(outer);
}

/* The call with this function, buffer and so on begins: note it, unless it is part of another one. */
static __always_inline int enter(struct pt_regs *ctx, __u32 function, __u64 buffer, __u64 buffer_bytes,
				 __u64 moved_bytes)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u64 sp = ENTRY_SP(ctx), ssl = ARG1(ctx), start_ns;
	__u32 library = library_index(ctx);
	struct thread_state *thread;
	struct ring_control *control;
	struct frame *frame;

	count_hit(library, function);
	if (!current_matches(pid_tgid, &start_ns))
		return 0;
	thread = get_thread(pid_tgid, start_ns);
	if (!thread)
		return 0;

	/* The stack grows down: a frame at or below this stack pointer never returned as we expected. */
	for (int i = 0; i < MAX_DEPTH; i++) {
		__u32 depth = thread->depth;

		if (depth == 0)
			break;
		frame = frame_at(thread, depth - 1);
		if (frame->sp > sp)
			break;
		/* a tail call into another function of the same connection: it returns for both */
		if (frame->sp == sp && frame->ssl == ssl && frame->buffer == buffer && frame->function != function)
			return 0;
		control = get_ring_control();
		if (control)
			count_loss(control, LOSS_MISSED_RETURN, 0);
		thread->depth = depth - 1;
	}

	__u32 depth = thread->depth;
	if (depth > 0) {
		frame = frame_at(thread, depth - 1);
		if (frame->ssl == ssl && is_part(function, frame->function))
			return 0; /* the outermost call is the one that is shown */
	}
	if (depth >= MAX_DEPTH) {
		control = get_ring_control();
		if (control)
			count_loss(control, LOSS_MAP_FULL, 0);
		return 0;
	}
	frame = frame_at(thread, depth);
	frame->sp = sp;
	frame->ssl = ssl;
	frame->buffer = buffer;
	frame->buffer_bytes = buffer_bytes;
	frame->moved_bytes = moved_bytes;
	frame->function = function;
	frame->library = library;
	frame->entered_ns = bpf_ktime_get_boot_ns();
	thread->depth = depth + 1;
	debug("function %u begins on SSL %llx, %u calls inside one another", function, ssl, depth + 1);
	return 0;
}

/* Takes the frame whose call returns now off the thread's stack; NULL if the call was not noted. */
static __always_inline struct frame *leave(struct pt_regs *ctx, struct thread_state *thread)
{
	__u64 sp = RETURN_SP(ctx);
	__u32 depth = thread->depth;

	if (depth == 0)
		return NULL;
	struct frame *frame = frame_at(thread, depth - 1);

	if (frame->sp != sp)
		return NULL;
	thread->depth = depth - 1;
	return frame;
}

static __always_inline void fill_common(struct ssl_common *common, enum record_kind kind,
					struct thread_state *thread, struct transfer *transfer, __u64 pid_tgid)
{
	fill_header(&common->header, kind, transfer->now_ns, pid_tgid, thread->start_ns);
	common->ssl = transfer->frame.ssl;
	common->generation_ns = transfer->generation_ns;
	common->latency_ns = transfer->now_ns - transfer->frame.entered_ns;
	common->function = transfer->frame.function;
	common->flags = transfer->flags;
	common->library = transfer->frame.library;
}

/* A call's bytes go into few records, and a record wastes little of the ring. */
static __always_inline __u32 chunk_bytes(__u64 left)
{
	if (left > 16384 && left <= 49152)
		left = 16384;
	return left < max_chunk_bytes ? left : max_chunk_bytes;
}

/* Reserved with a constant size (the verifier asks for it), copied with the real one. */
#define RESERVE_AND_COPY(capacity)                                                                     \
	do {                                                                                           \
		__u32 n = take;                                                                        \
                                                                                                       \
		record = bpf_ringbuf_reserve(&records, sizeof(*record) + (capacity), 0);               \
		asm volatile("" : "+r"(n)); /* or the compiler drops the check that the verifier needs */ \
		if (n > (capacity))                                                                    \
			n = (capacity);                                                                \
		if (record)                                                                            \
			fault = bpf_probe_read_user(record->payload, n, source);                       \
	} while (0)

/*
 * Sends the next record of the current thread's transfer; 0 when there is none left. A global
 * function: the verifier looks at it once and not 4096 times.
 */
__noinline int send_chunk(void)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct thread_state *thread = bpf_map_lookup_elem(&threads, &pid_tgid);
	struct ring_control *control = get_ring_control();
	struct ssl_data_record *record;
	long fault = 0;

	if (!thread || !control)
		return 0;
	struct transfer *transfer = &thread->transfer;
	struct connection_key key = { .tgid = pid_tgid >> 32, .ssl = transfer->frame.ssl };
	struct connection *connection = bpf_map_lookup_elem(&connections, &key);
	__u64 done = transfer->done, total = transfer->total;

	if (done >= total)
		return 0;
	__u32 take = chunk_bytes(total - done);
	const void *source = (const void *)(transfer->frame.buffer + done);
	__u32 index = 0;

	transfer->done = done + take;
	if (connection)
		index = transfer->flags & SSL_WRITTEN ? connection->written_records++ : connection->read_records++;
	if (take <= 128)
		RESERVE_AND_COPY(128);
	else if (take <= 512)
		RESERVE_AND_COPY(512);
	else if (take <= 1024)
		RESERVE_AND_COPY(1024);
	else if (take <= 2048)
		RESERVE_AND_COPY(2048);
	else if (take <= 4096)
		RESERVE_AND_COPY(4096);
	else if (take <= 8192)
		RESERVE_AND_COPY(8192);
	else if (take <= 16384)
		RESERVE_AND_COPY(16384);
	else
		RESERVE_AND_COPY(65536);
	if (!record) {
		count_loss(control, LOSS_RING_FULL, take);
		return done + take < total;
	}
	fill_common(&record->common, RECORD_SSL_DATA, thread, transfer, pid_tgid);
	if (fault) {
		record->common.flags |= SSL_READ_FAULT;
		count_loss(control, LOSS_READ_FAULT, take);
	}
	if (take != total)
		record->common.flags |= SSL_SPLIT;
	record->offset = transfer->offset + done;
	record->call_bytes = total;
	record->call_offset = done;
	record->index = index;
	record->data_bytes = take;
	submit(record, control);
	return done + take < total;
}

/* What the call moved, from its return value and what it stored. */
static __always_inline __u64 moved_bytes(struct frame *frame, __u64 result)
{
	__s32 value = (__s32)result;
	__u64 moved = 0;

	if (value <= 0)
		return 0;
	if (frame->function == FN_SSL_READ || frame->function == FN_SSL_WRITE)
		moved = value;
	else if (bpf_probe_read_user(&moved, sizeof(moved), (const void *)frame->moved_bytes)) {
		struct ring_control *control = get_ring_control();

		if (control)
			count_loss(control, LOSS_READ_FAULT, 0);
		return 0;
	}
	return moved < frame->buffer_bytes ? moved : frame->buffer_bytes;
}

/* Copies the finished call aside, with its place in the connection. */
static __always_inline struct connection *begin_transfer(struct thread_state *thread, struct frame *frame,
							 __u64 pid_tgid, __u64 total)
{
	struct transfer *transfer = &thread->transfer;
	__u64 now_ns = bpf_ktime_get_boot_ns();
	struct connection *connection = get_connection(pid_tgid >> 32, frame->ssl, frame->entered_ns, true);
	__u32 written = is_write(frame->function);

	transfer->frame = *frame;
	transfer->now_ns = now_ns;
	transfer->total = total;
	transfer->done = 0;
	transfer->flags = written ? SSL_WRITTEN : 0;
	transfer->offset = 0;
	transfer->generation_ns = 0;
	if (connection) {
		transfer->generation_ns = connection->generation_ns;
		__u64 *bytes = written ? &connection->written_bytes : &connection->read_bytes;

		transfer->offset = *bytes;
		*bytes += total;
		if (connection->joined_late)
			transfer->flags |= SSL_JOINED_LATE;
	}
	return connection;
}

SEC("uretprobe")
int data_return(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct thread_state *thread = bpf_map_lookup_elem(&threads, &pid_tgid);
	struct frame *frame = thread ? leave(ctx, thread) : NULL;
	struct ring_control *control;

	keep_own_stack(ctx);
	if (!frame)
		return 0;
	__u64 total = moved_bytes(frame, RETURN_VALUE(ctx));

	debug("function %u returns %lld, moved %llu bytes", frame->function, RETURN_VALUE(ctx), total);
	if (!total)
		return 0;
	announce_process();
	begin_transfer(thread, frame, pid_tgid, total);
	for (int i = 0; i < MAX_CHUNKS; i++)
		if (!send_chunk())
			return 0;
	control = get_ring_control();
	if (control)
		count_loss(control, LOSS_TRUNCATED, total - thread->transfer.done);
	return 0;
}

SEC("uretprobe")
int sendfile_return(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct thread_state *thread = bpf_map_lookup_elem(&threads, &pid_tgid);
	struct frame *frame = thread ? leave(ctx, thread) : NULL;
	struct ring_control *control = get_ring_control();
	__s64 sent = RETURN_VALUE(ctx);

	keep_own_stack(ctx);
	if (!frame || !control || sent <= 0)
		return 0;
	announce_process();
	struct connection *connection = begin_transfer(thread, frame, pid_tgid, sent);
	__u32 index = connection ? connection->written_records++ : 0;
	struct ssl_sendfile_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);

	if (!record) {
		count_loss(control, LOSS_RING_FULL, sent);
		return 0;
	}
	fill_common(&record->common, RECORD_SSL_SENDFILE, thread, &thread->transfer, pid_tgid);
	record->offset = thread->transfer.offset;
	record->sent_bytes = sent;
	record->file_offset = thread->transfer.frame.moved_bytes;
	record->fd = thread->transfer.frame.buffer;
	record->index = index;
	submit(record, control);
	return 0;
}

SEC("uretprobe")
int handshake_return(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct thread_state *thread = bpf_map_lookup_elem(&threads, &pid_tgid);
	struct frame *frame = thread ? leave(ctx, thread) : NULL;
	struct ring_control *control = get_ring_control();

	keep_own_stack(ctx);
	if (!frame || !control)
		return 0;
	announce_process();
	/* a connection that is first seen in its handshake is seen from its beginning */
	get_connection(pid_tgid >> 32, frame->ssl, frame->entered_ns, false);
	struct connection *connection = begin_transfer(thread, frame, pid_tgid, 0);

	if (!connection)
		return 0;
	if (!connection->handshake_calls)
		connection->handshake_began_ns = frame->entered_ns;
	connection->handshake_calls++;
	struct ssl_handshake_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);

	if (!record) {
		count_loss(control, LOSS_RING_FULL, 0);
		return 0;
	}
	fill_common(&record->common, RECORD_SSL_HANDSHAKE, thread, &thread->transfer, pid_tgid);
	record->return_value = (__s32)RETURN_VALUE(ctx);
	record->calls = connection->handshake_calls;
	record->handshake_ns = thread->transfer.now_ns - connection->handshake_began_ns;
	submit(record, control);
	return 0;
}

SEC("uprobe")
int ssl_read(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_SSL_READ, ARG2(ctx), (__u32)ARG3(ctx), 0);
}

SEC("uprobe")
int ssl_write(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_SSL_WRITE, ARG2(ctx), (__u32)ARG3(ctx), 0);
}

SEC("uprobe")
int ssl_read_ex(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_SSL_READ_EX, ARG2(ctx), ARG3(ctx), ARG4(ctx));
}

SEC("uprobe")
int ssl_write_ex(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_SSL_WRITE_EX, ARG2(ctx), ARG3(ctx), ARG4(ctx));
}

SEC("uprobe")
int ssl_write_ex2(struct pt_regs *ctx) /* OpenSSL 3.3: flags in between */
{
	keep_own_stack(ctx);
	return enter(ctx, FN_SSL_WRITE_EX2, ARG2(ctx), ARG3(ctx), ARG5(ctx));
}

SEC("uprobe")
int ssl_sendfile(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_SSL_SENDFILE, ARG2(ctx), ARG4(ctx), ARG3(ctx));
}

SEC("uprobe")
int ssl_do_handshake(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_SSL_DO_HANDSHAKE, 0, 0, 0);
}

SEC("uprobe")
int ssl_connect(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_SSL_CONNECT, 0, 0, 0);
}

SEC("uprobe")
int ssl_accept(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_SSL_ACCEPT, 0, 0, 0);
}

static __always_inline void new_generation(__u64 pid_tgid, __u64 ssl)
{
	struct connection_key key = { .tgid = pid_tgid >> 32, .ssl = ssl };
	struct connection fresh = { .generation_ns = bpf_ktime_get_boot_ns() };

	bpf_map_update_elem(&connections, &key, &fresh, BPF_ANY);
}

/* The address of a freed SSL is used again, and SSL_free only drops a reference: SSL_new decides. */
SEC("uretprobe")
int ssl_new_return(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), ssl = RETURN_VALUE(ctx), start_ns;

	keep_own_stack(ctx);
	count_hit(library_index(ctx), FN_SSL_NEW);
	if (ssl && current_matches(pid_tgid, &start_ns)) {
		debug("SSL %llx is new", ssl);
		new_generation(pid_tgid, ssl);
	}
	return 0;
}

/* An SSL made ready for another connection; also called inside SSL_new and at each handshake's start. */
SEC("uprobe")
int ssl_clear(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct connection_key key = { .tgid = pid_tgid >> 32, .ssl = ARG1(ctx) };
	struct connection *connection = bpf_map_lookup_elem(&connections, &key);

	keep_own_stack(ctx);
	count_hit(library_index(ctx), FN_SSL_CLEAR);
	if (connection && (connection->read_bytes || connection->written_bytes))
		new_generation(pid_tgid, key.ssl);
	return 0;
}

/* If it cannot be told, the connection is kept: its totals still show what was lost at its end. */
SEC("uprobe")
int ssl_free(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), start_ns;
	struct connection_key key = { .tgid = pid_tgid >> 32, .ssl = ARG1(ctx) };
	struct connection *connection = bpf_map_lookup_elem(&connections, &key);
	struct ring_control *control = get_ring_control();
	__u32 library = library_index(ctx);

	keep_own_stack(ctx);
	count_hit(library, FN_SSL_FREE);
	if (!connection || !control || !current_matches(pid_tgid, &start_ns))
		return 0;
	if (connection->read_records || connection->written_records) {
		struct ssl_close_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);

		if (!record) {
			count_loss(control, LOSS_RING_FULL, 0);
			return 0;
		}
		fill_header(&record->common.header, RECORD_SSL_CLOSE, bpf_ktime_get_boot_ns(), pid_tgid, start_ns);
		record->common.ssl = key.ssl;
		record->common.generation_ns = connection->generation_ns;
		record->common.latency_ns = 0;
		record->common.function = FN_SSL_FREE;
		record->common.flags = connection->joined_late ? SSL_JOINED_LATE : 0;
		record->common.library = library;
		record->read_bytes = connection->read_bytes;
		record->written_bytes = connection->written_bytes;
		record->read_records = connection->read_records;
		record->written_records = connection->written_records;
		submit(record, control);
	}
	bpf_map_delete_elem(&connections, &key);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int on_thread_exit(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	__u64 pid_tgid = (__u64)BPF_CORE_READ(task, tgid) << 32 | (__u32)BPF_CORE_READ(task, pid);

	bpf_map_delete_elem(&threads, &pid_tgid);
	return 0;
}
