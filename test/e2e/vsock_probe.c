/* Tries to connect to ports of the host, of the guest itself and of another guest by vsock; says of each how that went. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* linux/vm_sockets.h, which musl's headers lack */
struct vsock_address {
	unsigned short family, reserved;
	unsigned int port, cid;
	unsigned char flags, zero[3];
};

static void probe(unsigned int cid, unsigned int port)
{
	struct vsock_address address = { AF_VSOCK, 0, port, cid, 0, { 0 } };
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	int result = fd < 0 ? -1 : connect(fd, (struct sockaddr *)&address, sizeof(address));

	printf("vsock %u:%u %s\n", cid, port, result == 0 ? "CONNECTED" : strerror(errno));
	close(fd);
}

int main(void)
{
	static const unsigned int ports[] = { 1, 22, 80, 1024, 1025, 1026, 8080, 0xffffffff };

	for (unsigned int i = 0; i < sizeof(ports) / sizeof(ports[0]); i++)
		probe(2, ports[i]);
	/* The hypervisor, and another guest */
	probe(0, 1024);
	probe(4, 1024);
	return 0;
}
