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

int main(void)
{
	static const unsigned int cids[] = { 0, 2, 4 };
	static const unsigned int ports[] = { 1, 22, 80, 1024, 1025, 1026, 8080, 0xffffffff };

	for (unsigned int i = 0; i < sizeof(cids) / sizeof(cids[0]); i++)
		for (unsigned int j = 0; j < sizeof(ports) / sizeof(ports[0]); j++) {
			struct vsock_address address = { AF_VSOCK, 0, ports[j], cids[i], 0, { 0 } };
			int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
			int result = fd < 0 ? -1 : connect(fd, (struct sockaddr *)&address, sizeof(address));

			printf("vsock %u:%u %s\n", cids[i], ports[j], result == 0 ? "CONNECTED" : strerror(errno));
			close(fd);
		}
	return 0;
}
