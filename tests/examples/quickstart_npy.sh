#!/usr/bin/env bash
# quickstart_npy.sh QUICKSTART: runs the quickstart on files that numpy itself wrote, and on broken ones, which it must
# refuse with a sentence. Exit 77 where there is no numpy.
set -euo pipefail
quickstart=$1
# The first python3 of the path need not be the one that has numpy.
for python in python3 /usr/bin/python3 ''; do
  [[ -z $python ]] && { echo "no numpy here"; exit 77; }
  "$python" -c 'import numpy' 2>/dev/null && break
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

"$python" - <<'PYTHON'
import numpy as np
good = {
    "float64": np.random.default_rng(1).standard_normal((300, 7, 50)),
    "float32_nan": np.array([1, np.nan, np.inf, -0.0] * 10000, dtype="f4"),
    "int8_wraps": np.arange(-128, 128, dtype="i1").repeat(300),
    "uint64": np.full(100_001, 2**64 - 1, dtype="u8"),
    "int64": np.array([-2**63, 2**63 - 1] * 5000, dtype="i8"),
    "bool": np.arange(70_000) % 3 == 0,
    "scalar": np.array(41.5),
    "empty": np.zeros((0, 3), dtype="f8"),
}
for name, x in good.items():
    np.save(f"good_{name}.npy", x)
bad = {
    "big-endian": np.arange(10, dtype=">f8"),
    "Fortran order": np.asfortranarray(np.ones((3, 4))),
    "2-byte float": np.ones(3, dtype="f2"),
    "complex": np.ones(3, dtype="c16"),
    "strings": np.array(["a", "bc"]),
    "structured": np.zeros(3, dtype=[("a", "f8")]),
    "Python objects": np.array([None], dtype=object),
}
for reason, x in bad.items():
    np.save(f"bad_{reason}.npy", x)
np.save("whole.npy", np.ones(1000))
whole = open("whole.npy", "rb").read()
open("bad_ends too early.npy", "wb").write(whole[:-1])
open("bad_not a .npy file.npy", "wb").write(b"PK\x03\x04" + whole)
PYTHON

for file in good_*.npy; do
  "$quickstart" "$file" >out 2>&1 || { echo "$file was not read:"; cat out; exit 1; }
  grep -q '^every element of 24 results was checked' out || { echo "$file was not checked:"; cat out; exit 1; }
done
for file in bad_*.npy; do
  reason=${file#bad_} reason=${reason%.npy}
  if "$quickstart" "$file" >out 2>&1; then
    echo "$file was not refused"
    exit 1
  fi
  # Without the file's name, which has the reason in it.
  sed "s|$file||" out | grep -qF "$reason" || { echo "$file was refused for another reason:"; cat out; exit 1; }
done
echo "all files were read or refused as they should be"
