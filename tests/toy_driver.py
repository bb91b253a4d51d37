"""A driver to be killed: toy_driver.py OUTPUT ROWS DELAY [CAPTION@NUMBER…]"""

import sys

from toy_stages import Build, Plan, recipe

from reasonray.errors import ReasonrayError, UserError
from reasonray.run import run

output, rows, delay, *marked = sys.argv[1:]
captions = tuple((int(m.split("@")[1]), m.split("@")[0]) for m in marked)
try:
    run(recipe(), output, build=Build(float(delay)), plan=Plan(int(rows), captions))
except ReasonrayError as error:
    print(error, file=sys.stderr)
    sys.exit(2 if isinstance(error, UserError) else 1)
