/*
 * Writes to a disk in steps: 32 blocks at once, all over the disk, then fdatasync, then the step's number on stdout. What
 * is printed must be on the disk, whatever happens to the machine next.
 *
 *     flush_steps DEVICE BLOCKS      BLOCKS: blocks of 4 KiB that the disk has, a power of two
 *
 * Write number n = step * 32 + k, from 0, goes to block n * 40503 mod BLOCKS, which no other write goes to until all
 * blocks are written, and fills it with the 64-bit little-endian number n + 1.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IN_FLIGHT 32
#define BLOCK 4096
#define STRIDE 40503

static uint64_t blocks[IN_FLIGHT][BLOCK / 8] __attribute__((aligned(BLOCK)));

int main(int argc, char **argv)
{
	uint64_t count = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
	aio_context_t context = 0;
	int fd;

	if (count == 0)
		errx(2, "usage: flush_steps DEVICE BLOCKS");
	fd = open(argv[1], O_WRONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0 || syscall(SYS_io_setup, IN_FLIGHT, &context) < 0)
		err(1, "%s", argv[1]);
	for (uint64_t step = 0; (step + 1) * IN_FLIGHT <= count; step++) {
		struct iocb requests[IN_FLIGHT], *list[IN_FLIGHT];
		struct io_event events[IN_FLIGHT];

		for (int k = 0; k < IN_FLIGHT; k++) {
			uint64_t number = step * IN_FLIGHT + k;

			for (int word = 0; word < BLOCK / 8; word++)
				blocks[k][word] = number + 1;
			requests[k] = (struct iocb){
				.aio_lio_opcode = IOCB_CMD_PWRITE,
				.aio_fildes = fd,
				.aio_buf = (uintptr_t)blocks[k],
				.aio_nbytes = BLOCK,
				.aio_offset = number * STRIDE % count * BLOCK,
			};
			list[k] = &requests[k];
		}
		if (syscall(SYS_io_submit, context, IN_FLIGHT, list) != IN_FLIGHT)
			err(1, "io_submit");
		if (syscall(SYS_io_getevents, context, IN_FLIGHT, IN_FLIGHT, events, NULL) != IN_FLIGHT)
			err(1, "io_getevents");
		for (int k = 0; k < IN_FLIGHT; k++)
			if (events[k].res != BLOCK)
				errx(1, "step %llu: %lld", (unsigned long long)step, (long long)events[k].res);
		if (fdatasync(fd) < 0)
			err(1, "fdatasync");
		printf("flushed %llu\n", (unsigned long long)step);
		fflush(stdout);
	}
	return 0;
}
