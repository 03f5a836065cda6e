// SPDX-License-Identifier: MIT
/* TLS plaintext from the API that OpenSSL and BoringSSL have in common. */
#include "tls.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

KEEP_TYPE(record_header);
KEEP_TYPE(process_record);
KEEP_TYPE(ssl_data_record);
KEEP_TYPE(ssl_handshake_record);
KEEP_TYPE(ssl_sendfile_record);
KEEP_TYPE(ssl_close_record);
KEEP_TYPE(ssl_socket_record);
KEEP_TYPE(tls_socket_record);

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

SEC("uretprobe")
int data_return(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct thread_state *thread;
	struct frame *frame = finish(ctx, &thread, pid_tgid);

	keep_own_stack(ctx);
	if (!frame)
		return 0;
	__u64 total = moved_bytes(frame, RETURN_VALUE(ctx));

	debug("function %u returns %lld, moved %llu bytes", frame->function, RETURN_VALUE(ctx), total);
	send_payload(thread, frame, pid_tgid, total);
	return 0;
}

SEC("uretprobe")
int sendfile_return(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct thread_state *thread;
	struct frame *frame = finish(ctx, &thread, pid_tgid);
	struct ring_control *control = get_ring_control();
	__s64 sent = RETURN_VALUE(ctx);

	keep_own_stack(ctx);
	if (!frame || !control || sent <= 0)
		return 0;
	announce_process();
	struct connection *connection = begin_transfer(thread, frame, pid_tgid, sent, true);
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
	struct thread_state *thread;
	struct frame *frame = finish(ctx, &thread, pid_tgid);

	keep_own_stack(ctx);
	if (frame)
		handshake_done(thread, frame, pid_tgid, (__s32)RETURN_VALUE(ctx));
	return 0;
}

SEC("uprobe")
int ssl_read(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_SSL_READ, ARG1(ctx), ARG2(ctx), (__u32)ARG3(ctx), 0);
}

SEC("uprobe")
int ssl_write(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_SSL_WRITE, ARG1(ctx), ARG2(ctx), (__u32)ARG3(ctx), 0);
}

SEC("uprobe")
int ssl_read_ex(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_SSL_READ_EX, ARG1(ctx), ARG2(ctx), ARG3(ctx), ARG4(ctx));
}

SEC("uprobe")
int ssl_write_ex(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_SSL_WRITE_EX, ARG1(ctx), ARG2(ctx), ARG3(ctx), ARG4(ctx));
}

SEC("uprobe")
int ssl_write_ex2(struct pt_regs *ctx) /* OpenSSL 3.3: flags in between */
{
	keep_own_stack(ctx);
	return enter(ctx, FN_SSL_WRITE_EX2, ARG1(ctx), ARG2(ctx), ARG3(ctx), ARG5(ctx));
}

SEC("uprobe")
int ssl_sendfile(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_SSL_SENDFILE, ARG1(ctx), ARG2(ctx), ARG4(ctx), ARG3(ctx));
}

SEC("uprobe")
int ssl_do_handshake(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_SSL_DO_HANDSHAKE, ARG1(ctx), 0, 0, 0);
}

SEC("uprobe")
int ssl_connect(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_SSL_CONNECT, ARG1(ctx), 0, 0, 0);
}

SEC("uprobe")
int ssl_accept(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_SSL_ACCEPT, ARG1(ctx), 0, 0, 0);
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

SEC("uprobe")
int ssl_free(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	connection_over(ctx, FN_SSL_FREE, ARG1(ctx));
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
