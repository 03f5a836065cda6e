/*
 * A TLS 1.3 client and server in one process, joined by in-memory BIO pairs: a
 * load whose plaintext is known exactly, with no socket to add noise.  It ends
 * by printing one JSON object: what every SSL object wrote and read (bytes and
 * SHA-256) and what the traffic cost.
 *
 * Only functions that OpenSSL 1.1.1 and 3.x both export are called (and no
 * macro of the 3.x headers that expands to a newer one), so that this file,
 * compiled with 3.x headers, can be linked against either.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

enum {
	RECORD_BYTES = 16384,	  /* the most plaintext one TLS record holds */
	RECORD_OVERHEAD = 64,	  /* header, content type and tag need 22 */
	BIO_SPARE = 4096,
	BIO_DEFAULT_MAX = 65536,
	WINDOW = 65536,		  /* positions at which a payload may start */
	STAMP_BYTES = 16,
	CLIENT = 0,
	SERVER = 1,
};

struct options {
	uint64_t size, count, threads, connections, bio_bytes, read_bytes, seed;
	double rate;
	bool both, ex, text, wait, hold, hash, measure;
};

static struct options opt = {
	.size = 512, .count = 1000, .threads = 1, .connections = 1,
	.read_bytes = RECORD_BYTES, .seed = 1, .hash = true,
};

/* What one endpoint did in one direction. */
struct tally {
	EVP_MD_CTX *digest;	/* NULL with --no-hash */
	uint64_t bytes;
};

struct endpoint {
	SSL *ssl;
	struct tally written, read;
};

struct connection {
	struct endpoint end[2];
	uint64_t index;		/* of the next pair */
};

struct worker {
	pthread_t id;
	uint64_t number;
	struct connection *connections;
	unsigned char *pool;	/* WINDOW + size bytes that payloads are cut from */
	unsigned char *buffer;	/* read_bytes, for SSL_read */
	uint64_t write_calls, write_retries, read_calls, read_retries;
};

struct moment {
	struct rusage usage;
	struct timespec cpu, wall;
};

static SSL_CTX *contexts[2];
static pthread_barrier_t handshaken, started, finished;
static struct timespec start_time;

static void die(const char *what)
{
	fprintf(stderr, "tls_pair: %s\n", what);
	ERR_print_errors_fp(stderr);
	exit(1);
}

static void *allocate(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory)
		die("out of memory");
	return memory;
}

/* ---- payloads --------------------------------------------------------- */

static uint64_t mix(uint64_t state, uint64_t value)
{
	/* splitmix64's output function */
	state += value + 0x9e3779b97f4a7c15;
	state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9;
	state = (state ^ (state >> 27)) * 0x94d049bb133111eb;
	return state ^ (state >> 31);
}

static void fill(unsigned char *to, size_t bytes, uint64_t state)
{
	static const char letters[65] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 \n";

	for (size_t i = 0; i < bytes; i += 8) {
		uint64_t value = mix(state, i);

		for (size_t j = i; j < i + 8 && j < bytes; j++, value >>= 8)
			to[j] = opt.text ? (unsigned char)letters[value & 63]
					 : (unsigned char)value;
	}
}

/*
 * Filling a fresh payload for every pair would cost as much as encrypting it.
 * So a payload is a slice of the thread's pool, its start and its first bytes
 * given by (seed, thread, connection, direction, index): no two are equal, and
 * no order but the right one gives the right hash.  `saved` undoes the stamp.
 */
static unsigned char *payload(struct worker *w, uint64_t connection, int from,
			      uint64_t index, unsigned char saved[STAMP_BYTES])
{
	uint64_t key = mix(mix(mix(mix(opt.seed, w->number), connection), (uint64_t)from), index);
	unsigned char *start = w->pool + key % WINDOW, stamp[STAMP_BYTES];
	size_t bytes = opt.size < STAMP_BYTES ? opt.size : STAMP_BYTES;

	for (int i = 0; i < STAMP_BYTES; i++) {
		unsigned nibble = key >> (4 * i) & 15;

		stamp[i] = opt.text ? (unsigned char)"0123456789abcdef"[nibble]
				    : (unsigned char)(mix(key, (uint64_t)i));
	}
	memcpy(saved, start, bytes);
	memcpy(start, stamp, bytes);
	return start;
}

