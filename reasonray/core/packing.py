"""Whether actors that want GPUs find them on the machines there are."""

import math


def fit_on_gpus(actors: list[float], machines: list[int]) -> bool:
    """Whether actors find their GPUs: a fraction of a single one, or whole ones of one machine.

    Args:
        actors: GPUs that each takes.
        machines: GPUs that each has.
    """
    free = [[1.0] * num_gpus for num_gpus in machines]
    for wanted in sorted(actors, reverse=True):
        share = min(wanted, 1.0)
        # What is fullest is filled first, as Ray does within a machine.
        for machine in sorted(free, key=sum):
            fitting = [i for i, left in enumerate(machine) if left > share - 1e-6]
            if len(fitting) >= math.ceil(wanted):
                for i in sorted(fitting, key=machine.__getitem__)[: math.ceil(wanted)]:
                    machine[i] -= share
                break
        else:
            return False
    return True
