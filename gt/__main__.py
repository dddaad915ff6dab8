"""`python -m gt` is `gt`."""

import sys

from gt.cli import main

sys.exit(main())
