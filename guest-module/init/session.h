/*
 * One running command: moves its streams, signals and terminal size between the connection and the process, and
 * reports how it ended. Output waits for the host (one frame at a time); input waits for the command.
 */
#ifndef SESSION_H
#define SESSION_H
#include "exec.h"

enum { STDIN_MAX = 256 * 1024 }; /* stdin bytes that may wait for the command */

struct session {
	int connection;
	struct child child;
	uint8_t output[FRAME_HEADER + FRAME_DATA];
	size_t output_length, output_sent;
	uint8_t input[FRAME_HEADER + FRAME_MAX];
	size_t input_length;
	uint8_t *stdin_data;
	size_t stdin_length;
	int stdin_ending;
	long long deadline_ms, kill_ms, quiet_ms;
	int exited, timed_out, host_gone;
};

/** Serves a started command to its end; `timeout_ms` below 0: no limit. */
void session_run(struct session *session, long long timeout_ms);

#endif
