/* SPDX-License-Identifier: Apache-2.0 */
/* The tap, with as much offload as the kernel has; made in the target namespace, handed to the controller, not kept. */
#include "helper.h"

#include <linux/if_tun.h>
#include <sys/ioctl.h>

/* struct virtio_net_hdr_mrg_rxbuf, the form that vhost and QEMU use, too */
#define VNET_HEADER_BYTES 12
#define QUEUE_FRAMES 4096

/* Newer than Debian 12's headers: uapi/linux/if_tun.h, kernel 6.2 */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

/* An existing persistent tap is taken as it is found: TUNSETIFF attaches to it, or makes one. */
static bool attach(int fd, const char *name, short flags)
{
    struct ifreq request = {.ifr_flags = flags};

    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    return ioctl(fd, TUNSETIFF, &request) == 0;
}

static void set_offloads(struct tap *tap)
{
    const unsigned tso = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
    int bytes = VNET_HEADER_BYTES;

    if (ioctl(tap->fd, TUNSETVNETHDRSZ, &bytes) != 0)
        die_errno("Couldn't set the header size of tap %s", tap->name);
    tap->vnet_header_bytes = bytes;
    /* USO needs kernel 6.2. A persistent tap may remember offloads of an earlier user: the last call switches them off. */
    if (ioctl(tap->fd, TUNSETOFFLOAD, (unsigned long)(tso | TUN_F_USO4 | TUN_F_USO6)) == 0)
        tap->tso = tap->uso = true;
    else if (ioctl(tap->fd, TUNSETOFFLOAD, (unsigned long)tso) == 0)
        tap->tso = true;
    else
        ioctl(tap->fd, TUNSETOFFLOAD, 0UL);
}

/*
 * The kernel's 500 frames overflow when thousands of connections end at once and the controller is not running at that
 * moment: what is lost then are their resets, and those flows are forgotten a minute later. Best effort.
 */
static void lengthen_queue(const struct tap *tap, int fd)
{
    struct ifreq request = {.ifr_qlen = QUEUE_FRAMES};

    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", tap->name);
    ioctl(fd, SIOCSIFTXQLEN, &request);
}

static void read_identity(struct tap *tap)
{
    struct ifreq request = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", tap->name);
    if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &request) != 0)
        die_errno("Couldn't read the address of tap %s", tap->name);
    lengthen_queue(tap, fd);
    memcpy(tap->mac, request.ifr_hwaddr.sa_data, sizeof(tap->mac));
    close(fd);
    tap->index = interface_index(tap->name);
}

/*
 * The header's size is of the descriptor, not of the device: another one is changed to ours. Whether there is packet information in front
 * (no IFF_NO_PI) cannot be seen: TUNGETIFF has IFF_NOFILTER in that bit. As for the original, there must be none.
 */
void tap_take(struct tap *tap, int fd)
{
    struct ifreq request = {0};

    if (ioctl(fd, TUNGETIFF, &request) != 0 || !(request.ifr_flags & IFF_TAP))
        die("--netns-type=tapfd: the descriptor is not a tap");
    *tap = (struct tap){.fd = fd};
    snprintf(tap->name, sizeof(tap->name), "%s", request.ifr_name);
    if (request.ifr_flags & IFF_VNET_HDR)
        set_offloads(tap);
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0 || ioctl(fd, SIOCGIFHWADDR, &request) != 0)
        die_errno("Couldn't read the address of tap %s", tap->name);
    memcpy(tap->mac, request.ifr_hwaddr.sa_data, sizeof(tap->mac));
}

void tap_make(struct tap *tap, const char *name)
{
    *tap = (struct tap){.fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC)};
    snprintf(tap->name, sizeof(tap->name), "%s", name);
    if (tap->fd < 0)
        die_errno("Couldn't open /dev/net/tun");
    if (attach(tap->fd, name, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
        set_offloads(tap);
    else if (!attach(tap->fd, name, IFF_TAP | IFF_NO_PI))
        die_errno("Couldn't create tap %s in the namespace", name);
    read_identity(tap);
}
