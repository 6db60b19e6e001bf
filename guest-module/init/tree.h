/*
 * Makes things below one folder and nowhere else: each name is walked part by part, no symbolic link is followed,
 * and "..", which could lead out, is refused.
 */
#ifndef TREE_H
#define TREE_H
#include <stddef.h>
#include <sys/types.h>

/** What the entry of an archive says of itself. */
struct attributes {
	mode_t mode;
	uid_t uid;
	gid_t gid;
	long long mtime;
};

/** Opens the target folder, making it if needed; a descriptor, or -1. */
int tree_open(const char *path);
/** Opens the folder that holds `path`, making it if needed, and gives the last part of the name; -1 with errno. */
int tree_parent(int root, const char *path, char last[256]);
/** 0, or -1 with errno. An existing thing of another kind is replaced; a folder is kept. */
int tree_folder(int root, const char *path, const struct attributes *attributes);
int tree_symlink(int root, const char *path, const char *target, const struct attributes *attributes);
int tree_hardlink(int root, const char *path, const char *target);
/** Creates a regular file for writing, in place of what was there; a descriptor, or -1 with errno. */
int tree_file(int root, const char *path);
/** Sets a written file's attributes. */
int tree_finish_file(int fd, const struct attributes *attributes);
/** Sets the times of the folders made, innermost first: making their content changed them. */
void tree_finish_folders(int root);

#endif
