/* The tar format, POSIX ustar with pax headers; and the two operations that move folders over a connection. */
#ifndef TAR_H
#define TAR_H
#include "frame.h"

enum { TAR_BLOCK = 512 };

/** A header block as it lies in the archive. */
struct tar_header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, linkname[100];
	char magic[6], version[2], uname[32], gname[32], devmajor[8], devminor[8], prefix[155], padding[12];
};
_Static_assert(sizeof(struct tar_header) == TAR_BLOCK, "a header is one block");

/** Serves a `P` request: unpacks the archive that follows into the target folder. */
void serve_put(int connection, struct frame *request);
/** Serves a `G` request: sends a folder, or one file, as an archive. */
void serve_get(int connection, struct frame *request);

/** Sum over a header with its own field taken as spaces. */
unsigned tar_checksum(const struct tar_header *header);

#endif
