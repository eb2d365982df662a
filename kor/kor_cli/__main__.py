"""Lets ``python -m kor_cli`` do what ``kor`` does."""

import sys

from kor_cli.main import main

sys.exit(main())
