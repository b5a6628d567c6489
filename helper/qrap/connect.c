/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection to a passt that is alive. A socket says nothing of that: passt may have ended, or serve another guest. So each is
 * asked, in one write, for what passt answers whatever it was told: an ARP request and a neighbour solicitation, for an
 * instance may have one IP version alone. Both are such that passt learns of the guest only what is true of it: its MAC, and the
 * link-local address that goes with it.
 *
 * Answers are read to the end of a frame, never further: QEMU goes on where this stops.
 */
#include "qrap.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#define NUMBERED_SOCKETS 64
#define ANSWER_MS 500
/* A passt whose guest has just gone may hang up once or twice more. */
#define ROUNDS 50
#define ROUND_MS 50
/* Ethernet's header; QEMU's largest frame (NET_BUFSIZE). */
#define FRAME_BYTES_MIN 14u
#define FRAME_BYTES_MAX 69632u

enum outcome { ANSWERED, ABSENT, HUNG_UP, FAILED };

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- the question ---- */

#define ARP_BYTES 42u
#define NS_BYTES 86u
#define LENGTH_BYTES 4u

static void put_length(uint8_t *at, uint32_t length)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(length >> (24 - 8 * i));
}

/* Who has 0.0.0.0, tell 0.0.0.0: nobody's address is learnt from it. */
static void put_arp(uint8_t *frame, const uint8_t mac[MAC_BYTES])
{
    static const uint8_t REQUEST[] = {0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1};

    memset(frame, 0, ARP_BYTES);
    memset(frame, 0xff, MAC_BYTES);
    memcpy(frame + 6, mac, MAC_BYTES);
    memcpy(frame + 12, REQUEST, sizeof(REQUEST));
    memcpy(frame + 22, mac, MAC_BYTES);
}

static void put_checksum(uint8_t *icmp, const uint8_t *addresses, size_t bytes)
{
    uint32_t sum = 58 + (uint32_t)bytes;

    for (size_t i = 0; i < 32; i += 2)
        sum += (uint32_t)addresses[i] << 8 | addresses[i + 1];
    for (size_t i = 0; i < bytes; i += 2)
        sum += (uint32_t)icmp[i] << 8 | icmp[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    icmp[2] = (uint8_t)(~sum >> 8);
    icmp[3] = (uint8_t)~sum;
}

/* Who has fe80::1, tell the link-local address that the guest makes of its MAC (RFC 4861 §4.3, RFC 4291 appendix A). */
static void put_solicitation(uint8_t *frame, const uint8_t mac[MAC_BYTES])
{
    static const uint8_t TO[] = {0x33, 0x33, 0xff, 0, 0, 1};
    static const uint8_t HEADERS[] = {0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255};
    static const uint8_t GROUP[] = {0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 1};
    static const uint8_t TARGET[] = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    const uint8_t source[] = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]};
    uint8_t *icmp = frame + 54;

    memset(frame, 0, NS_BYTES);
    memcpy(frame, TO, sizeof(TO));
    memcpy(frame + 6, mac, MAC_BYTES);
    memcpy(frame + 12, HEADERS, sizeof(HEADERS));
    memcpy(frame + 22, source, sizeof(source));
    memcpy(frame + 38, GROUP, sizeof(GROUP));
    icmp[0] = 135;
    memcpy(icmp + 8, TARGET, sizeof(TARGET));
    icmp[24] = 1; /* option: the sender's link-layer address, one unit of eight bytes */
    icmp[25] = 1;
    memcpy(icmp + 26, mac, MAC_BYTES);
    put_checksum(icmp, frame + 22, NS_BYTES - 54);
}

static bool ask(int fd, const uint8_t mac[MAC_BYTES])
{
    uint8_t question[2 * LENGTH_BYTES + ARP_BYTES + NS_BYTES];
    uint8_t *second = question + LENGTH_BYTES + ARP_BYTES;

    put_length(question, ARP_BYTES);
    put_arp(question + LENGTH_BYTES, mac);
    put_length(second, NS_BYTES);
    put_solicitation(second + LENGTH_BYTES, mac);
    return send(fd, question, sizeof(question), MSG_NOSIGNAL) == (ssize_t)sizeof(question);
}

/* ---- the answer ---- */

/* Waits for something to read; false with errno. */
static bool readable(int fd, int64_t until_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    for (;;) {
        int64_t left = until_ms - now_ms();
        int ready = poll(&poll_fd, 1, left > 0 ? (int)left : 0);

        if (ready > 0)
            return true;
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready == 0)
            errno = ETIMEDOUT;
        return false;
    }
}

static bool read_exactly(int fd, uint8_t *to, size_t bytes, int64_t until_ms)
{
    while (bytes > 0) {
        if (!readable(fd, until_ms))
            return false;
        ssize_t n = recv(fd, to, bytes, MSG_DONTWAIT);

        if (n == 0)
            errno = ECONNRESET;
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return false;
        if (n > 0) {
            to += n;
            bytes -= (size_t)n;
        }
    }
    return true;
}

