"""The application that `serve deploy` builds: `import_path: reasonray.serving.app:build`."""

from ray.serve import Application

from reasonray.serving.config import ServingConfig
from reasonray.serving.editor import Editor
from reasonray.serving.ingress import Ingress

# More than a request may take, so that a process that is to end finishes what it has.
_SPARE_S = 10.0


def build(args: ServingConfig) -> Application:
    """The ingress, and a deployment for each model.

    Args:
        args: as in cluster/serve.yaml under `args`; pydantic refuses what is wrong, a service
            without keys above all.
    """
    graceful = {"graceful_shutdown_timeout_s": args.deadline_s + _SPARE_S}
    editors = {
        name: Editor.options(
            name=f"editor-{name}",
            # One batch works and some are at hand, so that the model never waits for a router and
            # most edits wait in one queue, the replica's: those of two routers are not served in
            # their order. Not more: what waits here cannot go to a replica that starts.
            max_ongoing_requests=4 * model.largest_batch,
            autoscaling_config={
                "min_replicas": model.min_replicas,
                "max_replicas": model.max_replicas,
                "initial_replicas": max(1, model.min_replicas),
                "target_ongoing_requests": model.largest_batch,
                "upscale_delay_s": 3,
                "downscale_delay_s": model.downscale_delay_s,
                # Figures come every 10 s; late ones, on a busy machine, look like none.
                "look_back_period_s": 15,
            },
            ray_actor_options={"num_cpus": model.num_cpus, "num_gpus": model.num_gpus},
            **graceful,
        ).bind(model, args)
        for name, model in args.models.items()
    }
    return Ingress.options(**graceful).bind(editors, args)  # type: ignore[attr-defined, no-any-return]
