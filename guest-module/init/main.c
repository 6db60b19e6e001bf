/*
 * PID 1 of a Paddock microVM: sets the machine up, then serves the control protocol on vsock port 1024, one
 * process per connection, and reaps whatever is left without a parent.
 *
 * `paddock-init --serve-unix PATH` serves the same protocol on a Unix socket without touching the machine.
 * Called as `poweroff` or `reboot` it asks PID 1 for that.
 */
#define _GNU_SOURCE
#include "boot.h"
#include "exec.h"
#include "forward.h"
#include "frame.h"
#include "tar.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* linux/vm_sockets.h, which musl's headers lack */
struct vsock_address {
	unsigned short family, reserved;
	unsigned int port, cid;
	unsigned char flags, zero[3];
};

enum { VSOCK_ANY = -1, VSOCK_HOST = 2, PORT_CONTROL = 1024, PORT_READY = 1025, CONNECTIONS_MAX = 128, BACKLOG = 1024 };

static volatile sig_atomic_t end_wanted; /* 0, SIGUSR2: power off, SIGTERM: restart */

static void on_signal(int number)
{
	/* What busybox's poweroff, halt and reboot send to PID 1; and Ctrl-Alt-Del */
	end_wanted = number == SIGUSR1 || number == SIGUSR2 ? SIGUSR2 : SIGTERM;
}

static void set_clock(int connection, const struct frame *request)
{
	long long ns = request_number(request, "unix_ns", 0x7fffffffffffffff, -1);
	struct timespec now = { ns / 1000000000, ns % 1000000000 };

	if (ns < 0)
		frame_error(connection, EINVAL, "bad clock request");
	else if (clock_settime(CLOCK_REALTIME, &now) < 0)
		frame_error(connection, errno, "cannot set the clock: %s", strerror(errno));
	else
		frame_write(connection, 'r', NULL, 0);
}

static void serve_connection(int connection)
{
	static struct frame request;

	if (frame_read(connection, &request) != 1 || !request_valid(&request))
		return;
	switch (request.type) {
	case 'E':
		serve_exec(connection, &request);
		break;
	case 'P':
		serve_put(connection, &request);
		break;
	case 'G':
		serve_get(connection, &request);
		break;
	case 'C':
		serve_forward(connection, &request);
		break;
	case 'N':
		frame_write(connection, 'r', NULL, 0);
		break;
	case 'T':
		set_clock(connection, &request);
		break;
	case 'O':
		frame_write(connection, 'r', NULL, 0);
		kill(getppid(), SIGUSR2);
		break;
	default:
		frame_error(connection, EPROTO, "unknown request");
	}
}

static int listen_vsock(void)
{
	struct vsock_address address = { AF_VSOCK, 0, PORT_CONTROL, (unsigned)VSOCK_ANY, 0, { 0 } };
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	return -1;
}

static int listen_unix(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
		return -1;
	strcpy(address.sun_path, path);
	unlink(path);
	return bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, BACKLOG) == 0 ? fd : -1;
}

/* Tells the host that the control port is open. Without a listener there nobody waits for it. */
static void say_ready(void)
{
	struct vsock_address host = { AF_VSOCK, 0, PORT_READY, VSOCK_HOST, 0, { 0 } };
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timespec uptime;
	struct utsname system;
	char hello[256];
	int length;

	if (fd < 0)
		return;
	uname(&system);
	clock_gettime(CLOCK_BOOTTIME, &uptime);
	length = snprintf(hello, sizeof(hello), "version=1%ckernel=%s%cuptime_ms=%lld", 0, system.release, 0,
			  uptime.tv_sec * 1000LL + uptime.tv_nsec / 1000000);
	if (connect(fd, (struct sockaddr *)&host, sizeof(host)) == 0)
		frame_write(fd, 'H', hello, (uint32_t)length + 1);
	close(fd);
}

/* Reaps what ended; returns how many connections' processes were among them. */
static int reap(const pid_t *serving, int count)
{
	int ended = 0;
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
		for (int i = 0; i < count; i++)
			if (serving[i] == pid) {
				((pid_t *)serving)[i] = 0;
				ended++;
			}
	return ended;
}

static void serve(int listener, const sigset_t *open_mask)
{
	static pid_t serving[CONNECTIONS_MAX];

	while (!end_wanted) {
		fd_set readable;
		int connection, slot = 0;

		reap(serving, CONNECTIONS_MAX);
		FD_ZERO(&readable);
		FD_SET(listener, &readable);
		/* Signals arrive only here: none can be lost between the checks above and the wait */
		if (pselect(listener + 1, &readable, NULL, NULL, NULL, open_mask) <= 0)
			continue;
		connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (connection < 0)
			continue;
		while (slot < CONNECTIONS_MAX && serving[slot] != 0)
			slot++;
		if (slot < CONNECTIONS_MAX && (serving[slot] = fork()) == 0) {
			for (int number = 1; number < NSIG; number++)
				signal(number, number == SIGPIPE ? SIG_IGN : SIG_DFL);
			sigprocmask(SIG_SETMASK, open_mask, NULL);
			close(listener);
			serve_connection(connection);
			_exit(0);
		}
		if (slot < CONNECTIONS_MAX && serving[slot] < 0)
			serving[slot] = 0;
		close(connection);
	}
}

static void set_up_signals(sigset_t *open_mask)
{
	static const int numbers[] = { SIGCHLD, SIGTERM, SIGINT, SIGUSR1, SIGUSR2 };
	sigset_t blocked;

	sigemptyset(&blocked);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaddset(&blocked, numbers[i]);
	sigprocmask(SIG_BLOCK, &blocked, open_mask);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigdelset(open_mask, numbers[i]);
	for (size_t i = 1; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		signal(numbers[i], on_signal);
}

static void on_child(int number)
{
	(void)number; /* only there to end the wait */
}

static int ask_pid1(int number)
{
	if (kill(1, number) == 0)
		return 0;
	perror("kill");
	return 1;
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/') != NULL ? strrchr(argv[0], '/') + 1 : argv[0];
	int as_init = getpid() == 1, listener;
	sigset_t open_mask;

	if (!as_init && strcmp(name, "poweroff") == 0)
		return ask_pid1(SIGUSR2);
	if (!as_init && strcmp(name, "reboot") == 0)
		return ask_pid1(SIGTERM);
	if (!as_init && (argc != 3 || strcmp(argv[1], "--serve-unix") != 0)) {
		dprintf(2, "usage: paddock-init --serve-unix PATH\n");
		return 2;
	}
	set_up_signals(&open_mask);
	signal(SIGCHLD, on_child);
	if (as_init)
		boot();
	else
		prctl(PR_SET_CHILD_SUBREAPER, 1);
	listener = as_init ? listen_vsock() : listen_unix(argv[2]);
	if (listener < 0) {
		dprintf(2, "paddock-init: cannot listen: %s\n", strerror(errno));
		if (!as_init)
			return 1;
		/* Nobody could ever reach this guest */
		shut_down(0);
	}
	if (as_init) {
		mark_boot(BOOT_READY);
		say_ready();
	}
	serve(listener, &open_mask);
	if (as_init)
		shut_down(end_wanted == SIGTERM);
	return 0;
}
