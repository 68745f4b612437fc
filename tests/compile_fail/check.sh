#!/bin/sh
# Checks that what must not compile does not, and that the compiler then says what to do.
#
#   check.sh COMPILER FLAGS...
#
# Every .cpp beside this script starts with a line "// expect: <text>" that must be in the compiler's output.
# control.cpp expects nothing: it must compile, so that broken flags are not taken for success.
set -u
here=$(cd "$(dirname "$0")" && pwd)
failed=0
for source in "$here"/*.cpp; do
  name=$(basename "$source")
  expected=$(sed -n '1s,^// expect: ,,p' "$source")
  if output=$("$@" -fsyntax-only "$source" 2>&1); then
    if [ -n "$expected" ]; then
      echo "FAIL $name: it compiles"
      failed=1
    fi
  elif [ -z "$expected" ]; then
    echo "FAIL $name: it does not compile"
    printf '%s\n' "$output" | head -20
    failed=1
  elif ! printf '%s\n' "$output" | grep -qF -- "$expected"; then
    echo "FAIL $name: the compiler does not say \"$expected\""
    printf '%s\n' "$output" | grep -E 'error|static assertion' | head -5
    failed=1
  fi
done
exit $failed