static void restore(unsigned char *start, const unsigned char saved[STAMP_BYTES])
{
	memcpy(start, saved, opt.size < STAMP_BYTES ? opt.size : STAMP_BYTES);
}

static void count(struct tally *tally, const void *bytes, size_t length)
{
	tally->bytes += length;
	if (tally->digest && EVP_DigestUpdate(tally->digest, bytes, length) != 1)
		die("EVP_DigestUpdate");
}

/* ---- TLS -------------------------------------------------------------- */

static EVP_PKEY *make_key(void)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_id(EVP_PKEY_EC, NULL);
	EVP_PKEY *key = NULL;

	/* By name: the typed setters are macros in 1.1 and functions in 3. */
	if (!ctx || EVP_PKEY_keygen_init(ctx) != 1 ||
	    EVP_PKEY_CTX_ctrl_str(ctx, "ec_paramgen_curve", "P-256") != 1 ||
	    EVP_PKEY_CTX_ctrl_str(ctx, "ec_param_enc", "named_curve") != 1 ||
	    EVP_PKEY_keygen(ctx, &key) != 1)
		die("cannot make a key");
	EVP_PKEY_CTX_free(ctx);
	return key;
}

static X509 *make_certificate(EVP_PKEY *key)
{
	X509 *cert = X509_new();
	X509_NAME *name = cert ? X509_get_subject_name(cert) : NULL;

	if (!name || X509_set_version(cert, 2) != 1 ||
	    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) != 1 ||
	    !X509_gmtime_adj(X509_getm_notBefore(cert), -3600) ||
	    !X509_gmtime_adj(X509_getm_notAfter(cert), 86400) ||
	    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
				       (const unsigned char *)"localhost", -1, -1, 0) != 1 ||
	    X509_set_issuer_name(cert, name) != 1 || X509_set_pubkey(cert, key) != 1 ||
	    X509_sign(cert, key, EVP_sha256()) == 0)
		die("cannot make a certificate");
	return cert;
}

static void make_contexts(void)
{
	EVP_PKEY *key = make_key();
	X509 *cert = make_certificate(key);

	contexts[CLIENT] = SSL_CTX_new(TLS_client_method());
	contexts[SERVER] = SSL_CTX_new(TLS_server_method());
	for (int end = CLIENT; end <= SERVER; end++)
		if (!contexts[end] ||
		    SSL_CTX_set_min_proto_version(contexts[end], TLS1_3_VERSION) != 1)
			die("cannot make a TLS context");
	/* Tickets would reach the client inside its first SSL_read. */
	if (SSL_CTX_set_num_tickets(contexts[SERVER], 0) != 1 ||
	    SSL_CTX_use_certificate(contexts[SERVER], cert) != 1 ||
	    SSL_CTX_use_PrivateKey(contexts[SERVER], key) != 1)
		die("cannot set the certificate");
	X509_free(cert);
	EVP_PKEY_free(key);
}

static void start_tally(struct tally *tally)
{
	if (!opt.hash)
		return;
	tally->digest = EVP_MD_CTX_new();
	if (!tally->digest || EVP_DigestInit_ex(tally->digest, EVP_sha256(), NULL) != 1)
		die("cannot start a hash");
}

/* Whether the endpoint has finished its handshake; dies on anything but a wait. */
static bool handshake(SSL *ssl)
{
	int result = SSL_do_handshake(ssl);
	int error = result == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl, result);

	if (error != SSL_ERROR_NONE && error != SSL_ERROR_WANT_READ &&
	    error != SSL_ERROR_WANT_WRITE)
		die("handshake failed");
	return result == 1;
}

static void open_connection(struct connection *connection)
{
	BIO *bio[2];

	if (BIO_new_bio_pair(&bio[CLIENT], opt.bio_bytes, &bio[SERVER], opt.bio_bytes) != 1)
		die("BIO_new_bio_pair");
	for (int end = CLIENT; end <= SERVER; end++) {
		struct endpoint *e = &connection->end[end];

		e->ssl = SSL_new(contexts[end]);
		if (!e->ssl)
			die("SSL_new");
		SSL_set_bio(e->ssl, bio[end], bio[end]);
		start_tally(&e->written);
		start_tally(&e->read);
	}
	SSL_set_connect_state(connection->end[CLIENT].ssl);
	SSL_set_accept_state(connection->end[SERVER].ssl);
	for (bool client = false, server = false; !client || !server;) {
		client = handshake(connection->end[CLIENT].ssl);
		server = handshake(connection->end[SERVER].ssl);
	}
}

