// SPDX-License-Identifier: Apache-2.0
/* Whether V8's code cache is the one that the build made: zlib's CRC-32, which Node has within it (its headers, too). */
#include <node_api.h>
#include <zlib.h>

#include "calls.h"

napi_value crc32Of(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value values[2] = {nullptr, nullptr};
  napi_typedarray_type type = napi_int8_array;
  void *bytes = nullptr;
  size_t len = 0;
  int32_t before = 0;
  napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  if (napi_get_typedarray_info(env, values[0], &type, &len, &bytes, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array || napi_get_value_int32(env, values[1], &before) != napi_ok) {
    napi_throw_type_error(env, nullptr, "a CRC is of a Uint8Array, and goes on from a number");
    return nullptr;
  }
  uLong sum = crc32_z(static_cast<uint32_t>(before), static_cast<const Bytef *>(bytes), len);
  napi_value out = nullptr;
  napi_create_int32(env, static_cast<int32_t>(static_cast<uint32_t>(sum)), &out);
  return out;
}
