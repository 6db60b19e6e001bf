/*
 * Reads the entries of an archive that arrives in frames: ustar, pax (path, linkpath, size, mtime, uid, gid) and GNU
 * long names.
 */
#ifndef TAR_READER_H
#define TAR_READER_H
#include "tar.h"
#include "tree.h"

struct reader {
	int connection, root;
	struct frame *frame;
	uint32_t used;        /* bytes of the frame already taken */
	int ended;            /* the `D` frame was seen */
	long long force_uid, force_gid;
	/* from the records before a header; NULL and -1: not given */
	char *path, *linkpath;
	long long size, mtime, uid, gid;
};

struct entry {
	char *path, *linkpath;
	char type;
	long long size;
	struct attributes attributes;
};

/** What the last failed call could not do, for the error's text. */
extern const char *tar_problem;

/** Sets `tar_problem` and errno; returns -1. */
int tar_refuse(int error, const char *text);
/** 1: a header that describes a file; 0: the end of the archive; -1: an error. Free the entry's two names. */
int tar_next(struct reader *reader, struct entry *entry);
/** Gives up to `length` bytes of the archive where they lie; 0 at its end, -1 when the host is gone. */
long tar_take(struct reader *reader, size_t length, const uint8_t **data);
/** Passes over `length` bytes; 0 or -1. */
int tar_skip(struct reader *reader, long long length);
/** Bytes from the end of a content of `size` to the next block. */
long long tar_padding(long long size);
/** Forgets what records before a header said of it. */
void tar_forget(struct reader *reader);

#endif
