// SPDX-License-Identifier: Apache-2.0
/** IP protocol and next-header numbers (IANA "Assigned Internet Protocol Numbers") that are looked at. */

export const HOP_BY_HOP = 0;
export const ICMP = 1;
export const IGMP = 2;
export const TCP = 6;
export const UDP = 17;
export const ROUTING = 43;
export const FRAGMENT = 44;
export const AUTHENTICATION = 51;
export const ICMPV6 = 58;
export const NO_NEXT_HEADER = 59;
export const DESTINATION_OPTIONS = 60;
