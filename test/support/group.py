# SPDX-License-Identifier: Apache-2.0
"""Multicast and broadcast programs for tests; each datagram that comes is a line of JSON.

  group.py listen ADDRESS PORT INTERFACE       join (a group) or bind; answer "ask…" by unicast
  group.py watch ADDRESS 0 INTERFACE           IGMP, or MLD of the address's family, on the interface (root)
  group.py leave ADDRESS 0 INTERFACE           say that somebody left, whoever is in it (root)
  group.py send ADDRESS PORT INTERFACE TTL SOURCE_PORT TEXT ANSWERS   send once, take so many answers
"""
import json
import socket
import struct
import sys

# Python 3.11 does not name it: linux/in.h
IP_RECVTTL = 12


def open_socket(v6, port, shared):
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    if shared:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    if v6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    else:
        s.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
    s.bind(("", port))
    return s


def receive(s):
    data, control, _, source = s.recvmsg(2048, 256)
    hops = [struct.unpack("i", value[:4])[0] for _, _, value in control]
    print(json.dumps({"from": source[0].split("%")[0], "port": source[1], "ttl": hops[0], "text": data.decode()}), flush=True)
    return data, source


mode, address, port, interface = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
v6 = ":" in address
index = socket.if_nametoindex(interface)
group = address.startswith(("ff", "22", "23"))
if mode == "listen":
    s = open_socket(v6, port, True)
    if group and v6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, address) + struct.pack("@I", index))
    elif group:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(address) + bytes(4) + struct.pack("@i", index))
    print("listening", flush=True)
    while True:
        data, source = receive(s)
        if data.startswith(b"ask"):
            s.sendto(b"answer to " + data, source)
elif mode == "watch":
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
    s.bind((interface, 0))
    print("listening", flush=True)
    while True:
        frame, (_, _, kind, *_) = s.recvfrom(2048)
        ip = frame[14:]
        at = 48 if v6 else (ip[0] & 15) * 4
        if (ip[0] >> 4 == 6 and ip[6] == 0) if v6 else (ip[0] >> 4 == 4 and ip[9] == 2):
            print(json.dumps({"ours": kind == socket.PACKET_OUTGOING, "type": ip[at], "text": ip[at:].hex()}), flush=True)
elif mode == "leave" and v6:
    s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 1)
    done = bytes([132]) + bytes(7) + socket.inet_pton(socket.AF_INET6, address)
    s.sendto(done, ("ff02::2", 0, 0, index))
elif mode == "leave":
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, bytes(8) + struct.pack("@i", index))
    group_bytes = socket.inet_aton(address)
    total = 0x1700 + sum(struct.unpack("!2H", group_bytes))
    total = (total & 0xFFFF) + (total >> 16)
    s.sendto(struct.pack("!BBH", 0x17, 0, ~total & 0xFFFF) + group_bytes, ("224.0.0.2", 0))
else:
    ttl, source_port, text, answers = int(sys.argv[5]), int(sys.argv[6]), sys.argv[7], int(sys.argv[8])
    s = open_socket(v6, source_port, source_port != 0)
    s.settimeout(5)
    if v6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
    else:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, bytes(8) + struct.pack("@i", index))
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    s.sendto(text.encode(), (address, port))
    for _ in range(answers):
        receive(s)
