/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's command line with another network: what makes one goes, one virtio card on passt's connection comes. The card
 * keeps what its predecessor was known by, so that guest and libvirt find the same one again.
 */
#include "qrap.h"

#define NETDEV_ID "hostnet0"
/* Frames that the card takes from the guest at once: the guest is told of them together. */
#define TX_BURST 4096
/* What QEMU gives its first card. */
static const uint8_t USUAL_MAC[MAC_BYTES] = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

static const char *const CARDS[] = {"virtio-net", "virtio-net-ccw", "virtio-net-device", "e1000", "e1000e", "rtl8139"};
#define VIRTIO_PCI "virtio-net-pci" /* and, with a suffix, the transitional and the modern one */
/* What the new card takes over, whatever the old one was, */
static const char *const KEPT[] = {"id", "mac", "bootindex", "acpi-index", "host_mtu"};
/* and where it was, if that is on the same kind of bus. */
static const char *const KEPT_PCI[] = {"bus", "addr", "multifunction"};
static const char *const KEPT_CCW[] = {"devno"};

struct machine {
    const struct word *words;
    size_t count;
    bool nodefaults, question;
    bool device_json, netdev_json; /* the form that the others have */
    bool is_off;                   /* -net none, -nic none, and nothing else */
    bool *dropped;                 /* one a word */
    json_t *devices;               /* that stay */
    json_t *old_card;              /* the first that goes; may be empty */
    char type[64];                 /* "": QEMU's default */
};

static bool is_pci_card(const char *driver)
{
    return strncmp(driver, VIRTIO_PCI, strlen(VIRTIO_PCI)) == 0 || !strcmp(driver, "virtio-net") || !strcmp(driver, "e1000") ||
           !strcmp(driver, "e1000e") || !strcmp(driver, "rtl8139");
}

/* A device of another make is a card if it is connected to a network; that network goes. */
static bool is_card(const json_t *device)
{
    const char *driver = text_of(device, "driver");

    for (size_t i = 0; i < ARRAY_SIZE(CARDS); i++)
        if (strcmp(driver, CARDS[i]) == 0)
            return true;
    return strncmp(driver, VIRTIO_PCI, strlen(VIRTIO_PCI)) == 0 || json_object_get(device, "netdev");
}

static void keep(json_t *to, const json_t *from, const char *const *keys, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (json_object_get(from, keys[i]))
            json_object_set(to, keys[i], json_object_get(from, keys[i]));
}

static void read_machine(struct machine *m, const char *value)
{
    json_t *props = read_props(value, "type");

    if (props && json_object_get(props, "type"))
        snprintf(m->type, sizeof(m->type), "%s", text_of(props, "type"));
    json_decref(props);
}

static void read_device(struct machine *m, size_t at, const char *value)
{
    json_t *device = read_props(value, "driver");

    if (!device)
        return; /* QEMU will say so */
    m->device_json |= is_json(value);
    m->dropped[at] = is_card(device);
    if (!m->dropped[at])
        json_array_append(m->devices, device);
    else if (json_object_size(m->old_card) == 0)
        json_object_update(m->old_card, device);
    json_decref(device);
}

/* -net nic,macaddr=M and -nic user,mac=M: the MAC is all that the card has. */
static void read_legacy(struct machine *m, const char *value, bool *any, bool *none)
{
    json_t *props = read_props(value, "type");

    if (props && strcmp(text_of(props, "type"), "none") == 0)
        *none = true;
    else
        *any = true;
    if (props && json_object_size(m->old_card) == 0) {
        json_t *mac = json_object_get(props, json_object_get(props, "mac") ? "mac" : "macaddr");

        if (mac)
            json_object_set(m->old_card, "mac", mac);
    }
    json_decref(props);
}

static void read_all(struct machine *m)
{
    bool any = false, none = false, netdevs = false;

    for (size_t i = 0; i < m->count; i++) {
        const struct word *word = &m->words[i];
        const char *value = word->value ? word->value : "";

        m->question |= is_question(word);
        if (is_option(word, "nodefaults"))
            m->nodefaults = true;
        else if (is_option(word, "machine") || is_option(word, "M"))
            read_machine(m, value);
        else if (is_option(word, "device"))
            read_device(m, i, value);
        else if (is_option(word, "netdev")) {
            m->dropped[i] = netdevs = true;
            m->netdev_json |= is_json(value);
        } else if (is_option(word, "net") || is_option(word, "nic")) {
            m->dropped[i] = true;
            read_legacy(m, value, &any, &none);
        }
        if (m->dropped[i] && is_option(word, "device"))
            any = true;
    }
    m->is_off = none && !any && !netdevs;
}

