/*
 * Requests and responses of one byte over TCP, one at a time.
 *
 *     ping_pong serve ADDRESS PORT              answers every byte with itself, for one client after the other
 *     ping_pong ask ADDRESS PORT MILLISECONDS   asks for so long, then prints the round trips a second
 */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec + at.tv_nsec / 1e9;
}

/* Without it a byte may wait for the acknowledgement of the one before. */
static void send_at_once(int fd)
{
	int on = 1;

	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		err(1, "TCP_NODELAY");
}

static void serve(int listener, const struct sockaddr_in *address)
{
	int on = 1;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (const struct sockaddr *)address, sizeof(*address)) < 0 || listen(listener, 4) < 0)
		err(1, "listen");
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		char byte;

		if (fd < 0)
			err(1, "accept");
		send_at_once(fd);
		while (read(fd, &byte, 1) == 1 && write(fd, &byte, 1) == 1)
			;
		close(fd);
	}
}

static void ask(int fd, const struct sockaddr_in *address, double seconds)
{
	long count = 0;
	char byte = 'a';
	double start, end;

	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		err(1, "connect");
	send_at_once(fd);
	start = now();
	do {
		if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
			err(1, "round trip");
		count++;
		end = now();
	} while (end - start < seconds);
	printf("%.1f\n", count / (end - start));
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	int fd;

	if (argc < 4 || inet_pton(AF_INET, argv[2], &address.sin_addr) != 1)
		errx(2, "usage: ping_pong serve|ask ADDRESS PORT [MILLISECONDS]");
	address.sin_port = htons(atoi(argv[3]));
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		err(1, "socket");
	if (strcmp(argv[1], "serve") == 0)
		serve(fd, &address);
	else
		ask(fd, &address, argc > 4 ? atof(argv[4]) / 1000 : 1);
	return 0;
}
