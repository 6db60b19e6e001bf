// SPDX-License-Identifier: GPL-2.0
/*
 * Power button and power switch of a Paddock microVM.
 *
 * Interrupt 5: the host asks for an orderly power-off. The kernel runs /sbin/poweroff, and switches off by
 * itself when there is none. Port 0x300: writing 1 switches the machine off; the kernel does it last of all.
 */
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/module.h>
#include <linux/reboot.h>

#define POWER_PORT 0x300
#define POWER_IRQ 5
#define POWER_OFF 1

static struct sys_off_handler *power_off_handler;

static irqreturn_t power_button(int irq, void *device)
{
	/* Schedules a work item, and does nothing when one is scheduled: safe here, and for a held button */
	orderly_poweroff(true);
	return IRQ_HANDLED;
}

static int power_switch(struct sys_off_data *data)
{
	outb(POWER_OFF, POWER_PORT);
	return NOTIFY_DONE;
}

static int __init power_init(void)
{
	int error;

	if (!request_region(POWER_PORT, 1, KBUILD_MODNAME))
		return -EBUSY;
	power_off_handler = register_sys_off_handler(SYS_OFF_MODE_POWER_OFF, SYS_OFF_PRIO_FIRMWARE,
						     power_switch, NULL);
	if (IS_ERR(power_off_handler)) {
		error = PTR_ERR(power_off_handler);
		goto release;
	}
	error = request_irq(POWER_IRQ, power_button, 0, KBUILD_MODNAME, &power_off_handler);
	if (!error)
		return 0;
	unregister_sys_off_handler(power_off_handler);
release:
	release_region(POWER_PORT, 1);
	return error;
}

static void __exit power_exit(void)
{
	free_irq(POWER_IRQ, &power_off_handler);
	unregister_sys_off_handler(power_off_handler);
	release_region(POWER_PORT, 1);
}

module_init(power_init);
module_exit(power_exit);

MODULE_DESCRIPTION("Power button and power switch of a Paddock microVM");
MODULE_LICENSE("GPL");
