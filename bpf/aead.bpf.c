// SPDX-License-Identifier: MIT
/*
 * TLS plaintext from the ciphers below rustls, where nothing of TLS itself can be probed: EVP_AEAD_CTX_* of AWS-LC
 * and BoringSSL, and ring's functions of each cipher. They are called once for each record of TLS, and for other
 * things; what is authenticated beside the text (the additional data) tells. Only application data are shown.
 */
#include "tls.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define APPLICATION_DATA 23
#define TAG_BYTES 16
#define MAX_PADDING 16384
#define MAX_TEXT_BYTES 65535
#define INNER_TYPE 1 /* TLS 1.3: the text ends with its content type */

/* The key's fixed part of all nonces, by the address that the key has: that address is used again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_CONNECTIONS);
	__type(key, struct connection_key);
	__type(value, __u32);
} aead_keys SEC(".maps");

/* What a call has to say, whichever function it is. */
struct cipher_call {
	__u64 key;
	__u64 text; /* seal: plaintext; open: where it will be */
	__u64 text_bytes;
	__u64 nonce;
	__u64 aad;
	__u64 aad_bytes;
};

static __always_inline __u64 read_word(__u64 at)
{
	__u64 value = 0;

	bpf_probe_read_user(&value, sizeof(value), (const void *)at);
	return value;
}

/* Arguments behind those that ARG1 to ARG5 give, at a function's entry. */
#if defined(__TARGET_ARCH_x86)
#define ARG6(ctx) ((ctx)->r9)
#define ARG7(ctx) read_word(ENTRY_SP(ctx) + 8)
#define ARG8(ctx) read_word(ENTRY_SP(ctx) + 16)
#define ARG9(ctx) read_word(ENTRY_SP(ctx) + 24)
#define ARG10(ctx) read_word(ENTRY_SP(ctx) + 32)
#define ARG11(ctx) read_word(ENTRY_SP(ctx) + 40)
#define ARG12(ctx) read_word(ENTRY_SP(ctx) + 48)
#define ARG13(ctx) read_word(ENTRY_SP(ctx) + 56)
#else
#define ARG6(ctx) ((ctx)->regs[5])
#define ARG7(ctx) ((ctx)->regs[6])
#define ARG8(ctx) ((ctx)->regs[7])
#define ARG9(ctx) read_word(ENTRY_SP(ctx))
#define ARG10(ctx) read_word(ENTRY_SP(ctx) + 8)
#define ARG11(ctx) read_word(ENTRY_SP(ctx) + 16)
#define ARG12(ctx) read_word(ENTRY_SP(ctx) + 24)
#define ARG13(ctx) read_word(ENTRY_SP(ctx) + 32)
#endif

/*
 * Whether this is application data of TLS: INNER_TYPE or 0 if it can be, else -1. TLS 1.3 authenticates the record's
 * header (RFC 8446, 5.2), with the length of the ciphertext; TLS 1.2 (RFC 5246, 6.2.3.3) a sequence number, and the
 * header with the length of the plaintext.
 */
static __always_inline int kind_of(struct cipher_call *call)
{
	__u8 aad[13] = {};

	if (call->text_bytes > MAX_TEXT_BYTES)
		return -1; /* one that is shorter than its tag, too */
	if (call->aad_bytes == 5) {
		if (bpf_probe_read_user(aad, 5, (const void *)call->aad) || aad[0] != APPLICATION_DATA ||
		    aad[1] != 3 || aad[2] != 3 || ((__u32)aad[3] << 8 | aad[4]) != call->text_bytes + TAG_BYTES)
			return -1;
		return INNER_TYPE;
	}
	/* no connection lives for 2^48 records, but a packet of QUIC has a bit set in its first byte */
	if (call->aad_bytes != 13 || bpf_probe_read_user(aad, 13, (const void *)call->aad) || aad[0] || aad[1] ||
	    aad[8] != APPLICATION_DATA || aad[9] != 3 || aad[10] != 3 ||
	    ((__u32)aad[11] << 8 | aad[12]) != call->text_bytes)
		return -1;
	return 0;
}

