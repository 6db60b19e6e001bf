#define _GNU_SOURCE
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	KILL_AFTER_MS = 5000,    /* from TERM to KILL */
	QUIET_MS = 300,          /* silence after the end that closes streams which a background process holds */
};

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void close_end(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void signal_group(const struct session *s, int number)
{
	/* The process is not reaped before the end, so its id cannot be another's */
	if (number > 0 && number < NSIG)
		kill(-s->child.pid, number);
}

/* One frame from the host; 0 when it must wait for room, -1 when it is not understood. */
static int take_frame(struct session *s, uint8_t type, const uint8_t *payload, uint32_t length)
{
	switch (type) {
	case 'i':
		if (s->stdin_length + length > STDIN_MAX)
			return 0;
		if (s->child.in >= 0 && !s->stdin_ending) {
			memcpy(s->stdin_data + s->stdin_length, payload, length);
			s->stdin_length += length;
		}
		return 1;
	case 'I':
		s->stdin_ending = 1;
		return 1;
	case 'w':
		if (length != 4)
			return -1;
		if (s->child.pty >= 0)
			resize_pty(s->child.pty, payload[0] | payload[1] << 8, payload[2] | payload[3] << 8);
		return 1;
	case 'k':
		if (length != 4)
			return -1;
		signal_group(s, (int)get_u32le(payload));
		return 1;
	default:
		return -1;
	}
}

/* Takes the frames that are whole. */
static void take_frames(struct session *s)
{
	size_t at = 0;

	while (s->input_length - at >= FRAME_HEADER) {
		uint32_t length = frame_length(s->input + at);
		int taken;

		if (length > FRAME_MAX) {
			s->host_gone = 1;
			return;
		}
		if (s->input_length - at < FRAME_HEADER + length)
			break;
		taken = take_frame(s, s->input[at], s->input + at + FRAME_HEADER, length);
		if (taken < 0)
			s->host_gone = 1;
		if (taken <= 0)
			break;
		at += FRAME_HEADER + length;
	}
	memmove(s->input, s->input + at, s->input_length - at);
	s->input_length -= at;
}

static void read_connection(struct session *s)
{
	ssize_t n = read(s->connection, s->input + s->input_length, sizeof(s->input) - s->input_length);

	if (n > 0)
		s->input_length += (size_t)n;
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		s->host_gone = 1;
}

static void send_output(struct session *s)
{
	while (s->output_sent < s->output_length) {
		ssize_t n = write(s->connection, s->output + s->output_sent, s->output_length - s->output_sent);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			s->host_gone = 1;
			return;
		}
		s->output_sent += (size_t)n;
	}
	s->output_length = s->output_sent = 0;
	/* The host may have been slow: what waits in the pipes still counts as in time */
	if (s->exited)
		s->quiet_ms = now_ms() + QUIET_MS;
}

static void read_stream(struct session *s, int *fd, uint8_t type)
{
	ssize_t n = read(*fd, s->output + FRAME_HEADER, FRAME_DATA);

	if (n > 0) {
		frame_header(s->output, type, (uint32_t)n);
		s->output_length = FRAME_HEADER + (size_t)n;
		send_output(s);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		/* a terminal whose last user is gone answers EIO */
		close_end(fd);
	}
}

static void write_stdin(struct session *s)
{
	if (s->child.in >= 0 && s->stdin_length > 0) {
		ssize_t n = write(s->child.in, s->stdin_data, s->stdin_length);
		if (n > 0) {
			s->stdin_length -= (size_t)n;
			memmove(s->stdin_data, s->stdin_data + n, s->stdin_length);
		} else if (n < 0 && errno != EAGAIN && errno != EINTR) {
			close_end(&s->child.in);
			s->stdin_length = 0;
		}
	}
	if (s->stdin_ending && s->stdin_length == 0 && s->child.in >= 0) {
		/* A terminal has no end of file: ^D says it, where the command has not changed that */
		if (s->child.pty >= 0)
			write_all(s->child.in, "\004", 1);
		close_end(&s->child.in);
	}
}

