/* SPDX-License-Identifier: MIT */
/* Sends blocks over a TCP connection to itself: prints nanoseconds a write and read. Arguments: bytes, pairs. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int argc, char **argv)
{
	size_t size = argc > 1 ? strtoul(argv[1], NULL, 10) : 64;
	long pairs = argc > 2 ? strtol(argv[2], NULL, 10) : 100000;
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	char *block = calloc(1, size);

	if (bind(listener, (void *)&address, length) || listen(listener, 1) ||
	    getsockname(listener, (void *)&address, &length) || connect(client, (void *)&address, length))
		return 1;
	int server = accept(listener, NULL, NULL);

	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	double begin = now_ns();
	for (long i = 0; i < pairs; i++) {
		if (write(client, block, size) != (ssize_t)size)
			return 2;
		for (size_t got = 0; got < size;) {
			ssize_t n = read(server, block, size - got);

			if (n <= 0)
				return 3;
			got += n;
		}
	}
	printf("%.0f\n", (now_ns() - begin) / pairs);
	return 0;
}
