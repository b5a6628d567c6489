/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's grammar: every option is a word that begins with one dash or two, its argument is always the next word, and a word
 * of neither kind is a disk image. Which options have no argument is all there is to know.
 */
#include "qrap.h"

/* Of every QEMU from 2.0 to 10.x. */
static const char *const FLAGS[] = {
    "S", "alt-grab", "async-teardown", "ctrl-grab", "curses", "daemonize", "enable-fips", "enable-hax", "enable-kvm",
    "enable-sync-profile", "full-screen", "h", "help", "localtime", "mem-prealloc", "no-acpi", "no-fd-bootchk", "no-frame",
    "no-hpet", "no-kvm", "no-kvm-irqchip", "no-kvm-pit", "no-kvm-pit-reinjection", "no-quit", "no-reboot", "no-shutdown",
    "no-user-config", "nodefaults", "nodefconfig", "nographic", "nouserconfig", "old-param", "one-insn-per-tb",
    "only-migratable", "portrait", "preconfig", "rtc-td-hack", "s", "sdl", "semihosting", "show-cursor", "singlestep",
    "snapshot", "tdf", "usb", "version", "win2k-hack", "xen-attach", "xen-domid-restrict",
};
/* Their arguments are the user's own words, which may begin with a dash. */
static const char *const FREE_TEXT[] = {"append", "dtb", "fw_cfg", "initrd", "kernel", "name"};
/* Options that answer `help` with a list. */
static const char *const ASKED[] = {
    "L", "M", "accel", "audio", "audiodev", "chardev", "cpu", "d", "device", "display", "fsdev", "machine", "net", "netdev",
    "nic", "object", "soundhw", "tpmdev", "trace", "vga", "watchdog",
};

static bool one_of(const char *name, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(name, list[i]) == 0)
            return true;
    return false;
}

/* An option that this table has not heard of has no argument if what follows looks like the next option. */
static bool has_value(const char *option, const char *next)
{
    if (!next || one_of(option, FLAGS, ARRAY_SIZE(FLAGS)))
        return false;
    return next[0] != '-' || next[1] == '\0' || one_of(option, FREE_TEXT, ARRAY_SIZE(FREE_TEXT));
}

size_t read_words(int argc, char *const *argv, struct word *words)
{
    size_t count = 0;

    for (int i = 1; i < argc; i += words[count++].count) {
        struct word *word = &words[count];

        *word = (struct word){.at = i, .count = 1};
        if (argv[i][0] != '-') {
            word->value = argv[i];
            continue;
        }
        word->option = argv[i] + (argv[i][1] == '-' ? 2 : 1);
        if (has_value(word->option, argv[i + 1])) {
            word->value = argv[i + 1];
            word->count = 2;
        }
    }
    return count;
}

bool is_option(const struct word *word, const char *name)
{
    return word->option && strcmp(word->option, name) == 0;
}

/* "help", "?", "x,help", "model=?": the last part of the argument, behind its key. */
static bool asks_for_help(const char *value)
{
    const char *comma = strrchr(value, ',');
    const char *part = comma ? comma + 1 : value;
    const char *equals = strchr(part, '=');

    part = equals ? equals + 1 : part;
    return strcmp(part, "help") == 0 || strcmp(part, "?") == 0;
}

bool is_question(const struct word *word)
{
    if (!word->option)
        return false;
    if (is_option(word, "h") || is_option(word, "help") || is_option(word, "version"))
        return true;
    return word->value && one_of(word->option, ASKED, ARRAY_SIZE(ASKED)) && asks_for_help(word->value);
}
