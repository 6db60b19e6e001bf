#include "tar_reader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LONG_MAX_BYTES = 1024 * 1024 }; /* longest pax or long-name record */

const char *tar_problem;

int tar_refuse(int error, const char *text)
{
	tar_problem = text;
	errno = error;
	return -1;
}

long tar_take(struct reader *reader, size_t length, const uint8_t **data)
{
	while (reader->used == reader->frame->length) {
		if (reader->ended)
			return 0;
		if (frame_read(reader->connection, reader->frame) != 1)
			return tar_refuse(EPIPE, "the host closed the connection");
		reader->used = 0;
		if (reader->frame->type == 'D') {
			reader->ended = 1;
			reader->frame->length = 0;
		} else if (reader->frame->type != 'd') {
			return tar_refuse(EPROTO, "unexpected frame");
		}
	}
	if (length > reader->frame->length - reader->used)
		length = reader->frame->length - reader->used;
	*data = reader->frame->payload + reader->used;
	reader->used += (uint32_t)length;
	return (long)length;
}

static int take_all(struct reader *reader, void *out, size_t length)
{
	const uint8_t *data;
	size_t got = 0;

	while (got < length) {
		long n = tar_take(reader, length - got, &data);
		if (n < 0)
			return -1;
		if (n == 0)
			return got == 0 ? 0 : tar_refuse(EINVAL, "the archive is cut short");
		memcpy((uint8_t *)out + got, data, (size_t)n);
		got += (size_t)n;
	}
	return 1;
}

int tar_skip(struct reader *reader, long long length)
{
	const uint8_t *data;

	while (length > 0) {
		long n = tar_take(reader, length < FRAME_MAX ? (size_t)length : FRAME_MAX, &data);
		if (n <= 0)
			return n < 0 ? -1 : tar_refuse(EINVAL, "the archive is cut short");
		length -= n;
	}
	return 0;
}

