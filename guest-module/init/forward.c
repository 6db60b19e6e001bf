#define _GNU_SOURCE
#include "forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	WAY_BYTES = 64 * 1024,
	HALF_IDLE_MS = 120000, /* silence after one side's end: a side that went away whole looks like one that only ended */
};

/* One direction: what was read from one end and not yet written to the other. */
struct way {
	int from, to;
	size_t start, length;
	int from_ended, to_ended;
	uint8_t bytes[WAY_BYTES];
};

/* The port on loopback, IPv4 first: servers that listen there only are the reason for this way in. */
static int connect_port(uint16_t port)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port),
				   .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), error;

	if (fd >= 0 && connect(fd, (struct sockaddr *)&v4, sizeof(v4)) == 0)
		return fd;
	error = errno;
	if (fd >= 0)
		close(fd);
	fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&v6, sizeof(v6)) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	errno = error;
	return -1;
}

/* Moves what can be moved; -1 when an end is broken. */
static int move(struct way *way)
{
	ssize_t n;

	if (way->length == 0 && !way->from_ended) {
		n = read(way->from, way->bytes, WAY_BYTES);
		if (n == 0)
			way->from_ended = 1;
		else if (n > 0)
			way->start = 0, way->length = (size_t)n;
		else if (errno != EAGAIN && errno != EINTR)
			return -1;
	}
	if (way->length > 0) {
		n = write(way->to, way->bytes + way->start, way->length);
		if (n > 0)
			way->start += (size_t)n, way->length -= (size_t)n;
		else if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -1;
	}
	if (way->from_ended && way->length == 0 && !way->to_ended) {
		shutdown(way->to, SHUT_WR);
		way->to_ended = 1;
	}
	return 0;
}

static short wanted(const struct way *in, const struct way *out)
{
	return (short)((in->length == 0 && !in->from_ended ? POLLIN : 0) | (out->length > 0 ? POLLOUT : 0));
}

/* Until both directions have ended, or one end is gone. */
static void carry(struct way *in, struct way *out)
{
	while (!in->to_ended || !out->to_ended) {
		struct pollfd polled[] = { { in->from, wanted(in, out), 0 }, { in->to, wanted(out, in), 0 } };

		/* An end that has nothing more to do is not asked: its hang-up would only wake this loop again and again */
		for (int i = 0; i < 2; i++)
			if (polled[i].events == 0)
				polled[i].fd = -1;
		int ready = poll(polled, 2, in->to_ended || out->to_ended ? HALF_IDLE_MS : -1);
		if (ready == 0 || (ready < 0 && errno != EINTR))
			return;
		if (move(in) < 0 || move(out) < 0)
			return;
	}
}

void serve_forward(int connection, struct frame *request)
{
	long long port = request_number(request, "port", 65535, 0);
	struct way *in = calloc(1, sizeof(*in)), *out = calloc(1, sizeof(*out));
	int fd;

	if (port <= 0 || in == NULL || out == NULL) {
		frame_error(connection, EINVAL, "bad connect request");
		return;
	}
	fd = connect_port((uint16_t)port);
	if (fd < 0) {
		frame_error(connection, errno, "cannot connect to port %lld: %s", port, strerror(errno));
		return;
	}
	if (frame_write(connection, 'r', NULL, 0) < 0)
		return;
	fcntl(connection, F_SETFL, fcntl(connection, F_GETFL) | O_NONBLOCK);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	in->from = out->to = connection;
	in->to = out->from = fd;
	carry(in, out);
}
