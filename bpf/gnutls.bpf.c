// SPDX-License-Identifier: MIT
/* TLS plaintext from GnuTLS: (session, data, size, …), which return how much they moved, or a negative error. */
#include "tls.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define GNUTLS_E_AGAIN (-28)
#define GNUTLS_E_INTERRUPTED (-52)

/* Sessions whose last send was interrupted: it may be finished by one without data, (NULL, 0). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct connection_key);
	__type(value, __u8);
} interrupted_sends SEC(".maps");

static __always_inline __u64 least(__u64 a, __u64 b)
{
	return a < b ? a : b;
}

static __always_inline __u64 sent_bytes(struct frame *frame, __u64 pid_tgid, __s64 result)
{
	struct connection_key key = { .tgid = pid_tgid >> 32, .ssl = frame->ssl };
	__u8 one = 1;

	if (result == GNUTLS_E_AGAIN || result == GNUTLS_E_INTERRUPTED) {
		if (frame->buffer)
			bpf_map_update_elem(&interrupted_sends, &key, &one, BPF_ANY);
		return 0;
	}
	/* early data are kept for the handshake, which sends them, if at all, with gnutls_record_send */
	if (result <= 0 || frame->function == FN_GNUTLS_RECORD_SEND_EARLY_DATA)
		return 0;
	if (frame->buffer) {
		bpf_map_delete_elem(&interrupted_sends, &key);
		return least(result, frame->buffer_bytes);
	}
	/* What was sent may have been freed since it was given: it goes as unreadable. */
	return bpf_map_delete_elem(&interrupted_sends, &key) ? 0 : result;
}

/* struct mbuffer_st, unchanged since GnuTLS 3.0: what gnutls_packet_get() takes its answer from. */
struct packet {
	__u64 next;
	__u64 previous;
	__u64 mark; /* bytes at the beginning that are not content */
	__u64 data;
	__u32 size;
};

/* The bytes of the packet that the call has stored. If it is not laid out as expected, it goes as unreadable. */
static __always_inline __u64 packet_bytes(struct frame *frame, __s64 result)
{
	struct packet packet = {};
	__u64 address = 0;

	if (result <= 0)
		return 0;
	bpf_probe_read_user(&address, sizeof(address), (const void *)frame->moved_bytes);
	bpf_probe_read_user(&packet, sizeof(packet), (const void *)address);
	frame->buffer = packet.size - packet.mark == (__u64)result ? packet.data + packet.mark : 0;
	return result;
}

SEC("uretprobe")
int gnutls_data_return(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), total;
	struct thread_state *thread;
	struct frame *frame = finish(ctx, &thread, pid_tgid);
	__s64 result = (__s32)RETURN_VALUE(ctx); /* ssize_t, made of an int */

	keep_own_stack(ctx);
	if (!frame)
		return 0;
	if (is_write(frame->function))
		total = sent_bytes(frame, pid_tgid, result);
	else if (frame->function == FN_GNUTLS_RECORD_RECV_PACKET)
		total = packet_bytes(frame, result);
	else
		total = result > 0 ? least(result, frame->buffer_bytes) : 0;
	debug("function %u returns %lld, moved %llu bytes", frame->function, result, total);
	send_payload(thread, frame, pid_tgid, total);
	return 0;
}

SEC("uprobe")
int gnutls_record_send(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_GNUTLS_RECORD_SEND, ARG1(ctx), ARG2(ctx), ARG3(ctx), 0);
}

SEC("uprobe")
int gnutls_record_send2(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_GNUTLS_RECORD_SEND2, ARG1(ctx), ARG2(ctx), ARG3(ctx), 0);
}

SEC("uprobe")
int gnutls_record_send_early_data(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_GNUTLS_RECORD_SEND_EARLY_DATA, ARG1(ctx), ARG2(ctx), ARG3(ctx), 0);
}

/* What was held back is sent: it has been shown when it was given, so what this does inside is not. */
SEC("uprobe")
int gnutls_record_uncork(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_GNUTLS_RECORD_UNCORK, ARG1(ctx), 0, 0, 0);
}

SEC("uretprobe")
int gnutls_record_uncork_return(struct pt_regs *ctx)
{
	struct thread_state *thread;

	keep_own_stack(ctx);
	finish(ctx, &thread, bpf_get_current_pid_tgid());
	return 0;
}

SEC("uprobe")
int gnutls_record_recv(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_GNUTLS_RECORD_RECV, ARG1(ctx), ARG2(ctx), ARG3(ctx), 0);
}

SEC("uprobe")
int gnutls_record_recv_seq(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_GNUTLS_RECORD_RECV_SEQ, ARG1(ctx), ARG2(ctx), ARG3(ctx), 0);
}

SEC("uprobe")
int gnutls_record_recv_early_data(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_GNUTLS_RECORD_RECV_EARLY_DATA, ARG1(ctx), ARG2(ctx), ARG3(ctx), 0);
}

SEC("uprobe")
int gnutls_record_recv_packet(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_GNUTLS_RECORD_RECV_PACKET, ARG1(ctx), 0, 0, ARG2(ctx));
}

SEC("uprobe")
int gnutls_handshake(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_GNUTLS_HANDSHAKE, ARG1(ctx), 0, 0, 0);
}

SEC("uretprobe")
int gnutls_handshake_return(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct thread_state *thread;
	struct frame *frame = finish(ctx, &thread, pid_tgid);
	__s32 result = RETURN_VALUE(ctx);

	keep_own_stack(ctx);
	if (frame) /* as the records have it: 1 is success */
		handshake_done(thread, frame, pid_tgid, result ? result : 1);
	return 0;
}

SEC("uprobe")
int gnutls_init(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter(ctx, FN_GNUTLS_INIT, ARG1(ctx), 0, 0, ARG1(ctx));
}

/* The address of a session that is over is used again: gnutls_init decides. */
SEC("uretprobe")
int gnutls_init_return(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), session = 0;
	struct thread_state *thread;
	struct frame *frame = finish(ctx, &thread, pid_tgid);

	keep_own_stack(ctx);
	if (!frame || (__s32)RETURN_VALUE(ctx))
		return 0;
	if (bpf_probe_read_user(&session, sizeof(session), (const void *)frame->moved_bytes) || !session)
		return 0;
	struct connection_key key = { .tgid = pid_tgid >> 32, .ssl = session };

	bpf_map_delete_elem(&interrupted_sends, &key);
	new_generation(pid_tgid, session);
	return 0;
}

SEC("uprobe")
int gnutls_deinit(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	connection_over(ctx, FN_GNUTLS_DEINIT, ARG1(ctx));
	return 0;
}
