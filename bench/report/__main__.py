"""`python3 -m report results/results.json`: reports again from the samples of an earlier run."""
import sys

from . import main

sys.exit(main(sys.argv[1:]))
