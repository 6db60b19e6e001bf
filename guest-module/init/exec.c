/* Reads a request to run a command, and starts it. */
#include "exec.h"
#include "session.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Collects the values of a repeated key into a NULL-terminated list. */
static char **collect(struct frame *request, const char *key)
{
	size_t count = 0, cursor = 0;
	char **list;

	while (request_next(request, key, &cursor) != NULL)
		count++;
	list = calloc(count + 1, sizeof(char *));
	cursor = 0;
	for (size_t i = 0; list != NULL && i < count; i++)
		list[i] = (char *)request_next(request, key, &cursor);
	return list;
}

static int parse_size(const char *text, int *rows, int *cols)
{
	char *end;
	long r = strtol(text, &end, 10), c;

	if (*end != 'x')
		return -1;
	c = strtol(end + 1, &end, 10);
	if (*end != '\0' || r < 0 || r > 65535 || c < 0 || c > 65535)
		return -1;
	*rows = (int)r;
	*cols = (int)c;
	return 0;
}

void serve_exec(int connection, struct frame *request)
{
	static struct session s;
	struct command command = { .cwd = "/", .user = "root", .rows = -1, .cols = -1 };
	long long timeout = request_number(request, "timeout_ms", INT_MAX, -2);
	const char *value, *what;
	uint8_t pid[4];
	int error;

	command.argv = collect(request, "arg");
	command.env = collect(request, "env");
	if ((value = request_get(request, "cwd")) != NULL)
		command.cwd = value;
	if ((value = request_get(request, "user")) != NULL)
		command.user = value;
	command.with_stdin = (value = request_get(request, "stdin")) != NULL && strcmp(value, "1") == 0;
	value = request_get(request, "pty");
	if (command.argv == NULL || command.env == NULL || command.argv[0] == NULL || timeout == -1 ||
	    (value != NULL && parse_size(value, &command.rows, &command.cols) < 0)) {
		frame_error(connection, EINVAL, "bad exec request");
		return;
	}
	s.stdin_data = malloc(STDIN_MAX);
	error = s.stdin_data == NULL ? ENOMEM : spawn_command(&command, &s.child, &what);
	if (error != 0) {
		frame_error(connection, error, "cannot %s: %s: %s", s.stdin_data == NULL ? "start" : what,
			    command.argv[0], strerror(error));
		return;
	}
	s.connection = connection;
	put_u32le(pid, (uint32_t)s.child.pid);
	frame_write(connection, 's', pid, sizeof(pid));
	session_run(&s, timeout);
}
