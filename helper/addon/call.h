// SPDX-License-Identifier: Apache-2.0
/*
 * How a C++ function of ints becomes a function of JavaScript: Call<f>::invoke fetches the arguments that the
 * signature of f names and returns its int32 result. Raw Node-API, for these run up to millions of times a second;
 * the wrapper objects of node-addon-api serve registration only (module.cc).
 */
#pragma once
#include <node_api.h>

#include <tuple>
#include <utility>

#include "memory.h"

inline bool argument(napi_env env, napi_value value, int32_t &out) {
  return napi_get_value_int32(env, value, &out) == napi_ok;
}
inline bool argument(napi_env env, napi_value value, double &out) {
  return napi_get_value_double(env, value, &out) == napi_ok;
}
inline bool argument(napi_env env, napi_value value, bool &out) {
  return napi_get_value_bool(env, value, &out) == napi_ok;
}

template <auto F> struct Call;

template <typename... A, int32_t (*F)(A...)> struct Call<F> {
  static napi_value invoke(napi_env env, napi_callback_info info) {
    return invokeWith(env, info, std::index_sequence_for<A...>{});
  }

private:
  template <size_t... I>
  static napi_value invokeWith(napi_env env, napi_callback_info info, std::index_sequence<I...>) {
    size_t count = sizeof...(A);
    napi_value values[sizeof...(A) + 1];
    std::tuple<A...> arguments;
    napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
    if (!(argument(env, values[I], std::get<I>(arguments)) && ...)) {
      napi_throw_type_error(env, nullptr, "the addon takes numbers and booleans as its interface names them");
      return nullptr;
    }
    int32_t result = std::apply(F, arguments);
    if (__builtin_expect(result == OUT_OF_RANGE, 0)) {
      napi_throw_range_error(env, nullptr, "outside the arena, its columns, or what the filter allows");
      return nullptr;
    }
    napi_value out = nullptr;
    napi_create_int32(env, result, &out);
    return out;
  }
};