static json_t *new_card(const struct machine *m, enum board board)
{
    const char *old = text_of(m->old_card, "driver");
    const char *driver = board == BOARD_CCW                                ? "virtio-net-ccw"
                         : board == BOARD_MMIO                             ? "virtio-net-device"
                         : !strncmp(old, VIRTIO_PCI, strlen(VIRTIO_PCI)) ? old /* transitional stays so */
                                                                           : VIRTIO_PCI;
    json_t *card = must(json_object());

    json_object_set_new(card, "driver", json_string(driver));
    keep(card, m->old_card, KEPT, ARRAY_SIZE(KEPT));
    return card;
}

/* Where the old card was, else a free place. */
static bool find_place(const struct machine *m, json_t *card, enum board board)
{
    if (board == BOARD_CCW && json_object_get(m->old_card, "devno")) {
        keep(card, m->old_card, KEPT_CCW, ARRAY_SIZE(KEPT_CCW));
        return true;
    }
    if (board != BOARD_CCW && board != BOARD_MMIO && is_pci_card(text_of(m->old_card, "driver")) &&
        json_object_get(m->old_card, "addr")) {
        keep(card, m->old_card, KEPT_PCI, ARRAY_SIZE(KEPT_PCI));
        return true;
    }
    return place_card(card, m->devices, board, !m->nodefaults);
}

static char *card_text(const struct machine *m, json_t *card)
{
    json_object_set_new(card, "netdev", json_string(NETDEV_ID));
    json_object_set_new(card, "x-txburst", json_integer(TX_BURST));
    return write_props(card, "driver", m->device_json);
}

/* For both forms the descriptor is a text: it could be a name. */
static char *netdev_text(const struct machine *m, int fd)
{
    json_t *netdev = must(json_pack("{s:s, s:o, s:s}", "type", "socket", "fd", json_sprintf("%d", fd), "id", NETDEV_ID));
    char *text = write_props(netdev, "type", m->netdev_json);

    json_decref(netdev);
    return text;
}

/* Six bytes in hexadecimal with colons or dashes between; else QEMU's own, which is what a machine without one gets. */
static void read_mac(const char *text, uint8_t mac[MAC_BYTES])
{
    unsigned byte[MAC_BYTES];
    int end = -1;

    memcpy(mac, USUAL_MAC, MAC_BYTES);
    if (sscanf(text, "%2x%*1[:-]%2x%*1[:-]%2x%*1[:-]%2x%*1[:-]%2x%*1[:-]%2x%n", &byte[0], &byte[1], &byte[2], &byte[3], &byte[4],
               &byte[5], &end) != MAC_BYTES ||
        end < 0 || text[end] != '\0' || (byte[0] & 1))
        return;
    for (int i = 0; i < MAC_BYTES; i++)
        mac[i] = (uint8_t)byte[i];
}

static char **copy_words(const struct machine *m, char *const *argv, size_t *used)
{
    /* Four words come, whatever goes. */
    char **out = must(calloc(2 * m->count + 6, sizeof(*out)));

    *used = 1; /* argv[0] is the caller's */
    for (size_t i = 0; i < m->count; i++)
        for (int j = 0; j < m->words[i].count && !m->dropped[i]; j++)
            out[(*used)++] = argv[m->words[i].at + j];
    return out;
}

struct patch patch_command_line(int argc, char *const *argv, const char *emulator, int fd)
{
    struct word *words = must(calloc((size_t)argc + 1, sizeof(*words)));
    struct machine m = {
        .words = words, .count = read_words(argc, argv, words), .dropped = must(calloc((size_t)argc + 1, sizeof(bool))),
        .devices = must(json_array()), .old_card = must(json_object()),
    };
    struct patch patch = {0};
    size_t used;

    read_all(&m);
    read_mac(text_of(m.old_card, "mac"), patch.mac);
    patch.wants_network = !m.question && !m.is_off && strcmp(m.type, "none") != 0;
    if (!patch.wants_network)
        memset(m.dropped, 0, m.count * sizeof(bool));
    patch.argv = copy_words(&m, argv, &used);
    if (patch.wants_network) {
        enum board board = board_of(m.type, emulator);
        json_t *card = new_card(&m, board);

        patch.no_place = !find_place(&m, card, board);
        patch.argv[used++] = "-device";
        patch.argv[used++] = card_text(&m, card);
        patch.argv[used++] = "-netdev";
        patch.argv[used++] = netdev_text(&m, fd);
        json_decref(card);
    }
    json_decref(m.devices);
    json_decref(m.old_card);
    free(m.dropped);
    free(words);
    return patch;
}
