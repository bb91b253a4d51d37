"""A driver to be killed: toy_driver.py OUTPUT ROWS DELAY [--OPTION N…] [TEXT@N…]"""

import argparse
import sys

from toy_stages import Build, Plan, recipe

from reasonray.core.errors import ReasonrayError, UserError
from reasonray.generation.run import run

parser = argparse.ArgumentParser()
parser.add_argument("output")
parser.add_argument("rows", type=int)
parser.add_argument("delay", type=float)
parser.add_argument("marked", nargs="*", help="CAPTION@NUMBER")
parser.add_argument("--captioned", choices=("II", "III"), default="II", help="part of those")
parser.add_argument("--actors", type=int, default=1)
parser.add_argument("--accepted", type=int)
parser.add_argument("--most-actors", type=int, help="by default as many as at least")
parser.add_argument("--cpus", type=float, default=1.0, help="of each actor of the last pool")
parser.add_argument("--label", help="NAME=VALUE of the machines with the actors")
parser.add_argument("--wait", default=0.0, help="output.wait_for_cluster_s")
parser.add_argument("--shard-mb", type=int, default=recipe().output.shard_mb)
given = parser.parse_args()

pools = recipe().model_dump()["pools"]
for pool in pools:
    pool |= {"min_actors": given.actors, "max_actors": given.most_actors or given.actors}
    pool["label_selector"] = dict([given.label.split("=")]) if given.label else {}
pools[-1]["num_cpus"] = given.cpus
output = {
    **recipe().output.model_dump(),
    "wait_for_cluster_s": None if given.wait == "null" else given.wait,
    "shard_mb": given.shard_mb,
}
captions = tuple((int(m.split("@")[1]), m.split("@")[0]) for m in given.marked)
try:
    run(
        recipe(pools=pools, accepted=given.accepted, output=output),
        given.output,
        build=Build(given.delay),
        plan=Plan(given.rows, captions, given.captioned),
    )
except ReasonrayError as error:
    print(error, file=sys.stderr)
    sys.exit(2 if isinstance(error, UserError) else 1)
