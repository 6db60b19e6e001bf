#define _GNU_SOURCE
#include "boot.h"
#include "net.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define POWER_MODULE "/lib/modules/paddock_power.ko"

enum { TERM_WAIT_MS = 1500, KILL_WAIT_MS = 500 };

/* The contract with the monitor: devices/boot_marker.ts */
enum { MARKER_PORT = 0x301 };

void mark_boot(enum boot_marker marker)
{
	/* A kernel without ioperm() boots as well: nobody learns then how long it took */
	if (ioperm(MARKER_PORT, 1, 1) < 0)
		return;
	outb((unsigned char)marker, MARKER_PORT);
	/* Children would inherit the permission */
	ioperm(MARKER_PORT, 1, 0);
}

static void complain(const char *what, const char *which)
{
	dprintf(2, "paddock-init: cannot %s %s: %s\n", what, which, strerror(errno));
}

static void mount_at(const char *type, const char *target, unsigned long flags, const char *options)
{
	mkdir(target, 0755);
	/* EBUSY: the kernel or an initrd has already mounted it */
	if (mount(type, target, type, flags, options) < 0 && errno != EBUSY)
		complain("mount", target);
}

static void mount_all(void)
{
	const unsigned long plain = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	mount_at("proc", "/proc", plain, NULL);
	mount_at("sysfs", "/sys", plain, NULL);
	mount_at("devtmpfs", "/dev", MS_NOSUID, NULL);
	mount_at("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666");
	mount_at("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
	mount_at("tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755");
	mount_at("cgroup2", "/sys/fs/cgroup", plain, NULL);
	/* Present already when the root file system brought them */
	if (symlink("/proc/self/fd", "/dev/fd") == 0) {
		symlink("/proc/self/fd/0", "/dev/stdin");
		symlink("/proc/self/fd/1", "/dev/stdout");
		symlink("/proc/self/fd/2", "/dev/stderr");
	}
}

/* Value of a word `key=value` of the kernel's command line, or NULL. */
static const char *boot_option(const char *key, char *out, size_t room)
{
	char line[4096];
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
	char *rest = line;

	if (fd >= 0)
		close(fd);
	if (length < 0)
		return NULL;
	line[length] = '\0';
	for (char *word; (word = strsep(&rest, " \n")) != NULL;) {
		size_t key_length = strlen(key);
		if (strncmp(word, key, key_length) == 0 && word[key_length] == '=') {
			snprintf(out, room, "%s", word + key_length + 1);
			return out;
		}
	}
	return NULL;
}

static void set_up_network(void)
{
	char value[64];

	if (net_up("lo", NULL) < 0)
		complain("bring up", "lo");
	if (boot_option("paddock.ip", value, sizeof(value)) == NULL)
		return;
	if (net_up("eth0", value) < 0)
		complain("bring up", "eth0");
	else if (boot_option("paddock.gw", value, sizeof(value)) != NULL && net_default_route(value) < 0)
		complain("route through", value);
	/* As distributions have it. What may be pinged is decided outside, where a try is seen, too */
	if (net_allow_ping() < 0)
		complain("allow", "ping");
}

/* Agents are programs of hundreds of MB, read page by page as they run: fewer, larger reads of the disk. */
static void widen_read_ahead(void)
{
	static const char kib[] = "2048";
	int fd = open("/sys/block/vda/queue/read_ahead_kb", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, kib, sizeof(kib) - 1) < 0)
		complain("set read-ahead of", "vda");
	if (fd >= 0)
		close(fd);
}

static void load_power_module(void)
{
	int fd = open(POWER_MODULE, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
		complain("load", POWER_MODULE);
	if (fd >= 0)
		close(fd);
}

void boot(void)
{
	const struct rlimit files = { 65536, 1048576 };
	char name[64];

	mark_boot(BOOT_INIT);
	mount_all();
	widen_read_ahead();
	load_power_module();
	set_up_network();
	if (boot_option("paddock.hostname", name, sizeof(name)) != NULL && sethostname(name, strlen(name)) < 0)
		complain("set host name", name);
	setrlimit(RLIMIT_NOFILE, &files);
}

/* Signals every process but this one and waits until none is left, at most `wait_ms`. */
static void end_all(int number, int wait_ms)
{
	const struct timespec pause = { .tv_nsec = 5000000 };

	kill(-1, number);
	for (int waited_ms = 0; waited_ms < wait_ms; waited_ms += 5) {
		pid_t ended;
		while ((ended = waitpid(-1, NULL, WNOHANG)) > 0)
			continue;
		/* A user process whose parent lives is that one's to reap: it is not our child until then */
		if (ended < 0 && errno == ECHILD)
			return;
		nanosleep(&pause, NULL);
	}
}

void shut_down(int restart)
{
	end_all(SIGTERM, TERM_WAIT_MS);
	end_all(SIGKILL, KILL_WAIT_MS);
	sync();
	mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
	reboot(restart ? RB_AUTOBOOT : RB_POWER_OFF);
	/* Without the power module the kernel only halts; a triple fault at least ends the machine */
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}
