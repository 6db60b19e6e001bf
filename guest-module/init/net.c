#define _GNU_SOURCE
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr inet_address(in_addr_t address)
{
	struct sockaddr_in inet = { .sin_family = AF_INET, .sin_addr = { address } };
	struct sockaddr result;

	memcpy(&result, &inet, sizeof(result));
	return result;
}

static int set_address(int socket, struct ifreq *request, const char *text)
{
	char address[32];
	const char *slash = strchr(text, '/');
	struct in_addr parsed;
	int bits = slash != NULL ? atoi(slash + 1) : 32;
	size_t length = slash != NULL ? (size_t)(slash - text) : strlen(text);

	errno = EINVAL;
	if (length >= sizeof(address) || bits < 1 || bits > 32)
		return -1;
	memcpy(address, text, length);
	address[length] = '\0';
	if (inet_aton(address, &parsed) == 0)
		return -1;
	request->ifr_addr = inet_address(parsed.s_addr);
	if (ioctl(socket, SIOCSIFADDR, request) < 0)
		return -1;
	request->ifr_netmask = inet_address(htonl(0xffffffffu << (32 - bits)));
	return ioctl(socket, SIOCSIFNETMASK, request);
}

static int close_with(int fd, int result)
{
	int error = errno;

	close(fd);
	errno = error;
	return result;
}

int net_up(const char *interface, const char *address)
{
	struct ifreq request = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
	if (address != NULL && set_address(fd, &request, address) < 0)
		return close_with(fd, -1);
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	return close_with(fd, ioctl(fd, SIOCSIFFLAGS, &request));
}

int net_default_route(const char *gateway)
{
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };
	struct in_addr parsed;
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	errno = EINVAL;
	if (inet_aton(gateway, &parsed) == 0)
		return close_with(fd, -1);
	route.rt_dst = inet_address(INADDR_ANY);
	route.rt_genmask = inet_address(INADDR_ANY);
	route.rt_gateway = inet_address(parsed.s_addr);
	return close_with(fd, ioctl(fd, SIOCADDRT, &route));
}

int net_allow_ping(void)
{
	static const char all_groups[] = "0 2147483647";
	int fd = open("/proc/sys/net/ipv4/ping_group_range", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	return close_with(fd, write(fd, all_groups, sizeof(all_groups) - 1) < 0 ? -1 : 0);
}
