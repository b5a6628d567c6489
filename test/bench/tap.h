/* SPDX-License-Identifier: Apache-2.0 */
/* The tap of the benchmark's guests that are no virtual machines. */
#pragma once
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "../support/tool.h"

/* Non-blocking, with a virtio-net header of so many octets, little endian, and with these of TUN_F_*. */
static inline int open_tap(const char *device, int header, unsigned offloads)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int little = 1, tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	strncpy(request.ifr_name, device, IFNAMSIZ - 1);
	if (tap < 0 || ioctl(tap, TUNSETIFF, &request) || ioctl(tap, TUNSETVNETHDRSZ, &header) || ioctl(tap, TUNSETVNETLE, &little) ||
	    ioctl(tap, TUNSETOFFLOAD, offloads))
		fail(device);
	return tap;
}

static inline struct sockaddr_un unix_address(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	return address;
}
