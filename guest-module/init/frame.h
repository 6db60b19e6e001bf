/*
 * The control protocol's frames: u8 type, u32le length, payload; and requests: NUL-terminated "key=value" strings.
 */
#ifndef FRAME_H
#define FRAME_H
#include <stddef.h>
#include <stdint.h>

enum { FRAME_HEADER = 5, FRAME_MAX = 65536, FRAME_DATA = 32768 };

/** A frame that was read whole. */
struct frame {
	uint8_t type;
	uint32_t length;
	uint8_t payload[FRAME_MAX];
};

/** Reads one frame; 0 at end of stream, -1 on an error or a frame that is too long. */
int frame_read(int fd, struct frame *frame);
/** Writes one frame, blocking; -1 when the peer is gone. */
int frame_write(int fd, uint8_t type, const void *payload, uint32_t length);
/** Fills in the 5 bytes of a header. */
void frame_header(uint8_t *out, uint8_t type, uint32_t length);
/** Length that a header names. */
uint32_t frame_length(const uint8_t *header);
/** Sends an `X` frame: errno and text. */
void frame_error(int fd, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/** Whether a request payload is made of NUL-terminated strings. */
int request_valid(const struct frame *frame);
/** Value of the first `key` at or after `*cursor` (start with 0), which moves behind it; NULL when there is none. */
const char *request_next(const struct frame *frame, const char *key, size_t *cursor);
/** Value of the first `key`, or NULL. */
const char *request_get(const struct frame *frame, const char *key);
/** Value of `key` as a number from 0 to `max`; `fallback` when absent, -1 when it is not such a number. */
long long request_number(const struct frame *frame, const char *key, long long max, long long fallback);

void put_u32le(uint8_t *out, uint32_t value);
uint32_t get_u32le(const uint8_t *in);
/** write(2) until all is out; -1 on an error. */
int write_all(int fd, const void *data, size_t length);

#endif
