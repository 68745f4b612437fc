#!/usr/bin/env bash
# check.sh install WORK BUILD            install the build tree BUILD into WORK/prefix
# check.sh find_package|pkg_config|add_subdirectory WORK SOURCE
#                                        build the consumer that way, run it, and look at what it prints
# CXX, CXXFLAGS and USE_BOOST are those of the build under test. Exit 77: something that the check needs is missing.
set -euo pipefail
way=$1 work=$2
here=$(cd "$(dirname "$0")" && pwd)
prefix=$work/prefix
out=$work/$way

expect_42() {
  local printed
  printed=$("$1")
  [[ $printed == 42 ]] || { echo "consumer ($way) printed '$printed', not 42" >&2; exit 1; }
  echo "consumer ($way) works"
}

build_with_cmake() {
  # Quiet configuring is part of the promise: a subdirectory that chats is a nuisance. Warnings would be printed here.
  cmake -G Ninja -S "$here/$way" -B "$out" -DCMAKE_BUILD_TYPE=Debug --log-level=NOTICE "$@"
  cmake --build "$out" --parallel 2 >"$out/build.log" 2>&1 || { cat "$out/build.log" >&2; exit 1; }
}

rm -rf "$out"
case $way in
  install)
    rm -rf "$prefix"
    cmake --install "$3" --prefix "$prefix" >/dev/null
    for needed in include/shmpool.hpp include/shmpool/process_pool.hpp; do
      [[ -f $prefix/$needed ]] || { echo "not installed: $needed" >&2; exit 1; }
    done
    ;;
  find_package)
    build_with_cmake -DCMAKE_PREFIX_PATH="$prefix"
    expect_42 "$out/consumer"
    ;;
  add_subdirectory)
    build_with_cmake -DSHMPOOL_SOURCE_DIR="$3" -DSHMPOOL_USE_BOOST_ASIO="${USE_BOOST:-OFF}"
    expect_42 "$out/program/consumer"
    ;;
  pkg_config)
    command -v pkg-config >/dev/null || exit 77
    PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name shmpool.pc)")
    export PKG_CONFIG_PATH
    mkdir -p "$out"
    # shellcheck disable=SC2046,SC2086  # flags are meant to be split
    $CXX -std=c++20 $CXXFLAGS "$here/consumer.cpp" -o "$out/consumer" $(pkg-config --cflags --libs shmpool)
    LD_LIBRARY_PATH=$(dirname "$PKG_CONFIG_PATH") expect_42 "$out/consumer"
    ;;
  *) echo "check.sh: unknown way '$way'" >&2; exit 2 ;;
esac
