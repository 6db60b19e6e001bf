/* Runs one command for one connection. */
#ifndef EXEC_H
#define EXEC_H
#include "frame.h"

/** What the process of a command is started from. */
struct command {
	char **argv;
	char **env;
	const char *cwd;
	const char *user;
	int with_stdin;
	int rows, cols; /* of the PTY; rows < 0: no PTY */
};

/** A started command: our ends of its streams (-1: none). A PTY's two streams are one descriptor, duplicated. */
struct child {
	int pid, pidfd;
	int in, out, err;
	int pty;
};

/** Serves an `E` request until the command ended or the host closed the connection. */
void serve_exec(int connection, struct frame *request);
/** Starts the command; 0, or an errno with `*what` naming the step that failed. */
int spawn_command(const struct command *command, struct child *child, const char **what);
/** Sets the size of a terminal. */
void resize_pty(int pty, int rows, int cols);

#endif