static void check_clock(struct session *s)
{
	long long now = now_ms();

	if (!s->exited && s->deadline_ms >= 0 && now >= s->deadline_ms) {
		s->timed_out = 1;
		s->deadline_ms = -1;
		s->kill_ms = now + KILL_AFTER_MS;
		signal_group(s, SIGTERM);
	}
	if (s->kill_ms >= 0 && now >= s->kill_ms) {
		s->kill_ms = -1;
		signal_group(s, SIGKILL);
	}
	if (s->exited && s->output_length == 0 && now >= s->quiet_ms) {
		close_end(&s->child.out);
		close_end(&s->child.err);
	}
}

static int poll_timeout(const struct session *s)
{
	long long next = LLONG_MAX, now = now_ms();

	if (!s->exited && s->deadline_ms >= 0)
		next = s->deadline_ms;
	if (s->kill_ms >= 0 && s->kill_ms < next)
		next = s->kill_ms;
	if (s->exited && s->output_length == 0 && s->quiet_ms < next)
		next = s->quiet_ms;
	if (next == LLONG_MAX)
		return -1;
	return next <= now ? 0 : next - now > INT_MAX ? INT_MAX : (int)(next - now);
}

static void pump(struct session *s)
{
	while (!s->host_gone && (!s->exited || s->child.out >= 0 || s->child.err >= 0 || s->output_length > 0)) {
		int idle = s->output_length == 0;
		int room = s->input_length < sizeof(s->input);
		struct pollfd polled[] = {
			{ s->connection, (short)((room ? POLLIN : 0) | (idle ? 0 : POLLOUT) | POLLRDHUP), 0 },
			{ idle ? s->child.out : -1, POLLIN, 0 },
			{ idle ? s->child.err : -1, POLLIN, 0 },
			{ s->stdin_length > 0 || s->stdin_ending ? s->child.in : -1, POLLOUT, 0 },
			{ s->exited ? -1 : s->child.pidfd, POLLIN, 0 },
		};

		if (poll(polled, 5, poll_timeout(s)) < 0 && errno != EINTR)
			return;
		if (polled[0].revents & POLLOUT)
			send_output(s);
		if (polled[1].revents != 0 && s->output_length == 0)
			read_stream(s, &s->child.out, 'o');
		if (polled[2].revents != 0 && s->output_length == 0)
			read_stream(s, &s->child.err, 'e');
		if (polled[0].revents & POLLIN && room)
			read_connection(s);
		else if (polled[0].revents & (POLLRDHUP | POLLERR | POLLHUP))
			s->host_gone = 1;
		take_frames(s);
		if (polled[3].revents != 0)
			write_stdin(s);
		if (polled[4].revents != 0) {
			s->exited = 1;
			s->quiet_ms = now_ms() + QUIET_MS;
		}
		check_clock(s);
	}
}

static void report_end(struct session *s)
{
	uint8_t payload[5];
	int status = 0;

	/* Nobody waits for this command any more: end it, with all that it started */
	if (s->host_gone)
		signal_group(s, SIGKILL);
	while (waitpid(s->child.pid, &status, 0) < 0 && errno == EINTR)
		continue;
	if (s->host_gone)
		return;
	payload[0] = s->timed_out ? 2 : WIFSIGNALED(status) ? 1 : 0;
	put_u32le(payload + 1, (uint32_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)));
	fcntl(s->connection, F_SETFL, fcntl(s->connection, F_GETFL) & ~O_NONBLOCK);
	frame_write(s->connection, 'x', payload, sizeof(payload));
}

static void set_nonblocking(int fd)
{
	if (fd >= 0)
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

void session_run(struct session *s, long long timeout_ms)
{
	s->deadline_ms = timeout_ms >= 0 ? now_ms() + timeout_ms : -1;
	s->kill_ms = -1;
	set_nonblocking(s->connection);
	set_nonblocking(s->child.in);
	set_nonblocking(s->child.out);
	set_nonblocking(s->child.err);
	pump(s);
	report_end(s);
}
