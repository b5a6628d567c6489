// SPDX-License-Identifier: Apache-2.0
/* For the build under sanitizers only (scripts/lib/fuzz-native.mjs): the filters would end their runtime. */
#include "../../../helper/src/helper.h"

_Static_assert(__SANITIZE_ADDRESS__ == 1, "nothing without sanitizers is ever linked with this");

/* seal.c's own is compiled under another name, by -D; this file has the name. */
void seal_install(enum profile profile) { (void)profile; }
