"""Pages are tests: every Python fence in docs/ and README.md runs (tests/fenced.py)."""

from fenced import PAGES

pytest_collect_file = PAGES.pytest()

collect_ignore_glob = ["docs/notebooks/*"]  # scripts of cells: the site's build executes them
