/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the card goes. QEMU gives a device without an address the first free one when it makes it, and ours comes last, so
 * that is right wherever addresses are left to QEMU. Whoever numbers devices himself, as libvirt does, leaves room only where he knows
 * of it: there the lowest address that nobody has is written out; on PCI Express a root port that nobody is behind.
 */
#include "qrap.h"

#include <strings.h>

#define SLOTS 32
/* Slot 0 is the host bridge; 1 belongs to the chipset of the older board, 0x1f to that of the newer one. */
#define FIRST_SLOT 0x2u
#define LAST_SLOT 0x1eu
/* Without -nodefaults the display is at 2. */
#define FIRST_SLOT_BESIDE_DEFAULTS 0x3u
/* What a QEMU whose name does not say its architecture has as its default machine. */
#if defined(__x86_64__) || defined(__i386__)
#define NATIVE_BOARD BOARD_PC
#elif defined(__s390x__)
#define NATIVE_BOARD BOARD_CCW
#else
#define NATIVE_BOARD BOARD_OTHER
#endif

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), wanted = strlen(end);

    return length >= wanted && strcmp(text + length - wanted, end) == 0;
}

enum board board_of(const char *type, const char *emulator)
{
    if (*type == '\0') {
        if (ends_with(emulator, "s390x"))
            return BOARD_CCW;
        if (ends_with(emulator, "x86_64") || ends_with(emulator, "i386"))
            return BOARD_PC;
        return ends_with(emulator, "kvm") ? NATIVE_BOARD : BOARD_OTHER;
    }
    if (starts_with(type, "s390-ccw"))
        return BOARD_CCW;
    if (strcmp(type, "q35") == 0 || starts_with(type, "pc-q35") || strcmp(type, "virt") == 0 || starts_with(type, "virt-"))
        return BOARD_PCIE;
    if (strcmp(type, "pc") == 0 || starts_with(type, "pc-"))
        return BOARD_PC;
    return strcmp(type, "microvm") == 0 ? BOARD_MMIO : BOARD_OTHER;
}

/* "0x3", "3.1" and, in JSON, the number of slot and function together; -1: none. */
static long slot_of(const json_t *device)
{
    const json_t *addr = json_object_get(device, "addr");
    const char *text = json_string_value(addr);

    if (json_is_integer(addr))
        return (long)(json_integer_value(addr) >> 3) & (SLOTS - 1);
    if (!text || *text == '\0')
        return -1;
    return strtol(text, NULL, 16) & (SLOTS - 1);
}

/* Somebody numbers devices, and none that would need a number is without one. */
static bool is_numbered(const json_t *devices, const char *key)
{
    bool numbered = false;
    size_t i;
    json_t *device;

    json_array_foreach((json_t *)(uintptr_t)devices, i, device) {
        bool has = json_object_get(device, key) != NULL;

        numbered |= has;
        if (!has && strcmp(key, "addr") == 0 && ends_with(text_of(device, "driver"), "-pci"))
            return false;
    }
    return numbered;
}

static bool place_on_bus(json_t *card, const json_t *devices, const char *bus, unsigned first)
{
    bool taken[SLOTS] = {false};
    char text[8];
    size_t i;
    json_t *device;

    json_array_foreach((json_t *)(uintptr_t)devices, i, device) {
        const char *its_bus = text_of(device, "bus");
        long slot = slot_of(device);

        if (slot >= 0 && (*its_bus == '\0' || strcmp(its_bus, bus) == 0 || (strcmp(its_bus, "pci") == 0 && strcmp(bus, "pci.0") == 0)))
            taken[slot] = true;
    }
    for (unsigned slot = first; slot <= LAST_SLOT; slot++) {
        if (taken[slot])
            continue;
        snprintf(text, sizeof(text), "0x%x", slot);
        json_object_set_new(card, "bus", json_string(bus));
        json_object_set_new(card, "addr", json_string(text));
        return true;
    }
    return false;
}

static bool is_behind(const json_t *devices, const char *port)
{
    size_t i;
    json_t *device;

    json_array_foreach((json_t *)(uintptr_t)devices, i, device)
        if (strcmp(text_of(device, "bus"), port) == 0)
            return true;
    return false;
}

static bool place_behind_port(json_t *card, const json_t *devices)
{
    size_t i;
    json_t *device;

    json_array_foreach((json_t *)(uintptr_t)devices, i, device) {
        const char *driver = text_of(device, "driver"), *id = text_of(device, "id");
        bool is_port = !strcmp(driver, "pcie-root-port") || !strcmp(driver, "ioh3420") || !strcmp(driver, "xio3130-downstream");

        if (!is_port || *id == '\0' || is_behind(devices, id))
            continue;
        json_object_set_new(card, "bus", json_string(id));
        json_object_set_new(card, "addr", json_string("0x0"));
        return true;
    }
    return false;
}

/* Channel subsystem 0xfe is that of virtio; devices count up. */
static bool place_on_channel(json_t *card, const json_t *devices)
{
    char text[16];
    size_t i;
    json_t *device;

    for (unsigned number = 1; number <= 0xffff; number++) {
        bool taken = false;

        snprintf(text, sizeof(text), "fe.0.%04x", number);
        json_array_foreach((json_t *)(uintptr_t)devices, i, device)
            taken |= strcasecmp(text_of(device, "devno"), text) == 0;
        if (taken)
            continue;
        json_object_set_new(card, "devno", json_string(text));
        return true;
    }
    return false;
}

bool place_card(json_t *card, const json_t *devices, enum board board, bool defaults)
{
    unsigned first = defaults ? FIRST_SLOT_BESIDE_DEFAULTS : FIRST_SLOT;

    if (board == BOARD_CCW)
        return !is_numbered(devices, "devno") || place_on_channel(card, devices);
    if (!is_numbered(devices, "addr"))
        return true;
    if (board == BOARD_PC)
        return place_on_bus(card, devices, "pci.0", first);
    if (board == BOARD_PCIE)
        return place_behind_port(card, devices) || place_on_bus(card, devices, "pcie.0", first);
    return true;
}
