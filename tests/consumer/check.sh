#!/usr/bin/env bash
# check.sh install WORK BUILD            install the build tree BUILD into WORK/prefix
# check.sh find_package|pkg_config|add_subdirectory WORK SOURCE
#                                        build the consumer that way, run it, and look at what it prints
# check.sh coverage WORK SOURCE          build a program with --coverage, run it, and look at what gcov says of its tasks
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

use_pkg_config() {
  command -v pkg-config >/dev/null || exit 77
  PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name shmpool.pc)")
  LD_LIBRARY_PATH=$(dirname "$PKG_CONFIG_PATH")
  export PKG_CONFIG_PATH LD_LIBRARY_PATH
  mkdir -p "$out"
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
    use_pkg_config
    # shellcheck disable=SC2046,SC2086  # flags are meant to be split
    $CXX -std=c++20 $CXXFLAGS "$here/consumer.cpp" -o "$out/consumer" $(pkg-config --cflags --libs shmpool)
    expect_42 "$out/consumer"
    ;;
  coverage)
    use_pkg_config
    # gcov is the compiler's own, and its counts are those of GCC.
    [[ $("$CXX" --version) == *"Free Software Foundation"* ]] || exit 77
    gcov=$("$CXX" -print-prog-name=gcov)
    command -v "$gcov" >/dev/null || gcov=gcov-$("$CXX" -dumpversion)
    command -v "$gcov" >/dev/null || exit 77
    cd "$out"
    # shellcheck disable=SC2046,SC2086
    $CXX -std=c++20 $CXXFLAGS -O0 --coverage -c "$here/coverage.cpp" -o coverage.o $(pkg-config --cflags shmpool)
    # shellcheck disable=SC2046,SC2086
    $CXX $CXXFLAGS --coverage coverage.o -o coverage $(pkg-config --libs shmpool)
    ways=(with-init)
    # What GCC has put into the program is not visible to a shared library, which cannot have the counts written early.
    ldd coverage | grep -q libshmpool || ways+=(without-init)
    for how in "${ways[@]}"; do
      rm -f coverage.gcda
      printed=$(./coverage "$how")
      [[ $printed == 42 ]] || { echo "coverage ($how) printed '$printed', not 42" >&2; exit 1; }
      "$gcov" coverage.o >gcov.log
      # "        6:   17:  return x + 1;  // ran 6 times"
      while IFS= read -r line; do
        ran=$(awk -F: '{ gsub(/[ *]/, "", $1); print $1 }' <<<"$line")
        expected=$(sed -E 's/.*ran ([0-9]+) times$/\1/' <<<"$line")
        [[ $ran == "$expected" ]] || { echo "coverage ($how): $line" >&2; exit 1; }
      done < <(grep -E '// ran [0-9]+ times$' coverage.cpp.gcov)
      [[ $(grep -cE '// ran [0-9]+ times$' coverage.cpp.gcov) == 3 ]]
    done
    echo "coverage of tasks works"
    ;;
  *) echo "check.sh: unknown way '$way'" >&2; exit 2 ;;
esac