long long tar_padding(long long size)
{
	return (TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK;
}

/* An octal field, or GNU's base-256 for what octal cannot hold; -1 when it is neither. */
static long long number(const char *field, size_t length)
{
	const uint8_t *bytes = (const uint8_t *)field;
	long long value = 0;
	size_t i = 0;

	if (bytes[0] == 0x80) {
		for (i = 1; i < length; i++) {
			if (value >> 54)
				return -1;
			value = value << 8 | bytes[i];
		}
		return value;
	}
	while (i < length && field[i] == ' ')
		i++;
	for (; i < length && field[i] != ' ' && field[i] != '\0'; i++) {
		if (field[i] < '0' || field[i] > '7')
			return -1;
		value = value << 3 | (field[i] - '0');
	}
	return value;
}

static char *joined(const char *prefix, size_t prefix_length, const char *name, size_t name_length)
{
	char *path = calloc(1, prefix_length + name_length + 2);

	if (path == NULL)
		return NULL;
	prefix_length = strnlen(prefix, prefix_length);
	memcpy(path, prefix, prefix_length);
	if (prefix_length > 0)
		path[prefix_length++] = '/';
	memcpy(path + prefix_length, name, strnlen(name, name_length));
	return path;
}

static void set_text(char **place, const char *value, size_t length)
{
	free(*place);
	*place = strndup(value, length);
}

/* One record: "LENGTH key=value\n"; returns its length, or 0 when it is none. */
static size_t pax_record(struct reader *reader, const char *text, size_t left)
{
	char *end;
	unsigned long length = strtoul(text, &end, 10);
	const char *key = end + 1, *value;
	size_t key_length, value_length;

	if (end == text || *end != ' ' || length > left || length < (size_t)(key - text) + 2 || text[length - 1] != '\n')
		return 0;
	value = memchr(key, '=', length - (size_t)(key - text));
	if (value == NULL)
		return 0;
	key_length = (size_t)(value++ - key);
	value_length = length - 1 - (size_t)(value - text);
	if (key_length == 4 && memcmp(key, "path", 4) == 0)
		set_text(&reader->path, value, value_length);
	else if (key_length == 8 && memcmp(key, "linkpath", 8) == 0)
		set_text(&reader->linkpath, value, value_length);
	else if (key_length == 4 && memcmp(key, "size", 4) == 0)
		reader->size = strtoll(value, NULL, 10);
	else if (key_length == 5 && memcmp(key, "mtime", 5) == 0)
		reader->mtime = strtoll(value, NULL, 10);
	else if (key_length == 3 && memcmp(key, "uid", 3) == 0)
		reader->uid = strtoll(value, NULL, 10);
	else if (key_length == 3 && memcmp(key, "gid", 3) == 0)
		reader->gid = strtoll(value, NULL, 10);
	return length;
}

/* Takes the body of a record that describes the next header. */
static int long_record(struct reader *reader, char type, long long size)
{
	char *text;
	size_t at = 0, length;

	if (size > LONG_MAX_BYTES)
		return tar_refuse(EINVAL, "a pax header or long name is too long");
	text = calloc(1, (size_t)size + 1);
	if (text == NULL)
		return tar_refuse(ENOMEM, "no memory");
	if ((size > 0 && take_all(reader, text, (size_t)size) != 1) || tar_skip(reader, tar_padding(size)) < 0) {
		free(text);
		return -1;
	}
	if (type == 'L')
		set_text(&reader->path, text, (size_t)size);
	else if (type == 'K')
		set_text(&reader->linkpath, text, (size_t)size);
	while (type == 'x' && at < (size_t)size) {
		length = pax_record(reader, text + at, (size_t)size - at);
		if (length == 0) {
			free(text);
			return tar_refuse(EINVAL, "bad pax header");
		}
		at += length;
	}
	free(text);
	return 0;
}

void tar_forget(struct reader *reader)
{
	free(reader->path);
	free(reader->linkpath);
	reader->path = reader->linkpath = NULL;
	reader->size = reader->uid = reader->gid = -1;
	reader->mtime = -1;
}

static int is_zero(const void *block)
{
	static const uint8_t zero[TAR_BLOCK];

	return memcmp(block, zero, TAR_BLOCK) == 0;
}

int tar_next(struct reader *reader, struct entry *entry)
{
	struct tar_header header;
	int got;

	while ((got = take_all(reader, &header, sizeof(header))) == 1) {
		long long size;

		if (is_zero(&header))
			return 0;
		size = number(header.size, sizeof(header.size));
		if (number(header.checksum, sizeof(header.checksum)) != (long long)tar_checksum(&header) || size < 0)
			return tar_refuse(EINVAL, "bad header");
		if (strchr("xgLK", header.type) != NULL && header.type != '\0') {
			if (long_record(reader, header.type, size) < 0)
				return -1;
			continue;
		}
		entry->type = header.type;
		entry->size = reader->size >= 0 ? reader->size : size;
		/* Only ustar's own magic ("ustar\0") promises that the prefix field is one */
		entry->path = reader->path != NULL ? strdup(reader->path)
			: joined(header.prefix, memcmp(header.magic, "ustar", 6) == 0 ? sizeof(header.prefix) : 0,
				 header.name, sizeof(header.name));
		entry->linkpath = reader->linkpath != NULL ? strdup(reader->linkpath)
			: joined("", 0, header.linkname, sizeof(header.linkname));
		if (entry->path == NULL || entry->linkpath == NULL)
			return tar_refuse(ENOMEM, "no memory");
		entry->attributes = (struct attributes){
			.mode = (mode_t)number(header.mode, sizeof(header.mode)),
			.uid = (uid_t)(reader->force_uid >= 0 ? reader->force_uid
				: reader->uid >= 0 ? reader->uid : number(header.uid, sizeof(header.uid))),
			.gid = (gid_t)(reader->force_gid >= 0 ? reader->force_gid
				: reader->gid >= 0 ? reader->gid : number(header.gid, sizeof(header.gid))),
			.mtime = reader->mtime >= 0 ? reader->mtime : number(header.mtime, sizeof(header.mtime)),
		};
		tar_forget(reader);
		return 1;
	}
	return got;
}
