/* SPDX-License-Identifier: MIT */
/*
 * From a call of a TLS library to records. Arguments are noted when a call begins; when it returns, what it
 * really moved is sent, so that a call retried after WANT_READ or WANT_WRITE shows once.
 */
#ifndef LAT_TLS_H
#define LAT_TLS_H

#include "tls_socket.h"

#define MAX_CHUNKS 4096 /* records of one call */

const volatile bool show_handshakes = false;
const volatile bool show_closes = false;

#define FUNCTION(name) (1ULL << (name))
#define WRITE_FUNCTIONS                                                                                \
	(FUNCTION(FN_SSL_WRITE) | FUNCTION(FN_SSL_WRITE_EX) | FUNCTION(FN_SSL_WRITE_EX2) |             \
	 FUNCTION(FN_SSL_SENDFILE) | FUNCTION(FN_GNUTLS_RECORD_SEND) |                                 \
	 FUNCTION(FN_GNUTLS_RECORD_SEND2) | FUNCTION(FN_GNUTLS_RECORD_SEND_EARLY_DATA) |               \
	 FUNCTION(FN_GNUTLS_RECORD_UNCORK) | FUNCTION(FN_PR_WRITE) | FUNCTION(FN_PR_SEND) |            \
	 FUNCTION(FN_GO_TLS_WRITE) | FUNCTION(FN_AEAD_SEAL) |                                          \
	 FUNCTION(FN_AEAD_SEAL_SCATTER) | FUNCTION(FN_RING_SEAL))
#define HANDSHAKE_FUNCTIONS                                                                            \
	(FUNCTION(FN_SSL_DO_HANDSHAKE) | FUNCTION(FN_SSL_CONNECT) | FUNCTION(FN_SSL_ACCEPT) |          \
	 FUNCTION(FN_GNUTLS_HANDSHAKE))

/* A goroutine is on any thread: what that does next to the call says nothing. Its objects name the socket. */
#define GO_FUNCTIONS (FUNCTION(FN_GO_TLS_WRITE) | FUNCTION(FN_GO_TLS_READ))

static __always_inline bool is_write(__u32 function)
{
	return WRITE_FUNCTIONS >> (function & (FN_COUNT - 1)) & 1;
}

static __always_inline bool is_handshake(__u32 function)
{
	return HANDSHAKE_FUNCTIONS >> (function & (FN_COUNT - 1)) & 1;
}

/* Whether a call inside another one of the same connection is a part of it: SSL_write_ex inside SSL_write is.
 * One of another kind is not: a callback of the handshake, which SSL_read may do, can write. */
static __always_inline bool is_part(__u32 inner, __u32 outer)
{
	return is_handshake(inner) == is_handshake(outer) && is_write(inner) == is_write(outer);
}

/* The call with this function, buffer and so on begins: note it, unless it is part of another one. */
static __always_inline int enter(struct pt_regs *ctx, __u32 function, __u64 ssl, __u64 buffer, __u64 buffer_bytes,
				 __u64 moved_bytes)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u64 sp = ENTRY_SP(ctx), start_ns;
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
	frame->socket = 0;
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

/* Ties a connection to the socket that the call used, or that its thread used next to it. True: something may have changed. */
static __always_inline bool find_socket(struct thread_state *thread, struct frame *frame, struct connection *connection,
					bool written, __u64 total)
{
	if (!sockets_followed || (FUNCTION(frame->function & (FN_COUNT - 1)) & GO_FUNCTIONS))
		return false;
	if (frame->socket) {
		if (connection->socket == frame->socket)
			return false;
		bind_socket(frame->ssl, frame->socket, BOUND_INSIDE);
		return true;
	}
	if (connection->binding >= BOUND_INSIDE)
		return false;
	if (written || is_handshake(frame->function)) {
		if (thread->written_ssl != frame->ssl) {
			thread->written_mixed = thread->written_ssl != 0;
			thread->written_ssl = frame->ssl;
			thread->written_bytes = 0;
		}
		thread->written_bytes += total;
	}
	if (written || !thread->received_socket || (thread->received_ssl && thread->received_ssl != frame->ssl))
		return false;
	thread->received_ssl = frame->ssl;
	if (connection->socket == thread->received_socket || thread->received_mixed)
		return false;
	bind_socket(frame->ssl, thread->received_socket, BOUND_RECEIVED);
	return true;
}

