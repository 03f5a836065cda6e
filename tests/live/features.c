/*
 * Less common uses of OpenSSL, one a run: features CASE. Everything in memory, or over a socket pair.
 *   reuse    one SSL object for two connections (SSL_clear), and a new one at a freed one's address
 *   nested   TLS inside TLS: the inner connection's records are the outer one's plaintext
 *   sendfile SSL_sendfile over kernel TLS where the kernel has it; says "unsupported" where not
 *   failing  calls that fail: nothing is moved
 */
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static SSL_CTX *server_context(void)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();

	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
	X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
	X509_set_pubkey(certificate, key);
	X509_sign(certificate, key, EVP_sha256());
	SSL_CTX_use_certificate(context, certificate);
	SSL_CTX_use_PrivateKey(context, key);
	SSL_CTX_set_num_tickets(context, 0);
	return context;
}

static void handshake(SSL *client, SSL *server)
{
	for (int i = 0; i < 10; i++) {
		int a = SSL_do_handshake(client), b = SSL_do_handshake(server);

		if (a == 1 && b == 1)
			return;
	}
	fprintf(stderr, "no handshake\n");
	exit(1);
}

static void connect_pair(SSL *client, SSL *server)
{
	BIO *a, *b;

	BIO_new_bio_pair(&a, 65536, &b, 65536);
	SSL_set_bio(client, a, a);
	SSL_set_bio(server, b, b);
	SSL_set_connect_state(client);
	SSL_set_accept_state(server);
	handshake(client, server);
}

static void say(SSL *from, SSL *to, const char *text)
{
	char buffer[4096];
	int sent = SSL_write(from, text, (int)strlen(text)), got = SSL_read(to, buffer, sizeof(buffer));

	if (sent != got || memcmp(buffer, text, (size_t)got) != 0) {
		fprintf(stderr, "not what was sent\n");
		exit(1);
	}
}

static void reuse(SSL_CTX *clients, SSL_CTX *servers)
{
	SSL *client = SSL_new(clients), *server = SSL_new(servers);

	connect_pair(client, server);
	say(client, server, "first");
	SSL_clear(client);
	SSL_free(server);
	server = SSL_new(servers);
	connect_pair(client, server);
	say(client, server, "second");
	SSL_free(client);
	client = SSL_new(clients);
	SSL_free(server);
	server = SSL_new(servers);
	connect_pair(client, server);
	say(client, server, "third");
}

/* A BIO over another connection, as curl makes one for an HTTPS proxy (BIO_f_ssl goes past SSL_write). */
static int over_write(BIO *bio, const char *data, int size)
{
	int n = SSL_write(BIO_get_data(bio), data, size);

	BIO_clear_retry_flags(bio);
	if (n <= 0)
		BIO_set_retry_write(bio);
	return n;
}

static int over_read(BIO *bio, char *data, int size)
{
	int n = SSL_read(BIO_get_data(bio), data, size);

	BIO_clear_retry_flags(bio);
	if (n <= 0)
		BIO_set_retry_read(bio);
	return n;
}

static long over_control(BIO *bio, int command, long number, void *pointer)
{
	(void)bio, (void)number, (void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static BIO *over(SSL *outer)
{
	BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "over");

	BIO_meth_set_write(method, over_write);
	BIO_meth_set_read(method, over_read);
	BIO_meth_set_ctrl(method, over_control);
	BIO *bio = BIO_new(method);

	BIO_set_data(bio, outer);
	BIO_set_init(bio, 1);
	return bio;
}

static void nested(SSL_CTX *clients, SSL_CTX *servers)
{
	SSL *outer_client = SSL_new(clients), *outer_server = SSL_new(servers);
	SSL *client = SSL_new(clients), *server = SSL_new(servers);

	connect_pair(outer_client, outer_server);
	BIO *a = over(outer_client), *b = over(outer_server);

	SSL_set_bio(client, a, a);
	SSL_set_bio(server, b, b);
	SSL_set_connect_state(client);
	SSL_set_accept_state(server);
	handshake(client, server);
	say(client, server, "inner words");
}

static void sendfile_case(SSL_CTX *clients, SSL_CTX *servers)
{
	SSL *client = SSL_new(clients), *server = SSL_new(servers);
	char name[] = "/tmp/featuresXXXXXX", buffer[4096];
	int fds[2], file = mkstemp(name);

	unlink(name);
	if (write(file, "0123456789", 10) != 10 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds))
		exit(1);
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	SSL_set_options(client, SSL_OP_ENABLE_KTLS);
	SSL_set_fd(client, fds[0]);
	SSL_set_fd(server, fds[1]);
	SSL_set_connect_state(client);
	SSL_set_accept_state(server);
	handshake(client, server);
	say(client, server, "before");
	if (SSL_sendfile(client, file, 2, 5, 0) != 5)
		puts("unsupported");
	else
		printf("sent %d\n", SSL_read(server, buffer, sizeof(buffer)));
	say(client, server, "after");
}

static void failing(SSL_CTX *clients, SSL_CTX *servers)
{
	SSL *client = SSL_new(clients), *server = SSL_new(servers);
	char buffer[100];

	SSL_write(client, "too early", 9); /* no BIO, no handshake */
	connect_pair(client, server);
	for (int i = 0; i < 50; i++)
		SSL_read(client, buffer, sizeof(buffer)); /* WANT_READ */
	SSL_write(client, buffer, -1);
	say(client, server, "good");
	SSL_shutdown(client);
	SSL_read(server, buffer, sizeof(buffer)); /* the end of the stream */
	ERR_clear_error();
}

int main(int argc, char **argv)
{
	SSL_CTX *clients = SSL_CTX_new(TLS_client_method()), *servers = server_context();

	if (argc != 2)
		return 2;
	if (!strcmp(argv[1], "reuse"))
		reuse(clients, servers);
	else if (!strcmp(argv[1], "nested"))
		nested(clients, servers);
	else if (!strcmp(argv[1], "sendfile"))
		sendfile_case(clients, servers);
	else if (!strcmp(argv[1], "failing"))
		failing(clients, servers);
	else
		return 2;
	return 0;
}
