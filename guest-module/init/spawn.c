/* Starts a process: user, folder, environment, and pipes or a pseudo terminal. */
#define _GNU_SOURCE
#include "exec.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* What a child that could not become the command says through its pipe. */
struct failure {
	int error;
	int step;
};

static const char *const STEPS[] = { "set up streams", "become the user", "enter the folder", "run the program" };

/* The ends that the command gets. */
struct far_ends {
	int in, out, err;
	int is_pty;
};

void resize_pty(int pty, int rows, int cols)
{
	struct winsize size = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols };

	ioctl(pty, TIOCSWINSZ, &size);
}

static int open_pty(const struct command *command, const struct passwd *user, struct child *child, struct far_ends *far)
{
	int pty = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	int far_end, number, unlock = 0;

	if (pty < 0)
		return errno;
	/* TIOCGPTPEER opens the far end without a path: no other /dev/pts can stand in its way */
	if (ioctl(pty, TIOCSPTLCK, &unlock) < 0 || ioctl(pty, TIOCGPTN, &number) < 0 ||
	    (far_end = ioctl(pty, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0) {
		int error = errno;
		close(pty);
		return error;
	}
	if (geteuid() == 0 && fchown(far_end, user->pw_uid, (gid_t)-1) < 0) {
		/* the command still has its streams; only opening the terminal by name may fail */
	}
	resize_pty(pty, command->rows, command->cols);
	*far = (struct far_ends){ far_end, far_end, far_end, 1 };
	child->pty = child->out = pty;
	child->in = fcntl(pty, F_DUPFD_CLOEXEC, 0);
	return child->in < 0 ? errno : 0;
}

static int open_pipes(const struct command *command, struct child *child, struct far_ends *far)
{
	int in[2] = { -1, -1 }, out[2], err[2];

	if (command->with_stdin) {
		if (pipe2(in, O_CLOEXEC) < 0)
			return errno;
	} else {
		in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		if (in[0] < 0)
			return errno;
	}
	/* A descriptor that stays open on an error ends with this process, which serves one connection */
	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
		return errno;
	*far = (struct far_ends){ in[0], out[1], err[1], 0 };
	child->in = in[1];
	child->out = out[0];
	child->err = err[0];
	return 0;
}

static int become_user(const struct passwd *user)
{
	if (geteuid() != 0)
		return user->pw_uid == geteuid() ? 0 : (errno = EPERM, -1);
	if (initgroups(user->pw_name, user->pw_gid) < 0 || setgid(user->pw_gid) < 0)
		return -1;
	return setuid(user->pw_uid);
}

/* In the child: returns only on a failure. */
static int become_command(const struct command *command, const struct passwd *user, const struct far_ends *far)
{
	sigset_t none;

	sigemptyset(&none);
	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	if (far->is_pty && ioctl(far->in, TIOCSCTTY, 0) < 0)
		return 0;
	if (dup2(far->in, 0) < 0 || dup2(far->out, 1) < 0 || dup2(far->err, 2) < 0)
		return 0;
	if (become_user(user) < 0)
		return 1;
	if (chdir(command->cwd) < 0)
		return 2;
	environ = command->env;
	execvp(command->argv[0], command->argv);
	return 3;
}

int spawn_command(const struct command *command, struct child *child, const char **what)
{
	struct far_ends far = { -1, -1, -1, 0 };
	struct failure failure = { 0, 0 };
	const struct passwd *user = getpwnam(command->user);
	int report[2], error;

	*child = (struct child){ -1, -1, -1, -1, -1, -1 };
	*what = "find the user";
	if (user == NULL)
		return ENOENT;
	*what = STEPS[0];
	if (pipe2(report, O_CLOEXEC) < 0)
		return errno;
	error = command->rows >= 0 ? open_pty(command, user, child, &far) : open_pipes(command, child, &far);
	if (error != 0)
		return error;
	child->pid = fork();
	if (child->pid < 0)
		return errno;
	if (child->pid == 0) {
		failure.step = become_command(command, user, &far);
		failure.error = errno;
		write_all(report[1], &failure, sizeof(failure));
		_exit(127);
	}
	close(report[1]);
	close(far.in);
	if (far.out != far.in)
		close(far.out);
	if (far.err != far.in)
		close(far.err);
	/* The pipe closes by itself when the program runs */
	if (read(report[0], &failure, sizeof(failure)) == (ssize_t)sizeof(failure)) {
		*what = STEPS[failure.step & 3];
		waitpid(child->pid, NULL, 0);
		return failure.error;
	}
	close(report[0]);
	child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
	return child->pidfd < 0 ? errno : 0;
}
