#define _GNU_SOURCE
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FOLDER_FLAGS = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC };

struct made_folder {
	struct made_folder *before;
	long long mtime;
	char path[];
};

static struct made_folder *made_folders;

int tree_open(const char *path)
{
	char part[PATH_MAX];

	if (strlen(path) >= sizeof(part)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	for (const char *at = path; (at = strchr(at + 1, '/')) != NULL;) {
		memcpy(part, path, (size_t)(at - path));
		part[at - path] = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return -1;
	}
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return -1;
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Opens folder `name` in `at` and closes `at`; makes it when it is missing. */
static int step_into(int at, const char *name)
{
	int next = openat(at, name, FOLDER_FLAGS);

	if (next < 0 && errno == ENOENT) {
		if (mkdirat(at, name, 0755) == 0 || errno == EEXIST)
			next = openat(at, name, FOLDER_FLAGS);
	}
	int error = errno;
	close(at);
	errno = error;
	return next;
}

int tree_parent(int root, const char *path, char last[256])
{
	int at = fcntl(root, F_DUPFD_CLOEXEC, 0);

	last[0] = '\0';
	while (at >= 0) {
		size_t length;

		path += strspn(path, "/");
		length = strcspn(path, "/");
		if (length == 0)
			return at;
		if (length == 1 && path[0] == '.') {
			path += 1;
			continue;
		}
		if (length > 255 || (length == 2 && path[0] == '.' && path[1] == '.')) {
			close(at);
			errno = length > 255 ? ENAMETOOLONG : EINVAL;
			return -1;
		}
		/* The part before this one turned out to be a folder on the way */
		if (last[0] != '\0' && (at = step_into(at, last)) < 0)
			return -1;
		memcpy(last, path, length);
		last[length] = '\0';
		path += length;
	}
	return -1;
}

static int set_owner(int at, const char *name, const struct attributes *attributes)
{
	/* Only root may give files away; anyone else (a test) keeps them */
	if (geteuid() != 0)
		return 0;
	return fchownat(at, name, attributes->uid, attributes->gid, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH);
}

static void set_time(int at, const char *name, long long mtime)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = (time_t)mtime } };

	/* A time that the file system cannot hold is not worth failing for */
	utimensat(at, name, times, AT_SYMLINK_NOFOLLOW);
}

static int close_with(int fd, int result)
{
	int error = errno;

	close(fd);
	errno = error;
	return result;
}

static void remember_folder(const char *path, long long mtime)
{
	struct made_folder *folder = malloc(sizeof(*folder) + strlen(path) + 1);

	if (folder == NULL)
		return;
	folder->before = made_folders;
	folder->mtime = mtime;
	strcpy(folder->path, path);
	made_folders = folder;
}

int tree_folder(int root, const char *path, const struct attributes *attributes)
{
	char name[256];
	struct stat there;
	int parent = tree_parent(root, path, name), fd;

	if (parent < 0)
		return -1;
	if (name[0] == '\0')
		return close_with(parent, 0); /* the target folder itself: its owner and mode are the host's choice */
	if (fstatat(parent, name, &there, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(there.st_mode) &&
	    unlinkat(parent, name, 0) < 0)
		return close_with(parent, -1);
	fd = step_into(parent, name);
	if (fd < 0)
		return -1;
	if (set_owner(fd, "", attributes) < 0 || fchmod(fd, attributes->mode & 07777) < 0)
		return close_with(fd, -1);
	remember_folder(path, attributes->mtime);
	return close_with(fd, 0);
}

/* Removes what is at `name`, unless it is a folder that holds something. */
static int clear_place(int parent, const char *name)
{
	if (name[0] == '\0') {
		errno = EINVAL;
		return -1;
	}
	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	return errno == EISDIR ? unlinkat(parent, name, AT_REMOVEDIR) : -1;
}

int tree_symlink(int root, const char *path, const char *target, const struct attributes *attributes)
{
	char name[256];
	int parent = tree_parent(root, path, name);

	if (parent < 0)
		return -1;
	if (clear_place(parent, name) < 0 || symlinkat(target, parent, name) < 0 ||
	    set_owner(parent, name, attributes) < 0)
		return close_with(parent, -1);
	set_time(parent, name, attributes->mtime);
	return close_with(parent, 0);
}

int tree_hardlink(int root, const char *path, const char *target)
{
	char name[256], target_name[256];
	int parent = tree_parent(root, path, name), target_parent, result;

	if (parent < 0)
		return -1;
	target_parent = tree_parent(root, target, target_name);
	if (target_parent < 0)
		return close_with(parent, -1);
	result = clear_place(parent, name);
	if (result == 0)
		result = linkat(target_parent, target_name, parent, name, 0);
	result = close_with(target_parent, result);
	return close_with(parent, result);
}

int tree_file(int root, const char *path)
{
	char name[256];
	int parent = tree_parent(root, path, name);

	if (parent < 0)
		return -1;
	if (clear_place(parent, name) < 0)
		return close_with(parent, -1);
	/* 0600: nobody reads it before it has its owner */
	return close_with(parent, openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
}

int tree_finish_file(int fd, const struct attributes *attributes)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = (time_t)attributes->mtime } };

	/* The owner first: changing it clears the set-id bits */
	if (set_owner(fd, "", attributes) < 0 || fchmod(fd, attributes->mode & 07777) < 0)
		return close_with(fd, -1);
	futimens(fd, times);
	return close(fd);
}

void tree_finish_folders(int root)
{
	for (const struct made_folder *folder = made_folders; folder != NULL; folder = folder->before) {
		char name[256];
		int parent = tree_parent(root, folder->path, name);
		if (parent < 0)
			continue;
		set_time(parent, name, folder->mtime);
		close(parent);
	}
}