static bool must_wait(SSL *ssl, int result, int expected)
{
	int error = SSL_get_error(ssl, result);

	if (error != expected)
		die(expected == SSL_ERROR_WANT_WRITE ? "write failed" : "read failed");
	return true;
}

/* Whether all was written; false if the BIO pair is full. */
static bool tls_write(struct worker *w, SSL *ssl, const void *bytes)
{
	size_t written = 0;
	int result;

	w->write_calls++;
	if (opt.ex) {
		result = SSL_write_ex(ssl, bytes, opt.size, &written);
	} else {
		result = SSL_write(ssl, bytes, (int)opt.size);
		written = result > 0 ? (size_t)result : 0;
	}
	if (result <= 0) {
		w->write_retries += must_wait(ssl, result, SSL_ERROR_WANT_WRITE);
		return false;
	}
	if (written != opt.size)
		die("partial write");
	return true;
}

/* One SSL_read into w->buffer; 0 if the BIO pair holds no whole record. */
static size_t tls_read(struct worker *w, struct endpoint *from)
{
	size_t length = 0;
	int result;

	w->read_calls++;
	if (opt.ex) {
		result = SSL_read_ex(from->ssl, w->buffer, opt.read_bytes, &length);
	} else {
		result = SSL_read(from->ssl, w->buffer, (int)opt.read_bytes);
		length = result > 0 ? (size_t)result : 0;
	}
	if (result <= 0) {
		w->read_retries += must_wait(from->ssl, result, SSL_ERROR_WANT_READ);
		return 0;
	}
	count(&from->read, w->buffer, length);
	return length;
}

static void transfer(struct worker *w, uint64_t number, int sender)
{
	struct connection *connection = &w->connections[number];
	struct endpoint *from = &connection->end[sender], *to = &connection->end[!sender];
	unsigned char saved[STAMP_BYTES];
	unsigned char *bytes = payload(w, number, sender, connection->index, saved);
	size_t received = 0, length;

	while (!tls_write(w, from->ssl, bytes))
		while ((length = tls_read(w, to)) > 0)
			received += length;
	count(&from->written, bytes, opt.size);
	while (received < opt.size) {
		length = tls_read(w, to);
		if (length == 0)
			die("data missing");
		received += length;
	}
	if (received != opt.size)
		die("too much data");
	restore(bytes, saved);
}

/* ---- threads ---------------------------------------------------------- */

static void meet(pthread_barrier_t *barrier)
{
	int result = pthread_barrier_wait(barrier);

	if (result != 0 && result != PTHREAD_BARRIER_SERIAL_THREAD)
		die("pthread_barrier_wait");
}

static void sleep_until_due(uint64_t pair)
{
	/* Absolute times: a late pair does not push the later ones back. */
	double seconds = (double)pair / opt.rate;
	time_t whole = (time_t)seconds;
	struct timespec due = start_time;

	due.tv_sec += whole;
	due.tv_nsec += (long)((seconds - (double)whole) * 1e9);
	if (due.tv_nsec >= 1000000000) {
		due.tv_nsec -= 1000000000;
		due.tv_sec++;
	}
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
		;
}

static void prepare(struct worker *w)
{
	w->pool = allocate(WINDOW + opt.size, 1);
	w->buffer = allocate(opt.read_bytes, 1);
	w->connections = allocate(opt.connections, sizeof(*w->connections));
	fill(w->pool, WINDOW + opt.size, mix(opt.seed, w->number));
	for (uint64_t i = 0; i < opt.connections; i++)
		open_connection(&w->connections[i]);
}

static void traffic(struct worker *w)
{
	uint64_t turn = 0;

	/* Thread t does pairs t, t + threads, t + 2 * threads, … */
	for (uint64_t pair = w->number; pair < opt.count; pair += opt.threads) {
		uint64_t number = turn++ % opt.connections;

		if (opt.rate > 0)
			sleep_until_due(pair);
		transfer(w, number, CLIENT);
		if (opt.both)
			transfer(w, number, SERVER);
		w->connections[number].index++;
	}
}