/* Copies the finished call aside, with its place in the connection. `late`: if it is new, it is not the first. */
static __always_inline struct connection *begin_transfer(struct thread_state *thread, struct frame *frame,
							 __u64 pid_tgid, __u64 total, bool late)
{
	struct transfer *transfer = &thread->transfer;
	__u64 now_ns = bpf_ktime_get_boot_ns();
	struct connection_key key = { .tgid = pid_tgid >> 32, .ssl = frame->ssl };
	struct connection *connection = get_connection(key.tgid, key.ssl, frame->entered_ns, late);
	bool written = is_write(frame->function);

	transfer->frame = *frame;
	transfer->now_ns = now_ns;
	transfer->total = total;
	transfer->done = 0;
	transfer->flags = written ? SSL_WRITTEN : 0;
	transfer->offset = 0;
	transfer->generation_ns = 0;
	if (connection) {
		connection->function = frame->function;
		if (find_socket(thread, &transfer->frame, connection, written, total))
			connection = bpf_map_lookup_elem(&connections, &key); /* it may be another generation's */
	}
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

/* Sends what a call moved. */
static __always_inline void send_payload(struct thread_state *thread, struct frame *frame, __u64 pid_tgid, __u64 total)
{
	struct ring_control *control;

	if (!total && (is_write(frame->function) || !sockets_followed))
		return;
	announce_process();
	begin_transfer(thread, frame, pid_tgid, total, true); /* an empty read, of a handshake, tells the socket */
	if (!total)
		return;
	for (int i = 0; i < MAX_CHUNKS; i++)
		if (!send_chunk())
			return;
	control = get_ring_control();
	if (control)
		count_loss(control, LOSS_TRUNCATED, total - thread->transfer.done);
}

/* The call that returns now, if it was noted. */
static __always_inline struct frame *finish(struct pt_regs *ctx, struct thread_state **thread, __u64 pid_tgid)
{
	*thread = bpf_map_lookup_elem(&threads, &pid_tgid);
	return *thread ? leave(ctx, *thread) : NULL;
}

/* A handshake call has returned. A connection that is first seen in its handshake is seen from its beginning. */
static __always_inline void handshake_done(struct thread_state *thread, struct frame *frame, __u64 pid_tgid,
					   __s32 result)
{
	struct ring_control *control = get_ring_control();

	announce_process();
	struct connection *connection = begin_transfer(thread, frame, pid_tgid, 0, false);

	if (!connection || !control || !show_handshakes)
		return;
	if (!connection->handshake_calls)
		connection->handshake_began_ns = thread->transfer.frame.entered_ns;
	connection->handshake_calls++;
	struct ssl_handshake_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);

	if (!record) {
		count_loss(control, LOSS_RING_FULL, 0);
		return;
	}
	fill_common(&record->common, RECORD_SSL_HANDSHAKE, thread, &thread->transfer, pid_tgid);
	record->return_value = result;
	record->calls = connection->handshake_calls;
	record->handshake_ns = thread->transfer.now_ns - connection->handshake_began_ns;
	submit(record, control);
}

/* If it cannot be told, the connection is kept: its totals still show what was lost at its end. */
static __always_inline void connection_over(struct pt_regs *ctx, __u32 function, __u64 ssl)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), start_ns;
	struct connection_key key = { .tgid = pid_tgid >> 32, .ssl = ssl };
	struct connection *connection = bpf_map_lookup_elem(&connections, &key);
	struct ring_control *control = get_ring_control();
	__u32 library = library_index(ctx);

	count_hit(library, function);
	if (!connection || !control || !current_matches(pid_tgid, &start_ns))
		return;
	if (!show_closes) {
		connection->over = 1;
		return;
	}
	if (connection->read_records || connection->written_records) {
		struct ssl_close_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);

		if (!record) {
			count_loss(control, LOSS_RING_FULL, 0);
			return;
		}
		fill_header(&record->common.header, RECORD_SSL_CLOSE, bpf_ktime_get_boot_ns(), pid_tgid, start_ns);
		record->common.ssl = key.ssl;
		record->common.generation_ns = connection->generation_ns;
		record->common.latency_ns = 0;
		record->common.function = function;
		record->common.flags = connection->joined_late ? SSL_JOINED_LATE : 0;
		record->common.library = library;
		record->read_bytes = connection->read_bytes;
		record->written_bytes = connection->written_bytes;
		record->read_records = connection->read_records;
		record->written_records = connection->written_records;
		submit(record, control);
	}
	bpf_map_delete_elem(&connections, &key);
}

#endif
