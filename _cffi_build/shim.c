/* SPDX-License-Identifier: MIT */
#include "shim.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- libbpf's messages ---------------------------------------------------------------------- */

static volatile int log_level = LIBBPF_WARN;
static _Thread_local char *log_text;
static _Thread_local size_t log_used, log_room;

static int print_hook(enum libbpf_print_level level, const char *format, va_list args)
{
	va_list again;
	int length;

	if ((int)level > log_level)
		return 0;
	va_copy(again, args);
	length = vsnprintf(NULL, 0, format, again);
	va_end(again);
	if (length < 0)
		return 0;
	size_t needed = log_used + (size_t)length + 2;
	if (needed > log_room) {
		size_t room = needed * 2;
		char *grown = realloc(log_text, room);

		if (!grown)
			return 0;
		log_text = grown;
		log_room = room;
	}
	log_text[log_used] = (char)('0' + level);
	vsnprintf(log_text + log_used + 1, (size_t)length + 1, format, args);
	log_used = needed;
	return length;
}

int lat_log_start(int level)
{
	int before = log_level;

	log_level = level;
	libbpf_set_print(print_hook);
	return before;
}

char *lat_log_take(size_t *size)
{
	char *text = log_text;

	*size = log_used;
	log_text = NULL;
	log_used = log_room = 0;
	return text;
}

void lat_log_free(char *text)
{
	free(text);
}

/* --- globals by name ------------------------------------------------------------------------ */

int lat_find_global(struct bpf_object *obj, const char *name, struct lat_global *out)
{
	const struct btf *btf = bpf_object__btf(obj);
	struct bpf_map *map;

	if (!btf)
		return -ENODATA;
	bpf_object__for_each_map(map, obj) {
		const char *full = bpf_map__name(map), *section;
		size_t map_bytes = 0;
		char *values;
		int id;

		if (!bpf_map__is_internal(map))
			continue;
		section = strchr(full, '.'); /* "ssl_bpf.rodata" holds section ".rodata" */
		values = (char *)bpf_map__initial_value(map, &map_bytes);
		if (!section || !values)
			continue;
		id = btf__find_by_name_kind(btf, section, BTF_KIND_DATASEC);
		if (id < 0)
			continue;
		const struct btf_type *datasec = btf__type_by_id(btf, (__u32)id);
		const struct btf_var_secinfo *variable = btf_var_secinfos(datasec);

		for (int i = 0; i < btf_vlen(datasec); i++, variable++) {
			const struct btf_type *type = btf__type_by_id(btf, variable->type);

			if (strcmp(btf__name_by_offset(btf, type->name_off), name) != 0)
				continue;
			if ((size_t)variable->offset + variable->size > map_bytes)
				return -ERANGE;
			out->address = values + variable->offset;
			out->size = variable->size;
			out->offset = variable->offset;
			out->map_bytes = (uint32_t)map_bytes;
			out->map_fd = bpf_map__fd(map);
			out->read_only = strncmp(section, ".rodata", 7) == 0;
			return 0;
		}
	}
	return -ENOENT;
}

/* --- uprobe_multi links (bpf(2), BPF_LINK_CREATE) ---------------------------------------------- */

/* The part of union bpf_attr that such a link takes; older headers lack it. */
struct link_create_uprobe_multi {
	uint32_t program_fd;
	uint32_t target_fd;
	uint32_t attach_type;
	uint32_t flags;
	uint64_t path;
	uint64_t offsets;
	uint64_t ref_ctr_offsets;
	uint64_t cookies;
	uint32_t count;
	uint32_t multi_flags;
	uint32_t pid;
	uint32_t reserved;
};

int lat_uprobe_multi_link(int program_fd, const char *path, const unsigned long *offsets, const uint64_t *cookies,
			  uint32_t count, bool returns, uint32_t pid)
{
	struct link_create_uprobe_multi attr = {
		.program_fd = (uint32_t)program_fd,
		.attach_type = LAT_TRACE_UPROBE_MULTI,
		.path = (uint64_t)(uintptr_t)path,
		.offsets = (uint64_t)(uintptr_t)offsets,
		.cookies = (uint64_t)(uintptr_t)cookies,
		.count = count,
		.multi_flags = returns ? 1 : 0, /* BPF_F_UPROBE_MULTI_RETURN */
		.pid = pid,
	};
	long fd = syscall(__NR_bpf, BPF_LINK_CREATE, &attr, sizeof(attr));

	return fd < 0 ? -errno : (int)fd;
}

int lat_uprobe_multi_supported(void)
{
	const struct bpf_insn return_zero[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = LAT_TRACE_UPROBE_MULTI);
	const unsigned long offset = 0;
	int program = bpf_prog_load(BPF_PROG_TYPE_KPROBE, "probe", "GPL", return_zero, 2, &options), link;

	if (program < 0)
		return program;
	/* a kernel that knows such links gets as far as seeing that "/" is no file */
	link = lat_uprobe_multi_link(program, "/", &offset, NULL, 1, false, 0);
	close(program);
	if (link >= 0)
		close(link);
	return link == -EBADF;
}

/* --- the ring (kernel/bpf/ringbuf.c; Documentation/bpf/ringbuf.rst) -------------------------- */

#define RECORD_HEADER_BYTES 8
#define RECORD_BUSY (1u << 31)
#define RECORD_DISCARDED (1u << 30)

int lat_ring_peek(const void *producer_and_data, size_t page_bytes, uint64_t ring_bytes, uint64_t *cursor,
		  uint32_t *offsets, uint32_t *lengths, int max_records, uint64_t max_bytes)
{
	const char *data = (const char *)producer_and_data + page_bytes;
	/* acquire: what the kernel wrote before it moved its position is visible after this */
	uint64_t producer = lat_ring_producer(producer_and_data), position = *cursor, taken = 0;
	int found = 0;

	if (producer - position > ring_bytes)
		return -EBADMSG;
	while (position < producer && found < max_records && taken < max_bytes) {
		uint64_t at = position & (ring_bytes - 1);
		uint32_t header = __atomic_load_n((const uint32_t *)(data + at), __ATOMIC_ACQUIRE);
		uint32_t length = header & ~(RECORD_BUSY | RECORD_DISCARDED);
		uint64_t step = ((uint64_t)length + RECORD_HEADER_BYTES + 7) & ~7ull;

		if (header & RECORD_BUSY)
			break;
		if (step > producer - position)
			return -EBADMSG;
		if (!(header & RECORD_DISCARDED)) {
			offsets[found] = (uint32_t)(at + RECORD_HEADER_BYTES);
			lengths[found] = length;
			found++;
		}
		position += step;
		taken += step;
	}
	*cursor = position;
	return found;
}

uint64_t lat_ring_consumer(const void *consumer_page)
{
	return __atomic_load_n((const uint64_t *)consumer_page, __ATOMIC_ACQUIRE);
}

uint64_t lat_ring_producer(const void *producer_page)
{
	return __atomic_load_n((const uint64_t *)producer_page, __ATOMIC_ACQUIRE);
}

void lat_ring_commit(void *consumer_page, uint64_t position)
{
	__atomic_store_n((uint64_t *)consumer_page, position, __ATOMIC_RELEASE);
}

/* Sequentially consistent, so that what is read after it is not older. */
void lat_store_u32(void *address, uint32_t value)
{
	__atomic_store_n((uint32_t *)address, value, __ATOMIC_SEQ_CST);
}

uint32_t lat_load_u32(const void *address)
{
	return __atomic_load_n((const uint32_t *)address, __ATOMIC_SEQ_CST);
}