static bool read_frame(int fd, int64_t until_ms)
{
    static uint8_t frame[FRAME_BYTES_MAX];
    uint8_t header[LENGTH_BYTES];

    if (!read_exactly(fd, header, sizeof(header), until_ms))
        return false;
    size_t length = (size_t)header[0] << 24 | (size_t)header[1] << 16 | (size_t)header[2] << 8 | header[3];
    if (length < FRAME_BYTES_MIN || length > FRAME_BYTES_MAX) {
        errno = EPROTO;
        return false;
    }
    return read_exactly(fd, frame, length, until_ms);
}

/* One frame at least, and what has come behind it. */
static bool is_answered(int fd)
{
    int64_t until_ms = now_ms() + ANSWER_MS;

    if (!read_frame(fd, until_ms))
        return false;
    while (now_ms() < until_ms && readable(fd, 0))
        if (!read_frame(fd, until_ms))
            return false;
    return true;
}

/* ---- one socket, all sockets ---- */

static bool connect_to(int fd, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    /* Where connections that nobody has accepted already wait, connect() would wait, too. */
    const struct timeval patience = {.tv_usec = ANSWER_MS * 1000}, forever = {0};

    if (strlen(path) >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return false;
    }
    memcpy(address.sun_path, path, strlen(path));
    return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0 &&
           connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &forever, sizeof(forever)) == 0;
}

static const char *reason(int errnum)
{
    switch (errnum) {
    case EAGAIN: return "nobody accepts connections";
    case ECONNRESET:
    case EPIPE: return "it hung up; it may have another guest";
    case EPROTO: return "the answer is no frame";
    case ETIMEDOUT: return "no answer";
    default: return strerror(errnum);
    }
}

/* HUNG_UP says nothing yet: it may be worth another try. */
static enum outcome probe(const char *path, const uint8_t mac[MAC_BYTES], int *connection)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        die("Couldn't make a socket: %s", strerror(errno));
    if (connect_to(fd, path) && ask(fd, mac) && is_answered(fd)) {
        *connection = fd;
        return ANSWERED;
    }
    int errnum = errno;
    close(fd);
    if (errnum == ECONNRESET || errnum == EPIPE)
        return HUNG_UP;
    if (errnum == ENOENT)
        return ABSENT;
    fprintf(stderr, "Probe of %s failed: %s\n", path, reason(errnum));
    return FAILED;
}

/* Whose passt it is, where it is not our own user's: /tmp is everybody's. */
static int announce(int fd, const char *path)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.uid != geteuid())
        fprintf(stderr, "Connected to %s, which is user %u's\n", path, (unsigned)peer.uid);
    else
        fprintf(stderr, "Connected to %s\n", path);
    return fd;
}

static int connect_to_named(const char *path, const uint8_t mac[MAC_BYTES])
{
    enum outcome outcome = FAILED;
    int fd;

    for (int round = 0; round <= ROUNDS; round++) {
        outcome = probe(path, mac, &fd);
        if (outcome == ANSWERED)
            return announce(fd, path);
        if (outcome != HUNG_UP)
            break;
        poll(NULL, 0, ROUND_MS);
    }
    if (outcome == HUNG_UP || outcome == ABSENT)
        fprintf(stderr, "Probe of %s failed: %s\n", path, outcome == ABSENT ? strerror(ENOENT) : reason(ECONNRESET));
    die("Couldn't find a passt that answers");
}

static void numbered(char path[], size_t size, int number)
{
    snprintf(path, size, "/tmp/passt_%d.socket", number);
}

/* The first that answers; those that hung up are asked again while there is none. */
static int connect_to_first(const uint8_t mac[MAC_BYTES])
{
    enum outcome outcomes[NUMBERED_SOCKETS + 1];
    char path[32];
    int fd, hung_up = NUMBERED_SOCKETS, absent = 0;

    for (int i = 1; i <= NUMBERED_SOCKETS; i++)
        outcomes[i] = HUNG_UP;
    for (int round = 0; round <= ROUNDS && hung_up > 0; round++) {
        if (round > 0)
            poll(NULL, 0, ROUND_MS);
        hung_up = 0;
        for (int i = 1; i <= NUMBERED_SOCKETS; i++) {
            if (outcomes[i] != HUNG_UP)
                continue;
            numbered(path, sizeof(path), i);
            outcomes[i] = probe(path, mac, &fd);
            if (outcomes[i] == ANSWERED)
                return announce(fd, path);
            hung_up += outcomes[i] == HUNG_UP;
            absent += outcomes[i] == ABSENT;
        }
    }
    for (int i = 1; i <= NUMBERED_SOCKETS; i++) {
        numbered(path, sizeof(path), i);
        if (outcomes[i] == HUNG_UP)
            fprintf(stderr, "Probe of %s failed: %s\n", path, reason(ECONNRESET));
    }
    numbered(path, sizeof(path), 1);
    if (absent == NUMBERED_SOCKETS)
        fprintf(stderr, "Probe of %s failed, and of all to number %d: %s\n", path, NUMBERED_SOCKETS, strerror(ENOENT));
    die("Couldn't find a passt that answers");
}

int connect_to_passt(const char *path, const uint8_t mac[MAC_BYTES])
{
    return path && *path ? connect_to_named(path, mac) : connect_to_first(mac);
}
