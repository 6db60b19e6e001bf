/* Unpacks an archive: files, folders, symbolic and hard links; anything else ends it with an error. */
#include "tar_reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int unpack_file(struct reader *reader, const struct entry *entry)
{
	int fd = tree_file(reader->root, entry->path);
	long long left = entry->size;
	const uint8_t *data;

	if (fd < 0)
		return -1;
	while (left > 0) {
		long n = tar_take(reader, left < FRAME_MAX ? (size_t)left : FRAME_MAX, &data);
		if (n <= 0 || write_all(fd, data, (size_t)n) < 0) {
			int error = errno;
			close(fd);
			return n == 0 ? tar_refuse(EINVAL, "the archive is cut short") : (errno = error, -1);
		}
		left -= n;
	}
	if (tree_finish_file(fd, &entry->attributes) < 0)
		return -1;
	return tar_skip(reader, tar_padding(entry->size));
}

static int unpack(struct reader *reader, const struct entry *entry)
{
	size_t length = strlen(entry->path);

	switch (entry->type) {
	case '0':
	case '7':
	case '\0':
		/* Archives older than ustar mark a folder by its name alone */
		if (length > 0 && entry->path[length - 1] == '/')
			return tree_folder(reader->root, entry->path, &entry->attributes);
		return unpack_file(reader, entry);
	case '1':
		return tree_hardlink(reader->root, entry->path, entry->linkpath) < 0 ? -1 : tar_skip(reader, entry->size + tar_padding(entry->size));
	case '2':
		return tree_symlink(reader->root, entry->path, entry->linkpath, &entry->attributes);
	case '5':
		return tree_folder(reader->root, entry->path, &entry->attributes);
	default:
		return tar_refuse(EINVAL, "device nodes, FIFOs and sparse files are not unpacked");
	}
}

/* Reads what is left, so that the host can finish sending and then reads the answer. */
static void drain(struct reader *reader)
{
	while (!reader->ended && frame_read(reader->connection, reader->frame) == 1)
		reader->ended = reader->frame->type == 'D';
}

void serve_put(int connection, struct frame *request)
{
	struct reader reader = { .connection = connection, .frame = request };
	const char *path = request_get(request, "path");
	struct entry entry = { 0 };
	int result;

	reader.force_uid = request_number(request, "uid", 0x7fffffff, -2);
	reader.force_gid = request_number(request, "gid", 0x7fffffff, -2);
	if (path == NULL || path[0] != '/' || reader.force_uid == -1 || reader.force_gid == -1) {
		frame_error(connection, EINVAL, "bad put request");
		return;
	}
	reader.root = tree_open(path);
	if (reader.root < 0)
		result = tar_refuse(errno, "cannot open the target folder");
	else
		result = 1;
	request->length = 0; /* from here on the frame holds the archive */
	tar_forget(&reader);
	while (result == 1 && (result = tar_next(&reader, &entry)) == 1) {
		tar_problem = "cannot unpack";
		if (unpack(&reader, &entry) < 0)
			break;
		free(entry.path);
		free(entry.linkpath);
		entry = (struct entry){ 0 };
	}
	int error = errno;
	if (result == 0)
		tree_finish_folders(reader.root);
	drain(&reader);
	if (result == 0)
		frame_write(connection, 'r', NULL, 0);
	else
		frame_error(connection, error, "%s: %s: %s", tar_problem, entry.path != NULL ? entry.path : "archive", strerror(error));
}