/*
 * The length of the content of a TLS 1.3 plaintext: behind it are its type and zeros. 0 if it is of another type, or
 * cannot be read. Global: the verifier looks at it once.
 */
__noinline int content_bytes(__u64 text, __u32 bytes)
{
	for (int i = 0; i < MAX_PADDING / 8 && bytes >= 8; i++) {
		if (read_word(text + bytes - 8))
			break;
		bytes -= 8;
	}
	for (int i = 0; i < 8 && bytes; i++) {
		__u8 last = 0;

		bytes--;
		if (bpf_probe_read_user(&last, 1, (const void *)(text + bytes)))
			return 0;
		if (last)
			return last == APPLICATION_DATA ? bytes : 0;
	}
	return 0;
}

static __always_inline __u64 content_of(__u64 text, __u64 bytes, __u64 kind)
{
	return kind == INNER_TYPE ? (__u32)content_bytes(text, bytes) : bytes;
}

/* Another key at the same address is another connection, or another part of it: the socket tells. */
static __always_inline void check_key(__u64 pid_tgid, struct cipher_call *call)
{
	struct connection_key key = { .tgid = pid_tgid >> 32, .ssl = call->key };
	__u32 *known = bpf_map_lookup_elem(&aead_keys, &key);
	__u32 fixed = 0;

	/* TLS 1.3, ChaCha20: the sequence number is XORed into the last eight bytes; else it is these */
	bpf_probe_read_user(&fixed, sizeof(fixed), (const void *)call->nonce);
	if (known && *known == fixed)
		return;
	if (known)
		bpf_map_delete_elem(&connections, &key);
	bpf_map_update_elem(&aead_keys, &key, &fixed, BPF_ANY);
}

/* Shown at once: the plaintext is encrypted where it is. */
static __always_inline int seal(struct pt_regs *ctx, __u32 function, struct cipher_call *call, bool split_type)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), start_ns, total;
	struct frame frame = {
		.ssl = call->key,
		.buffer = call->text,
		.entered_ns = bpf_ktime_get_boot_ns(),
		.function = function,
		.library = library_index(ctx),
	};
	int kind = kind_of(call);

	count_hit(frame.library, function);
	if (kind < 0 || !current_matches(pid_tgid, &start_ns))
		return 0;
	if (split_type) /* the type comes as a part of its own */
		total = kind == INNER_TYPE ? call->text_bytes - 1 : 0;
	else
		total = content_of(call->text, call->text_bytes, kind);
	struct thread_state *thread = total ? get_thread(pid_tgid, start_ns) : NULL;

	if (!thread)
		return 0;
	check_key(pid_tgid, call);
	send_payload(thread, &frame, pid_tgid, total);
	return 0;
}

static __always_inline int open(struct pt_regs *ctx, __u32 function, struct cipher_call *call)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), start_ns;
	int kind = kind_of(call);

	if (kind < 0) {
		count_hit(library_index(ctx), function);
		return 0;
	}
	if (current_matches(pid_tgid, &start_ns))
		check_key(pid_tgid, call);
	return enter(ctx, function, call->key, call->text, call->text_bytes, kind);
}

static __always_inline int opened(struct pt_regs *ctx, bool tells_success)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct thread_state *thread;
	struct frame *frame = finish(ctx, &thread, pid_tgid);

	if (!frame || (tells_success && (__s32)RETURN_VALUE(ctx) != 1))
		return 0;
	send_payload(thread, frame, pid_tgid, content_of(frame->buffer, frame->buffer_bytes, frame->moved_bytes));
	return 0;
}

/* (ctx, out, *out_len, max_out_len, nonce, nonce_len, in, in_len, ad, ad_len) */
SEC("uprobe")
int aead_seal(struct pt_regs *ctx)
{
	struct cipher_call call = {
		.key = ARG1(ctx),
		.text = ARG7(ctx),
		.text_bytes = ARG8(ctx),
		.nonce = ARG5(ctx),
		.aad = ARG9(ctx),
		.aad_bytes = ARG10(ctx),
	};

	keep_own_stack(ctx);
	return seal(ctx, FN_AEAD_SEAL, &call, false);
}

