# SPDX-License-Identifier: Apache-2.0
"""``python -m suture.cli`` is the command ``suture``."""

import sys

from suture.cli import main

sys.exit(main())
