/* Carries bytes between a connection of the host and a TCP port of this guest. */
#ifndef FORWARD_H
#define FORWARD_H
#include "frame.h"

/** Serves a `C` request: answers `r` once the port took the connection; from then on there are no frames, only bytes. */
void serve_forward(int connection, struct frame *request);

#endif
