/* The part of libbpf (1.1 and later) that the binding uses. The compiler checks it against <bpf/libbpf.h>. */

struct bpf_object;
struct bpf_program;
struct bpf_map;
struct bpf_link;

/* objects */
struct bpf_object_open_opts {
	size_t sz;
	const char *object_name;
	...;
};
struct bpf_object *bpf_object__open_mem(const void *obj_buf, size_t obj_buf_sz, const struct bpf_object_open_opts *opts);
int bpf_object__load(struct bpf_object *obj);
void bpf_object__close(struct bpf_object *obj);
struct bpf_program *bpf_object__next_program(const struct bpf_object *obj, struct bpf_program *prog);
struct bpf_map *bpf_object__next_map(const struct bpf_object *obj, const struct bpf_map *map);

/* programs */
const char *bpf_program__name(const struct bpf_program *prog);
const char *bpf_program__section_name(const struct bpf_program *prog);
int bpf_program__fd(const struct bpf_program *prog);
bool bpf_program__autoload(const struct bpf_program *prog);
int bpf_program__set_autoload(struct bpf_program *prog, bool autoload);
int bpf_program__set_expected_attach_type(struct bpf_program *prog, int type);
struct bpf_link *bpf_program__attach(const struct bpf_program *prog);
struct bpf_link *bpf_program__attach_tracepoint(const struct bpf_program *prog, const char *tp_category, const char *tp_name);
struct bpf_link *bpf_program__attach_raw_tracepoint(const struct bpf_program *prog, const char *tp_name);
struct bpf_uprobe_opts {
	size_t sz;
	uint64_t bpf_cookie;
	bool retprobe;
	const char *func_name;
	...;
};
struct bpf_link *bpf_program__attach_uprobe_opts(const struct bpf_program *prog, int pid, const char *binary_path,
						 size_t func_offset, const struct bpf_uprobe_opts *opts);

struct bpf_kprobe_multi_opts {
	size_t sz;
	const char **syms;
	size_t cnt;
	...;
};
struct bpf_link *bpf_program__attach_kprobe_multi_opts(const struct bpf_program *prog, const char *pattern,
						       const struct bpf_kprobe_multi_opts *opts);

/* links */
int bpf_link__destroy(struct bpf_link *link);
int bpf_link__fd(const struct bpf_link *link);
int bpf_iter_create(int link_fd);

/* maps */
const char *bpf_map__name(const struct bpf_map *map);
int bpf_map__fd(const struct bpf_map *map);
int bpf_map__type(const struct bpf_map *map);
uint32_t bpf_map__key_size(const struct bpf_map *map);
uint32_t bpf_map__value_size(const struct bpf_map *map);
uint32_t bpf_map__max_entries(const struct bpf_map *map);
int bpf_map__set_max_entries(struct bpf_map *map, uint32_t max_entries);
int bpf_map__reuse_fd(struct bpf_map *map, int fd);
bool bpf_map__is_internal(const struct bpf_map *map);
int bpf_map_lookup_elem(int fd, const void *key, void *value);
int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags);
int bpf_map_delete_elem(int fd, const void *key);
int bpf_map_get_next_key(int fd, const void *key, void *next_key);

/* the rest */
struct bpf_prog_info {
	uint64_t run_time_ns;
	uint64_t run_cnt;
	uint64_t recursion_misses;
	...;
};
struct bpf_map_info {
	uint32_t max_entries;
	...;
};
int bpf_obj_get_info_by_fd(int bpf_fd, void *info, uint32_t *info_len);
int bpf_enable_stats(int type);
int libbpf_num_possible_cpus(void);
uint32_t libbpf_major_version(void);
uint32_t libbpf_minor_version(void);

/* shim.c */
int lat_log_start(int level);
char *lat_log_take(size_t *size);
void lat_log_free(char *text);

struct lat_global {
	void *address;	/* of its initial value, in our memory */
	uint32_t size;
	uint32_t offset; /* in the map that holds it */
	uint32_t map_bytes;
	int map_fd;	/* -1 before loading */
	bool read_only;
};
int lat_find_global(struct bpf_object *obj, const char *name, struct lat_global *out);

int lat_uprobe_multi_link(int program_fd, const char *path, const unsigned long *offsets, const uint64_t *cookies,
			  uint32_t count, bool returns, uint32_t pid);
int lat_uprobe_multi_supported(void);

int lat_ring_peek(const void *producer_and_data, size_t page_bytes, uint64_t ring_bytes, uint64_t *cursor,
		  uint32_t *offsets, uint32_t *lengths, int max_records, uint64_t max_bytes);
uint64_t lat_ring_consumer(const void *consumer_page);
uint64_t lat_ring_producer(const void *producer_page);
void lat_ring_commit(void *consumer_page, uint64_t position);
void lat_store_u32(void *address, uint32_t value);
uint32_t lat_load_u32(const void *address);
