/* What PID 1 does once, before it serves: file systems, network, power module, host name. */
#ifndef BOOT_H
#define BOOT_H

/* How far the boot is, told to the monitor */
enum boot_marker { BOOT_INIT = 1, BOOT_READY = 2 };
void mark_boot(enum boot_marker marker);

/** Sets the machine up. What fails is said on the console; the guest goes on with what works. */
void boot(void);
/** Ends every process, makes the disk consistent, and switches off (or restarts). Does not return. */
void shut_down(int restart) __attribute__((noreturn));

#endif