static void *work(void *argument)
{
	struct worker *w = argument;

	prepare(w);
	meet(&handshaken);
	meet(&started);
	traffic(w);
	meet(&finished);
	return NULL;
}

/* ---- results ---------------------------------------------------------- */

static struct moment now(void)
{
	struct moment m;

	if (getrusage(RUSAGE_SELF, &m.usage) != 0 ||
	    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &m.cpu) != 0 ||
	    clock_gettime(CLOCK_MONOTONIC, &m.wall) != 0)
		die("cannot read the clocks");
	return m;
}

static int64_t between(struct timespec from, struct timespec to)
{
	return (int64_t)(to.tv_sec - from.tv_sec) * 1000000000 + (to.tv_nsec - from.tv_nsec);
}

static int64_t between_tv(struct timeval from, struct timeval to)
{
	return (int64_t)(to.tv_sec - from.tv_sec) * 1000000000 +
	       (int64_t)(to.tv_usec - from.tv_usec) * 1000;
}

static void print_tally(const struct worker *w, uint64_t number, int end, bool written,
			char hex[2 * EVP_MAX_MD_SIZE + 1])
{
	static bool later;
	struct endpoint *e = &w->connections[number].end[end];
	struct tally *tally = written ? &e->written : &e->read;
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned length = 0;

	hex[0] = 0;
	if (tally->digest && EVP_DigestFinal_ex(tally->digest, digest, &length) != 1)
		die("EVP_DigestFinal_ex");
	for (unsigned i = 0; i < length; i++)
		snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	printf("%s\n  {\"thread\": %" PRIu64 ", \"connection\": %" PRIu64
	       ", \"endpoint\": \"%s\", \"direction\": \"%s\", \"bytes\": %" PRIu64 ", ",
	       later ? "," : "", w->number, number, end == CLIENT ? "client" : "server",
	       written ? "write" : "read", tally->bytes);
	if (opt.hash)
		printf("\"sha256\": \"%s\", ", hex);
	else
		printf("\"sha256\": null, ");
	printf("\"ssl\": \"0x%" PRIxPTR "\"}", (uintptr_t)e->ssl);
	later = true;
}

/* Prints both ends of one direction; whether they agree. */
static bool print_flow(const struct worker *w, uint64_t number, int sender)
{
	const struct connection *connection = &w->connections[number];
	char sent[2 * EVP_MAX_MD_SIZE + 1], received[2 * EVP_MAX_MD_SIZE + 1];

	print_tally(w, number, sender, true, sent);
	print_tally(w, number, !sender, false, received);
	return connection->end[sender].written.bytes == connection->end[!sender].read.bytes &&
	       strcmp(sent, received) == 0;
}

static bool report(const struct worker *workers, const struct moment *a, const struct moment *b)
{
	int64_t user = between_tv(a->usage.ru_utime, b->usage.ru_utime);
	int64_t system = between_tv(a->usage.ru_stime, b->usage.ru_stime);
	int64_t cpu = between(a->cpu, b->cpu), wall = between(a->wall, b->wall);
	double pairs = opt.count ? (double)opt.count : 1;
	uint64_t written = 0, write_calls = 0, write_retries = 0, read_calls = 0, read_retries = 0;
	bool agree = true;

	for (uint64_t t = 0; t < opt.threads; t++) {
		const struct worker *w = &workers[t];

		write_calls += w->write_calls;
		write_retries += w->write_retries;
		read_calls += w->read_calls;
		read_retries += w->read_retries;
		for (uint64_t c = 0; c < opt.connections; c++)
			written += w->connections[c].end[CLIENT].written.bytes +
				   w->connections[c].end[SERVER].written.bytes;
	}
	printf("{\"pid\": %d, \"openssl\": \"%s\", \"pairs\": %" PRIu64
	       ", \"bytes_written\": %" PRIu64 ",\n",
	       (int)getpid(), OpenSSL_version(OPENSSL_VERSION), opt.count, written);
	printf(" \"write_calls\": %" PRIu64 ", \"write_retries\": %" PRIu64
	       ", \"read_calls\": %" PRIu64 ", \"read_retries\": %" PRIu64 ",\n",
	       write_calls, write_retries, read_calls, read_retries);
	printf(" \"cpu_ns\": %" PRId64 ", \"user_ns\": %" PRId64 ", \"system_ns\": %" PRId64
	       ", \"wall_ns\": %" PRId64
	       ", \"cpu_ns_per_pair\": %.1f, \"wall_ns_per_pair\": %.1f,\n",
	       cpu, user, system, wall, (double)cpu / pairs, (double)wall / pairs);
	printf(" \"connections\": [");
	for (uint64_t t = 0; t < opt.threads; t++)
		for (uint64_t c = 0; c < opt.connections; c++) {
			agree &= print_flow(&workers[t], c, CLIENT);
			if (opt.both)
				agree &= print_flow(&workers[t], c, SERVER);
		}
	printf("]}\n");
	fflush(stdout);
	if (opt.measure)
		fprintf(stderr,
			"%" PRIu64 " pairs: cpu %.3f ms (user %.3f, system %.3f), wall %.3f ms; "
			"per pair: cpu %.0f ns, wall %.0f ns\n",
			opt.count, (double)cpu / 1e6, (double)user / 1e6, (double)system / 1e6,
			(double)wall / 1e6, (double)cpu / pairs, (double)wall / pairs);
	return agree;
}

