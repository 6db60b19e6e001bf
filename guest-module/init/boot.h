/* What PID 1 does once, before it serves: file systems, network, power module, host name. */
#ifndef BOOT_H
#define BOOT_H

/** Sets the machine up. What fails is said on the console; the guest goes on with what works. */
void boot(void);
/** Ends every process, makes the disk consistent, and switches off (or restarts). Does not return. */
void shut_down(int restart) __attribute__((noreturn));

#endif
