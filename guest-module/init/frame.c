#include "frame.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void put_u32le(uint8_t *out, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		out[i] = (uint8_t)(value >> (8 * i));
}

uint32_t get_u32le(const uint8_t *in)
{
	return in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

void frame_header(uint8_t *out, uint8_t type, uint32_t length)
{
	out[0] = type;
	put_u32le(out + 1, length);
}

uint32_t frame_length(const uint8_t *header)
{
	return get_u32le(header + 1);
}

int write_all(int fd, const void *data, size_t length)
{
	const uint8_t *at = data;

	while (length > 0) {
		ssize_t n = write(fd, at, length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -1;
		at += n;
		length -= (size_t)n;
	}
	return 0;
}

/* 1: all read, 0: end of stream before the first byte, -1: error or end in the middle */
static int read_all(int fd, void *data, size_t length)
{
	uint8_t *at = data;
	size_t got = 0;

	while (got < length) {
		ssize_t n = read(fd, at + got, length - got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0 && got == 0 ? 0 : -1;
		got += (size_t)n;
	}
	return 1;
}

int frame_read(int fd, struct frame *frame)
{
	uint8_t header[FRAME_HEADER];
	int result = read_all(fd, header, sizeof(header));

	if (result <= 0)
		return result;
	frame->type = header[0];
	frame->length = frame_length(header);
	if (frame->length > FRAME_MAX)
		return -1;
	if (frame->length > 0 && read_all(fd, frame->payload, frame->length) != 1)
		return -1;
	return 1;
}

int frame_write(int fd, uint8_t type, const void *payload, uint32_t length)
{
	uint8_t header[FRAME_HEADER];

	frame_header(header, type, length);
	if (write_all(fd, header, sizeof(header)) < 0)
		return -1;
	return length > 0 ? write_all(fd, payload, length) : 0;
}

void frame_error(int fd, int error, const char *format, ...)
{
	uint8_t payload[1024];
	va_list arguments;
	int length;

	put_u32le(payload, (uint32_t)error);
	va_start(arguments, format);
	length = vsnprintf((char *)payload + 4, sizeof(payload) - 4, format, arguments);
	va_end(arguments);
	if (length < 0)
		length = 0;
	if ((size_t)length > sizeof(payload) - 5)
		length = sizeof(payload) - 5;
	frame_write(fd, 'X', payload, 4 + (uint32_t)length);
}

int request_valid(const struct frame *frame)
{
	return frame->length == 0 || frame->payload[frame->length - 1] == '\0';
}

const char *request_next(const struct frame *frame, const char *key, size_t *cursor)
{
	size_t key_length = strlen(key);

	while (*cursor < frame->length) {
		const char *entry = (const char *)frame->payload + *cursor;
		*cursor += strlen(entry) + 1;
		if (strncmp(entry, key, key_length) == 0 && entry[key_length] == '=')
			return entry + key_length + 1;
	}
	return NULL;
}

const char *request_get(const struct frame *frame, const char *key)
{
	size_t cursor = 0;

	return request_next(frame, key, &cursor);
}

long long request_number(const struct frame *frame, const char *key, long long max, long long fallback)
{
	const char *text = request_get(frame, key);
	char *end;
	long long value;

	if (text == NULL)
		return fallback;
	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < 0 || value > max)
		return -1;
	return value;
}