static void release(struct worker *w)
{
	for (uint64_t c = 0; c < opt.connections; c++)
		for (int end = CLIENT; end <= SERVER; end++) {
			struct endpoint *e = &w->connections[c].end[end];

			SSL_free(e->ssl);
			EVP_MD_CTX_free(e->written.digest);
			EVP_MD_CTX_free(e->read.digest);
		}
	free(w->connections);
	free(w->buffer);
	free(w->pool);
}

/* ---- command line ----------------------------------------------------- */

static const char usage_text[] =
"Usage: tls_pair [OPTION]...\n"
"TLS 1.3 traffic between a client and a server in one process, over BIO pairs.\n"
"\n"
"  --size BYTES       payload of each SSL_write (512; K and M multiply)\n"
"  --count N          write+read pairs in all threads together (1000)\n"
"  --rate PER_SECOND  pairs per second in all threads together (0: unthrottled)\n"
"  --threads T        threads (1); the first is the main thread\n"
"  --connections C    connections of each thread, used in turn (1)\n"
"  --both             each pair: client to server, then server to client\n"
"  --ex               use SSL_write_ex and SSL_read_ex\n"
"  --text             ASCII payloads instead of pseudo-random bytes\n"
"  --seed N           of the payloads (1)\n"
"  --bio-bytes N      buffer of the BIO pairs (default: holds one write of up to 64K;\n"
"                     a write that does not fit gets WANT_WRITE and is retried\n"
"                     with the same arguments while the other side reads)\n"
"  --read-bytes N     buffer given to SSL_read (16K)\n"
"  --wait             print 'READY <pid>' after the handshakes and wait for a line\n"
"                     on standard input\n"
"  --hold             after printing the result wait for one more line\n"
"  --hash, --no-hash  SHA-256 of every stream (on; it adds to the CPU time)\n"
"  --measure          also print the cost of the traffic on standard error\n"
"  --help             show this help\n"
"\n"
"Prints one JSON object. Exits with 1 if a stream did not arrive as it was sent.\n";

static uint64_t number(const char *name, const char *text, uint64_t least, uint64_t most)
{
	char *end;
	unsigned shift;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	shift = *end == 'K' ? 10 : *end == 'M' ? 20 : 0;
	end += shift > 0;
	if (errno || end == text || *end || *text == '-' || value > most >> shift ||
	    value << shift < least) {
		fprintf(stderr, "tls_pair: --%s: bad value '%s'\n", name, text);
		exit(2);
	}
	return value << shift;
}

static double rate_number(const char *text)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= 0 && value <= 1e9)) {
		fprintf(stderr, "tls_pair: --rate: bad value '%s'\n", text);
		exit(2);
	}
	return value;
}

