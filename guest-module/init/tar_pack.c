/*
 * Sends a folder (its content, names relative to it) or one file as an archive. Sockets, FIFOs and device nodes
 * are left out, other file systems are not entered, symbolic links are sent as links.
 */
#define _GNU_SOURCE
#include "tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH_MAX = 1000 }; /* each level holds a descriptor and stack */

struct seen_file {
	struct seen_file *next;
	dev_t device;
	ino_t inode;
	char path[];
};

struct writer {
	int connection;
	dev_t device;
	long long left;           /* bytes that the archive may still grow by */
	uint8_t data[FRAME_DATA];
	size_t length;
	struct seen_file *seen[1024];
};

static int flush(struct writer *writer)
{
	if (writer->length > 0 && frame_write(writer->connection, 'd', writer->data, (uint32_t)writer->length) < 0)
		return -1;
	writer->length = 0;
	return 0;
}

static int emit(struct writer *writer, const void *bytes, size_t length)
{
	const uint8_t *at = bytes;

	writer->left -= (long long)length;
	if (writer->left < 0) {
		errno = EFBIG;
		return -1;
	}
	while (length > 0) {
		size_t room = FRAME_DATA - writer->length, n = length < room ? length : room;
		memcpy(writer->data + writer->length, at, n);
		writer->length += n;
		at += n;
		length -= n;
		if (writer->length == FRAME_DATA && flush(writer) < 0)
			return -1;
	}
	return 0;
}

