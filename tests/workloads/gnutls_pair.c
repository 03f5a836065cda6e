/*
 * A GnuTLS client and server in one process, joined by TCP, which use every function that sends and receives.
 *
 *   gnutls_pair FILE [finish]
 *
 * Prints READY and its pid, waits for a line, and writes what the server received to FILE. With "finish" a send
 * that was interrupted is finished by one without data, not by the same one again. In the end it prints how many
 * sends were interrupted, and waits for the end of its input.
 *
 * It declares what it uses, so that the library is enough to build it.
 */
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

typedef struct session *session;
typedef struct packet *packet;
struct datum {
	unsigned char *data;
	unsigned int size;
};

struct range {
	size_t low, high;
};

int gnutls_init(session *, unsigned int flags);
void gnutls_deinit(session);
int gnutls_priority_set_direct(session, const char *, const char **);
int gnutls_credentials_set(session, int type, void *);
int gnutls_anon_allocate_client_credentials(void **);
int gnutls_anon_allocate_server_credentials(void **);
void gnutls_transport_set_int2(session, int, int);
int gnutls_handshake(session);
int gnutls_bye(session, int how);
int gnutls_error_is_fatal(int);
ssize_t gnutls_record_send(session, const void *, size_t);
ssize_t gnutls_record_send2(session, const void *, size_t, size_t pad, unsigned int flags);
ssize_t gnutls_record_send_range(session, const void *, size_t, const struct range *);
void gnutls_record_cork(session);
int gnutls_record_uncork(session, unsigned int flags);
ssize_t gnutls_record_recv(session, void *, size_t);
ssize_t gnutls_record_recv_seq(session, void *, size_t, unsigned char *sequence);
ssize_t gnutls_record_recv_packet(session, packet *);
void gnutls_packet_get(packet, struct datum *, unsigned char *sequence);
void gnutls_packet_deinit(packet);

enum { SERVER = 1, CLIENT = 2, ANONYMOUS = 2, SHUT_WRITE = 1, WAIT = 1, E_AGAIN = -28, E_INTERRUPTED = -52 };
static const char priorities[] = "NORMAL:-VERS-ALL:+VERS-TLS1.2:+ANON-ECDH";

static int sockets[2];
static FILE *received;

static void check(int right, const char *what)
{
	if (!right) {
		fprintf(stderr, "gnutls_pair: %s failed\n", what);
		exit(1);
	}
}

static session begin(int side, int fd)
{
	session made;
	void *credentials;
	int result;

	check(!gnutls_init(&made, side), "init");
	if (side == CLIENT)
		gnutls_anon_allocate_client_credentials(&credentials);
	else
		gnutls_anon_allocate_server_credentials(&credentials);
	check(!gnutls_priority_set_direct(made, priorities, NULL), "priorities");
	gnutls_credentials_set(made, ANONYMOUS, credentials);
	gnutls_transport_set_int2(made, fd, fd);
	do
		result = gnutls_handshake(made);
	while (result < 0 && !gnutls_error_is_fatal(result));
	check(!result, "handshake");
	return made;
}

static void *serve(void *unused)
{
	static unsigned char buffer[70000];
	session tls = begin(SERVER, sockets[1]);
	unsigned char sequence[8];

	(void)unused;
	for (int turn = 0;; turn++) {
		struct datum got = { buffer, 0 };
		packet taken = NULL;
		ssize_t n;

		if (turn % 3 == 0)
			n = gnutls_record_recv(tls, buffer, sizeof(buffer));
		else if (turn % 3 == 1)
			n = gnutls_record_recv_seq(tls, buffer, sizeof(buffer), sequence);
		else
			n = gnutls_record_recv_packet(tls, &taken);
		if (n == E_AGAIN || n == E_INTERRUPTED)
			continue;
		if (n <= 0)
			break;
		got.size = n;
		if (taken)
			gnutls_packet_get(taken, &got, NULL);
		fwrite(got.data, 1, got.size, received);
		if (taken)
			gnutls_packet_deinit(taken);
		usleep(500); /* slow, so that the client has to wait */
	}
	gnutls_bye(tls, SHUT_WRITE);
	gnutls_deinit(tls);
	return NULL;
}

static void connect_sockets(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	int listening = socket(AF_INET, SOCK_STREAM, 0), small = 8192;

	check(!bind(listening, (struct sockaddr *)&address, size) && !listen(listening, 1), "listen");
	getsockname(listening, (struct sockaddr *)&address, &size);
	sockets[0] = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(sockets[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)); /* so that it is full at times */
	check(!connect(sockets[0], (struct sockaddr *)&address, size), "connect");
	sockets[1] = accept(listening, NULL, NULL);
	close(listening);
}

int main(int count, char **arguments)
{
	enum { SEND_BYTES = 16000, SENDS = 200 };
	static char text[40000 + SENDS];
	int interrupted = 0;
	pthread_t server;

	check(count > 1 && (received = fopen(arguments[1], "w")), "opening the file");
	printf("READY %d\n", getpid());
	fflush(stdout);
	getchar();
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i % 251;
	connect_sockets();
	pthread_create(&server, NULL, serve, NULL);
	session tls = begin(CLIENT, sockets[0]);

	gnutls_record_send(tls, text, 1000);
	gnutls_record_send2(tls, text, 500, 0, 0);
	check(gnutls_record_send_range(tls, text, 700, &(struct range){ 700, 700 }) == 700, "a send of a range");
	gnutls_record_cork(tls);
	for (int i = 0; i < 5; i++)
		gnutls_record_send(tls, text, 100 + i);
	check(gnutls_record_uncork(tls, WAIT) == 510, "uncork");
	check(gnutls_record_send(tls, text, 40000) == 16384, "a long send"); /* one record */
	fcntl(sockets[0], F_SETFL, O_NONBLOCK);
	for (int i = 0; i < SENDS; i++) {
		ssize_t n = gnutls_record_send(tls, text + i, SEND_BYTES);

		while (n == E_AGAIN) {
			interrupted++;
			usleep(200);
			if (count > 2)
				n = gnutls_record_send(tls, NULL, 0);
			else
				n = gnutls_record_send(tls, text + i, SEND_BYTES);
		}
		check(n == SEND_BYTES, "send");
	}
	fcntl(sockets[0], F_SETFL, 0);
	gnutls_bye(tls, SHUT_WRITE);
	pthread_join(server, NULL);
	gnutls_deinit(tls);
	fclose(received);
	printf("%d\n", interrupted);
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
