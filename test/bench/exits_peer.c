/*
 * The least that runs a guest on KVM, in C: the peer that `bench exits` measures against. Same guest, same machine
 * underneath (interrupt controllers and timer in the kernel, 64-bit mode, the first 2 MiB mapped), same ports.
 *
 *     exits_peer CODE     CODE: flat 64-bit code, loaded and entered at 1 MiB
 *
 * Prints the seconds between the guest's first and second write to the serial port.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { RAM_BYTES = 16 << 20, CODE_ADDR = 1 << 20, SERIAL = 0x3f8, POWER = 0x300, CPUID_MAX = 256 };

static int checked(int result, const char *what)
{
	if (result < 0) {
		perror(what);
		exit(1);
	}
	return result;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void load(uint8_t *ram, const char *path)
{
	uint64_t *tables = (uint64_t *)(ram + 0x9000);
	int fd = checked(open(path, O_RDONLY), path);

	checked((int)read(fd, ram + CODE_ADDR, RAM_BYTES - CODE_ADDR), "read");
	close(fd);
	tables[0] = 0xa003;
	tables[512] = 0xb003;
	tables[1024] = 0x83;
}

static void set_up(int vcpu)
{
	struct kvm_segment code = { .limit = ~0u, .selector = 0x10, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1 };
	struct kvm_segment data = { .limit = ~0u, .selector = 0x18, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1 };
	struct kvm_regs regs = { .rip = CODE_ADDR, .rsp = 0x8ff0, .rflags = 2 };
	struct kvm_sregs sregs;

	checked(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 = 0x80000031;
	sregs.cr3 = 0x9000;
	sregs.cr4 = 0x20;
	sregs.efer = 0x500;
	checked(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	checked(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
}

/* Serves exits until the guest powers off. */
static double run(int vcpu, struct kvm_run *page)
{
	double first = 0, seconds = 0;

	for (;;) {
		const uint8_t *data;

		checked(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
		if (page->exit_reason != KVM_EXIT_IO) {
			fprintf(stderr, "unexpected exit %u\n", page->exit_reason);
			exit(1);
		}
		data = (const uint8_t *)page + page->io.data_offset;
		if (page->io.port == SERIAL) {
			seconds = now() - first;
			first = now();
		} else if (page->io.port == POWER && *data == 1)
			return seconds;
	}
}

int main(int argc, char **argv)
{
	struct kvm_userspace_memory_region region = { .memory_size = RAM_BYTES };
	struct kvm_cpuid2 *cpuid = calloc(1, sizeof(*cpuid) + CPUID_MAX * sizeof(cpuid->entries[0]));
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	int kvm = checked(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
	int vm = checked(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM"), vcpu;
	void *ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), *page;

	if (argc != 2 || ram == MAP_FAILED || cpuid == NULL)
		return 1;
	load(ram, argv[1]);
	region.userspace_addr = (uintptr_t)ram;
	checked(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
	checked(ioctl(vm, KVM_CREATE_PIT2, &pit), "KVM_CREATE_PIT2");
	checked(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
	vcpu = checked(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	page = mmap(NULL, (size_t)checked(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE"),
		    PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (page == MAP_FAILED)
		return 1;
	cpuid->nent = CPUID_MAX;
	checked(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid), "KVM_GET_SUPPORTED_CPUID");
	checked(ioctl(vcpu, KVM_SET_CPUID2, cpuid), "KVM_SET_CPUID2");
	set_up(vcpu);
	printf("%.9f\n", run(vcpu, page));
	return 0;
}
