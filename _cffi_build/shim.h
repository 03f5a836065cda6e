/* SPDX-License-Identifier: MIT */
/* The only C of our own in the extension: libbpf's log, globals by name, and the ring's walk. */
#ifndef LAT_SHIM_H
#define LAT_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

/* Collects libbpf's messages up to this level, per thread, since a Python callback could not raise. */
int lat_log_start(int level);
/* This thread's messages since the last call: (level digit, text, NUL) repeated; NULL if none. */
char *lat_log_take(size_t *size);
void lat_log_free(char *text);

struct lat_global {
	void *address;	/* of its initial value, in our memory */
	uint32_t size;
	uint32_t offset; /* in the map that holds it */
	uint32_t map_bytes;
	int map_fd;	/* -1 before loading */
	bool read_only; /* in .rodata: fixed by loading */
};
/* 0, -ENOENT, or -ENODATA where the object has no BTF. */
int lat_find_global(struct bpf_object *obj, const char *name, struct lat_global *out);

#define LAT_TRACE_UPROBE_MULTI 48 /* enum bpf_attach_type, Linux 6.6 */

/*
 * One link for many functions of a file (Linux 6.6; libbpf has it since 1.3). The program must have been
 * loaded with that attach type. pid 0: all processes. Returns the link's fd or a negative errno.
 */
int lat_uprobe_multi_link(int program_fd, const char *path, const unsigned long *offsets, const uint64_t *cookies,
			  uint32_t count, bool returns, uint32_t pid);
/* 1, 0, or a negative errno if no program can be loaded to find out. */
int lat_uprobe_multi_supported(void);

/*
 * Walks from *cursor towards the producer position and notes where each finished record lies
 * (offsets from the start of the data pages). Stops at a record still being written. Moves *cursor
 * behind the last record noted. Returns how many, or -EBADMSG if the ring makes no sense.
 */
int lat_ring_peek(const void *producer_and_data, size_t page_bytes, uint64_t ring_bytes, uint64_t *cursor,
		  uint32_t *offsets, uint32_t *lengths, int max_records, uint64_t max_bytes);
uint64_t lat_ring_consumer(const void *consumer_page);
uint64_t lat_ring_producer(const void *producer_page);
void lat_ring_commit(void *consumer_page, uint64_t position);
void lat_store_u32(void *address, uint32_t value);
uint32_t lat_load_u32(const void *address);

#endif
