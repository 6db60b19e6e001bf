/* The guest's one network interface. */
#ifndef NET_H
#define NET_H

/** Brings an interface up; `address` is "A.B.C.D/BITS" or NULL. 0, or -1 with errno. */
int net_up(const char *interface, const char *address);
/** Adds a default route. */
int net_default_route(const char *gateway);
/** Lets every user send pings without a raw socket. 0, or -1 with errno. */
int net_allow_ping(void);

#endif
