# SPDX-License-Identifier: Apache-2.0
# The native parts, one target each: the helper (installed as dist/bin/pasta), qrap, the controller's addon, the seccomp compiler.
{
  'targets': [
    {
      # A static program: starts in about a millisecond, makes no loader calls that its filter would have to allow.
      'target_name': 'helper',
      'product_name': 'pasta',
      'type': 'executable',
      'dependencies': ['filters'],
      'sources': [
        'src/main.c', 'src/early.c', 'src/opts.c', 'src/slirp.c', 'src/sandbox.c', 'src/launch.c', 'src/hold.c', 'src/keeper.c', 'src/netns.c', 'src/command.c', 'src/tap.c', 'src/link.c',
        'src/sock.c', 'src/listen.c', 'src/hairpin.c', 'src/group.c', 'src/tuple.c', 'src/file.c', 'src/unix.c', 'src/guest.c', 'src/resolver.c', 'src/channel.c', 'src/json.c', 'src/rpc.c', 'src/methods.c', 'src/method-table.c', 'src/floor.c', 'src/own.c',
        'src/seal.c', 'src/supervise.c', 'src/notify.c', 'src/split.c', 'src/doctor.c', 'src/die.c', 'src/kernel-log.c',
        'src/split-join.c',
      ],
      'include_dirs': ['gen'],
      'cflags!': ['-pthread', '-O3', '-fno-omit-frame-pointer', '-m64'],
      'cflags': [
        '-std=c11', '-D_GNU_SOURCE', '-O2', '-Wall', '-Wextra', '-Werror', '-Wshadow', '-Wformat=2',
        '-fstack-protector-strong', '-U_FORTIFY_SOURCE', '-D_FORTIFY_SOURCE=2', '-fPIE',
      ],
      'ldflags!': ['-pthread', '-rdynamic', '-m64'],
      'ldflags': ['-static-pie', '-Wl,-z,relro,-z,now,-z,noexecstack'],
      'libraries': ['-l:libjansson.a'],
    },
    {
      # The wrapper of QEMU (installed as dist/bin/qrap): an ordinary program, static so that it runs wherever libvirt looks.
      'target_name': 'qrap',
      'type': 'executable',
      'sources': ['qrap/main.c', 'qrap/words.c', 'qrap/props.c', 'qrap/place.c', 'qrap/patch.c', 'qrap/find.c', 'qrap/connect.c'],
      'defines': ['QRAP_VERSION=<!(node -p "require(\'../package.json\').version")'],
      'cflags!': ['-pthread', '-O3', '-fno-omit-frame-pointer', '-m64'],
      'cflags': [
        '-std=c11', '-D_GNU_SOURCE', '-O2', '-Wall', '-Wextra', '-Werror', '-Wshadow', '-Wformat=2',
        '-fstack-protector-strong', '-U_FORTIFY_SOURCE', '-D_FORTIFY_SOURCE=2', '-fPIE',
      ],
      'ldflags!': ['-pthread', '-rdynamic', '-m64'],
      'ldflags': ['-static-pie', '-Wl,-z,relro,-z,now,-z,noexecstack'],
      'libraries': ['-l:libjansson.a'],
    },
    {
      # Batched system calls for the controller (controller/io/native.ts).
      'target_name': 'addon',
      'product_name': 'pastiche',
      'sources': [
        'addon/module.cc', 'addon/arena.cc', 'addon/poll.cc', 'addon/frames.cc', 'addon/stream-frames.cc', 'addon/vring.cc', 'addon/vring-receive.cc', 'addon/vring-send.cc', 'addon/vring-memory.cc', 'addon/foreign-fd.cc', 'addon/segments.cc', 'addon/stream.cc', 'addon/splice.cc', 'addon/dgram.cc',
        'addon/sockopt.cc', 'addon/fdpass.cc', 'addon/checksum.cc', 'addon/crc.cc', 'addon/seal.cc',
      ],
      'include_dirs': ['<!(node -p "require(\'node-addon-api\').include_dir")'],
      'defines': ['NAPI_VERSION=8', 'NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS', 'NODE_ADDON_API_DISABLE_DEPRECATED'],
      'cflags_cc': [
        '-std=gnu++17', '-O2', '-Wall', '-Wextra', '-Werror', '-fvisibility=hidden',
        '-fstack-protector-strong', '-U_FORTIFY_SOURCE', '-D_FORTIFY_SOURCE=2',
      ],
      'ldflags': ['-Wl,-z,relro,-z,now,-z,noexecstack'],
    },
    {
      # For tests, never installed: sockets, namespaces and taps as raw descriptors (test/support/testkit.ts).
      'target_name': 'testkit',
      'sources': ['addon/testkit.cc', 'addon/checksum.cc'],
      'include_dirs': ['<!(node -p "require(\'node-addon-api\').include_dir")'],
      'defines': ['NAPI_VERSION=8', 'NODE_ADDON_API_CPP_EXCEPTIONS'],
      'cflags_cc!': ['-fno-exceptions'],
      'cflags_cc': ['-std=gnu++17', '-fexceptions', '-O2', '-Wall', '-Wextra', '-Werror'],
    },
    {
      # Outputs are absolute: gyp's makefile takes relative ones for paths below build/, while actions run here.
      # Annotations -> C++ rules -> libseccomp, on the machine that builds; nothing that runs links libseccomp.
      'target_name': 'seccomp-compiler',
      'type': 'executable',
      'sources': ['../seccomp/compiler.cc'],
      'include_dirs': ['gen', '../seccomp'],
      'actions': [
        {
          'action_name': 'collect',
          'inputs': ['../seccomp/collect.mjs', '../seccomp/grammar.mjs', '<!@(node ../seccomp/collect.mjs --list)'],
          'outputs': ['<(module_root_dir)/gen/annotations.inc', '<(module_root_dir)/gen/annotations.json'],
          'action': ['node', '../seccomp/collect.mjs'],
        },
      ],
      'cflags_cc': ['-std=gnu++17', '-O1', '-Wall', '-Wextra', '-Werror'],
      'libraries': ['-lseccomp'],
    },
    {
      'target_name': 'filters',
      'type': 'none',
      'dependencies': ['seccomp-compiler'],
      'actions': [
        {
          'action_name': 'compile',
          'inputs': ['<(PRODUCT_DIR)/seccomp-compiler'],
          'outputs': ['<(module_root_dir)/gen/seccomp/rules.json'],
          'action': ['<(PRODUCT_DIR)/seccomp-compiler', 'gen/seccomp'],
        },
        {
          'action_name': 'emit',
          'inputs': [
            '../seccomp/emit.mjs', '../seccomp/listings.mjs',
            '<(module_root_dir)/gen/annotations.json', '<(module_root_dir)/gen/seccomp/rules.json',
          ],
          'outputs': ['<(module_root_dir)/gen/filters.h', '<(module_root_dir)/gen/syscalls.h', '<(module_root_dir)/../dist/controller.bpf'],
          'action': ['node', '../seccomp/emit.mjs'],
        },
      ],
    },
  ],
}