static int emit_padding(struct writer *writer, long long size)
{
	static const uint8_t zero[TAR_BLOCK];

	return emit(writer, zero, (size_t)((TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK));
}

unsigned tar_checksum(const struct tar_header *header)
{
	const uint8_t *bytes = (const uint8_t *)header;
	unsigned sum = 0;

	for (size_t i = 0; i < sizeof(*header); i++) {
		int own = i >= offsetof(struct tar_header, checksum) && i < offsetof(struct tar_header, type);
		sum += own ? ' ' : bytes[i];
	}
	return sum;
}

static void octal(char *field, size_t length, unsigned long long value)
{
	unsigned long long limit = 1ULL << (3 * (length - 1));
	char text[32];

	/* What does not fit is in the pax header; the field is then only a filler */
	snprintf(text, sizeof(text), "%0*llo", (int)length - 1, value < limit ? value : 0);
	memcpy(field, text, length - 1);
}

static int emit_header(struct writer *writer, const char *name, const char *link, char type, const struct stat *file, long long size)
{
	struct tar_header header = { .type = type, .magic = "ustar", .version = { '0', '0' } };

	memcpy(header.name, name, strnlen(name, sizeof(header.name)));
	memcpy(header.linkname, link, strnlen(link, sizeof(header.linkname)));
	octal(header.mode, sizeof(header.mode), file->st_mode & 07777);
	octal(header.uid, sizeof(header.uid), file->st_uid);
	octal(header.gid, sizeof(header.gid), file->st_gid);
	octal(header.size, sizeof(header.size), (unsigned long long)size);
	octal(header.mtime, sizeof(header.mtime), file->st_mtime > 0 ? (unsigned long long)file->st_mtime : 0);
	octal(header.checksum, sizeof(header.checksum) - 1, tar_checksum(&header));
	return emit(writer, &header, sizeof(header));
}

/* Appends "LENGTH key=value\n", whose length counts itself. */
static size_t pax_append(char *out, size_t room, const char *key, const char *value)
{
	size_t body = strlen(key) + strlen(value) + 3, length = body + 1;
	int digits;

	while ((digits = snprintf(NULL, 0, "%zu", length)), length != body + (size_t)digits)
		length = body + (size_t)digits;
	return (size_t)snprintf(out, room, "%zu %s=%s\n", length, key, value);
}

static int emit_entry(struct writer *writer, const char *path, const char *link, char type, const struct stat *file, long long size)
{
	char records[2 * PATH_MAX + 256], text[32];
	struct stat plain = { .st_mode = 0644, .st_mtime = 0 };
	size_t length = 0;

	if (strlen(path) > 100)
		length += pax_append(records + length, sizeof(records) - length, "path", path);
	if (strlen(link) > 100)
		length += pax_append(records + length, sizeof(records) - length, "linkpath", link);
	if (size >= 1LL << 33) {
		snprintf(text, sizeof(text), "%lld", size);
		length += pax_append(records + length, sizeof(records) - length, "size", text);
	}
	if (file->st_uid >= 1 << 21) {
		snprintf(text, sizeof(text), "%u", file->st_uid);
		length += pax_append(records + length, sizeof(records) - length, "uid", text);
	}
	if (file->st_gid >= 1 << 21) {
		snprintf(text, sizeof(text), "%u", file->st_gid);
		length += pax_append(records + length, sizeof(records) - length, "gid", text);
	}
	if (length > 0 && (emit_header(writer, "pax", "", 'x', &plain, (long long)length) < 0 ||
			   emit(writer, records, length) < 0 || emit_padding(writer, (long long)length) < 0))
		return -1;
	return emit_header(writer, path, link, type, file, size);
}

/* Name under which this file was already sent, or NULL; it is remembered either way. */
static const char *sent_before(struct writer *writer, const struct stat *file, const char *path)
{
	struct seen_file **slot = &writer->seen[(file->st_ino ^ file->st_dev) % 1024], *seen;

	for (seen = *slot; seen != NULL; seen = seen->next)
		if (seen->inode == file->st_ino && seen->device == file->st_dev)
			return seen->path;
	seen = malloc(sizeof(*seen) + strlen(path) + 1);
	if (seen != NULL) {
		*seen = (struct seen_file){ *slot, file->st_dev, file->st_ino };
		strcpy(seen->path, path);
		*slot = seen;
	}
	return NULL;
}

static int send_file(struct writer *writer, int fd, const char *path)
{
	uint8_t buffer[16384];
	struct stat file;
	const char *before;
	long long left;

	if (fstat(fd, &file) < 0)
		return -1;
	if (!S_ISREG(file.st_mode))
		return 0; /* it was replaced since it was listed */
	before = file.st_nlink > 1 ? sent_before(writer, &file, path) : NULL;
	if (before != NULL)
		return emit_entry(writer, path, before, '1', &file, 0);
	if (emit_entry(writer, path, "", '0', &file, file.st_size) < 0)
		return -1;
	/* The header's size is a promise: a file that shrinks is filled with zeros, one that grows is cut */
	for (left = file.st_size; left > 0;) {
		size_t want = left < (long long)sizeof(buffer) ? (size_t)left : sizeof(buffer);
		ssize_t n = read(fd, buffer, want);
		if (n < 0)
			return -1;
		if (n == 0) {
			memset(buffer, 0, want);
			n = (ssize_t)want;
		}
		if (emit(writer, buffer, (size_t)n) < 0)
			return -1;
		left -= n;
	}
	return emit_padding(writer, file.st_size);
}

static int send_tree(struct writer *writer, int folder, const char *path, int depth);

static int send_one(struct writer *writer, int folder, const char *name, const char *path, int depth)
{
	struct stat file;
	char target[PATH_MAX];
	ssize_t length;
	int fd, result;

	if (fstatat(folder, name, &file, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -1;
	if (S_ISLNK(file.st_mode)) {
		length = readlinkat(folder, name, target, sizeof(target) - 1);
		if (length < 0)
			return errno == ENOENT ? 0 : -1;
		target[length] = '\0';
		return emit_entry(writer, path, target, '2', &file, 0);
	}
	if (!S_ISREG(file.st_mode) && !S_ISDIR(file.st_mode))
		return 0;
	/* Neither follows a link nor blocks on a FIFO that took the name in between */
	fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (S_ISDIR(file.st_mode) ? O_DIRECTORY : 0));
	if (fd < 0)
		return errno == ENOENT || errno == ELOOP || errno == ENXIO ? 0 : -1;
	if (S_ISREG(file.st_mode)) {
		result = send_file(writer, fd, path);
		close(fd);
		return result;
	}
	if (emit_entry(writer, path, "", '5', &file, 0) < 0 || depth >= DEPTH_MAX || file.st_dev != writer->device) {
		close(fd);
		if (depth >= DEPTH_MAX)
			errno = ENAMETOOLONG;
		return file.st_dev != writer->device ? 0 : -1;
	}
	return send_tree(writer, fd, path, depth + 1);
}

/* Sends what is in `folder`, and closes it. */
static int send_tree(struct writer *writer, int folder, const char *path, int depth)
{
	DIR *dir = fdopendir(folder);
	const struct dirent *item;
	int result = 0;

	if (dir == NULL) {
		close(folder);
		return -1;
	}
	while (result == 0 && (errno = 0, item = readdir(dir)) != NULL) {
		char *full;
		if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0)
			continue;
		if (strlen(path) + strlen(item->d_name) + 2 > PATH_MAX) {
			errno = ENAMETOOLONG;
			result = -1;
		} else if (asprintf(&full, "%s%s%s", path, path[0] == '\0' ? "" : "/", item->d_name) < 0) {
			result = -1;
		} else {
			result = send_one(writer, folder, item->d_name, full, depth);
			free(full);
		}
	}
	if (result == 0 && errno != 0)
		result = -1;
	int error = errno;
	closedir(dir);
	errno = error;
	return result;
}

void serve_get(int connection, struct frame *request)
{
	static const uint8_t end[2 * TAR_BLOCK];
	static struct writer writer;
	const char *path = request_get(request, "path");
	long long max = request_number(request, "max_bytes", LLONG_MAX, LLONG_MAX);
	struct stat top;
	int fd, result = -1;

	if (path == NULL || path[0] != '/' || max < 0) {
		frame_error(connection, EINVAL, "bad get request");
		return;
	}
	writer.connection = connection;
	writer.left = max;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &top) == 0) {
		const char *name = strrchr(path, '/') + 1;
		writer.device = top.st_dev;
		result = S_ISDIR(top.st_mode) ? send_tree(&writer, fd, "", 0) : send_file(&writer, fd, name);
	}
	if (result == 0 && emit(&writer, end, sizeof(end)) == 0 && flush(&writer) == 0)
		frame_write(connection, 'D', NULL, 0);
	else
		frame_error(connection, errno, "cannot send %s: %s", path, strerror(errno));
}