/*
 * (ctx, out, out_tag, *out_tag_len, max_out_tag_len, nonce, nonce_len, in, in_len, extra_in, extra_in_len, ad,
 * ad_len); extra_in comes behind in, and would be the type alone
 */
SEC("uprobe")
int aead_seal_scatter(struct pt_regs *ctx)
{
	__u64 extra_bytes = ARG11(ctx);
	struct cipher_call call = {
		.key = ARG1(ctx),
		.text = ARG8(ctx),
		.text_bytes = ARG9(ctx) + extra_bytes,
		.nonce = ARG6(ctx),
		.aad = ARG12(ctx),
		.aad_bytes = ARG13(ctx),
	};
	__u8 type = 0;

	keep_own_stack(ctx);
	if (extra_bytes == 1) {
		bpf_probe_read_user(&type, 1, (const void *)ARG10(ctx));
		if (type != APPLICATION_DATA)
			extra_bytes = 2;
	}
	if (extra_bytes > 1) {
		count_hit(library_index(ctx), FN_AEAD_SEAL_SCATTER);
		return 0;
	}
	return seal(ctx, FN_AEAD_SEAL_SCATTER, &call, extra_bytes);
}

/* (ctx, out, *out_len, max_out_len, nonce, nonce_len, in, in_len, ad, ad_len) */
SEC("uprobe")
int aead_open(struct pt_regs *ctx)
{
	struct cipher_call call = {
		.key = ARG1(ctx),
		.text = ARG2(ctx),
		.text_bytes = ARG8(ctx) - TAG_BYTES,
		.nonce = ARG5(ctx),
		.aad = ARG9(ctx),
		.aad_bytes = ARG10(ctx),
	};

	keep_own_stack(ctx);
	return open(ctx, FN_AEAD_OPEN, &call);
}

/* (ctx, out, nonce, nonce_len, in, in_len, in_tag, in_tag_len, ad, ad_len) */
SEC("uprobe")
int aead_open_gather(struct pt_regs *ctx)
{
	struct cipher_call call = {
		.key = ARG1(ctx),
		.text = ARG2(ctx),
		.text_bytes = ARG6(ctx),
		.nonce = ARG3(ctx),
		.aad = ARG9(ctx),
		.aad_bytes = ARG10(ctx),
	};

	keep_own_stack(ctx);
	return open(ctx, FN_AEAD_OPEN_GATHER, &call);
}

SEC("uretprobe")
int aead_open_return(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return opened(ctx, true);
}

/* (*result, key, nonce, aad.ptr, aad.len, in_out.ptr, in_out.len); the tag is not in it */
SEC("uprobe")
int ring_seal(struct pt_regs *ctx)
{
	struct cipher_call call = {
		.key = ARG2(ctx),
		.text = ARG6(ctx),
		.text_bytes = ARG7(ctx),
		.nonce = ARG3(ctx),
		.aad = ARG4(ctx),
		.aad_bytes = ARG5(ctx),
	};

	keep_own_stack(ctx);
	return seal(ctx, FN_RING_SEAL, &call, false);
}

/* … and where in in_out the ciphertext begins; the plaintext comes to its beginning */
SEC("uprobe")
int ring_open(struct pt_regs *ctx)
{
	struct cipher_call call = {
		.key = ARG2(ctx),
		.text = ARG6(ctx),
		.text_bytes = ARG7(ctx) - ARG8(ctx),
		.nonce = ARG3(ctx),
		.aad = ARG4(ctx),
		.aad_bytes = ARG5(ctx),
	};

	keep_own_stack(ctx);
	return open(ctx, FN_RING_OPEN, &call);
}

/* The caller compares the tag afterwards: a record that is not genuine, which ends a connection, shows too. */
SEC("uretprobe")
int ring_open_return(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return opened(ctx, false);
}