static void parse(int argc, char **argv)
{
	enum { SIZE = 256, COUNT, RATE, THREADS, CONNECTIONS, BOTH, EX, TEXT, SEED, BIO_BYTES,
	       READ_BYTES, WAIT, HOLD, HASH, NO_HASH, MEASURE, HELP };
	static const struct option known[] = {
		{"size", required_argument, NULL, SIZE},
		{"count", required_argument, NULL, COUNT},
		{"rate", required_argument, NULL, RATE},
		{"threads", required_argument, NULL, THREADS},
		{"connections", required_argument, NULL, CONNECTIONS},
		{"both", no_argument, NULL, BOTH},
		{"ex", no_argument, NULL, EX},
		{"text", no_argument, NULL, TEXT},
		{"seed", required_argument, NULL, SEED},
		{"bio-bytes", required_argument, NULL, BIO_BYTES},
		{"read-bytes", required_argument, NULL, READ_BYTES},
		{"wait", no_argument, NULL, WAIT},
		{"hold", no_argument, NULL, HOLD},
		{"hash", no_argument, NULL, HASH},
		{"no-hash", no_argument, NULL, NO_HASH},
		{"measure", no_argument, NULL, MEASURE},
		{"help", no_argument, NULL, HELP},
		{NULL, 0, NULL, 0},
	};
	int choice, index = 0;

	while ((choice = getopt_long(argc, argv, "", known, &index)) != -1) {
		const char *name = known[index].name;

		switch (choice) {
		case SIZE: opt.size = number(name, optarg, 1, 1 << 30); break;
		case COUNT: opt.count = number(name, optarg, 0, INT64_MAX); break;
		case RATE: opt.rate = rate_number(optarg); break;
		case THREADS: opt.threads = number(name, optarg, 1, 1024); break;
		case CONNECTIONS: opt.connections = number(name, optarg, 1, 65536); break;
		case BOTH: opt.both = true; break;
		case EX: opt.ex = true; break;
		case TEXT: opt.text = true; break;
		case SEED: opt.seed = number(name, optarg, 0, UINT64_MAX); break;
		case BIO_BYTES: opt.bio_bytes = number(name, optarg, 1, 1u << 31); break;
		case READ_BYTES: opt.read_bytes = number(name, optarg, 1, 1 << 30); break;
		case WAIT: opt.wait = true; break;
		case HOLD: opt.hold = true; break;
		case HASH: opt.hash = true; break;
		case NO_HASH: opt.hash = false; break;
		case MEASURE: opt.measure = true; break;
		case HELP: fputs(usage_text, stdout); exit(0);
		default: exit(2);
		}
	}
	if (optind < argc) {
		fprintf(stderr, "tls_pair: unexpected argument '%s'\n", argv[optind]);
		exit(2);
	}
	if (opt.bio_bytes == 0) {
		uint64_t bytes = opt.size < BIO_DEFAULT_MAX ? opt.size : BIO_DEFAULT_MAX;

		opt.bio_bytes = bytes + (bytes / RECORD_BYTES + 1) * RECORD_OVERHEAD + BIO_SPARE;
	}
}

/* The end of input counts as a line: an orphan must not wait for ever. */
static void wait_for_line(void)
{
	int c;

	while ((c = getchar()) != EOF && c != '\n')
		;
}

int main(int argc, char **argv)
{
	struct worker *workers;
	struct moment before, after;
	bool agree;

	parse(argc, argv);
	make_contexts();
	if (pthread_barrier_init(&handshaken, NULL, (unsigned)opt.threads) != 0 ||
	    pthread_barrier_init(&started, NULL, (unsigned)opt.threads) != 0 ||
	    pthread_barrier_init(&finished, NULL, (unsigned)opt.threads) != 0)
		die("pthread_barrier_init");
	workers = allocate(opt.threads, sizeof(*workers));
	for (uint64_t t = 0; t < opt.threads; t++) {
		workers[t].number = t;
		if (t > 0 && pthread_create(&workers[t].id, NULL, work, &workers[t]) != 0)
			die("pthread_create");
	}

	prepare(&workers[0]);
	meet(&handshaken);
	if (opt.wait) {
		printf("READY %d\n", (int)getpid());
		fflush(stdout);
		wait_for_line();
	}
	before = now();
	start_time = before.wall;
	meet(&started);
	traffic(&workers[0]);
	meet(&finished);
	after = now();

	for (uint64_t t = 1; t < opt.threads; t++)
		pthread_join(workers[t].id, NULL);
	agree = report(workers, &before, &after);
	if (!agree)
		fprintf(stderr, "tls_pair: a stream did not arrive as it was sent\n");
	if (opt.hold)
		wait_for_line();
	for (uint64_t t = 0; t < opt.threads; t++)
		release(&workers[t]);
	free(workers);
	SSL_CTX_free(contexts[CLIENT]);
	SSL_CTX_free(contexts[SERVER]);
	return agree ? 0 : 1;
}
