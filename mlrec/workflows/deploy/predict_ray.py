"""`mlrec predict --engine ray`: Ray Data pipeline whose actors write the parts.

There is one actor per GPU or CPU core. The model, images and output must have the same paths on all machines, as on a
shared file system. An actor that dies is replaced, and the actor's part is written again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlrec.datasets.listing import Source
from mlrec.utils.errors import MlrecError, RunError
from mlrec.utils.progress import SILENT, Step
from mlrec.workflows.deploy.predict_parts import PartWriter, PredictJob, Unit, is_finished, units_of

MOST_BLOCKS = 10_000  # tasks of the pipeline; a block may have several parts


class PartActor:
    """Actor that holds a model and writes the parts it receives."""

    def __init__(self, job: PredictJob) -> None:
        self._job, self._error = job, ""
        self._writer: PartWriter | None = None
        try:
            self._writer = PartWriter(job)
        except MlrecError as error:  # an exception here would start the actor again and again
            self._error = str(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Write unfinished parts, and return the number of images in each part, or an error message."""
        images, errors = [], []
        for unit in batch["unit"]:
            try:
                images.append(self._write(unit))
                errors.append("")
            except MlrecError as error:  # an exception would be retried, and printed with its traceback
                images.append(0)
                errors.append(str(error))
        return {"images": images, "error": errors}

    def _write(self, unit: Unit) -> int:
        if self._writer is None:
            raise RunError(self._error)
        if is_finished(self._job, unit):
            return 0
        with SILENT.task("") as step:
            record = self._writer.write(unit, step)
        return record.rows + len(record.unreadable)


def write_with_ray(job: PredictJob, sources: Iterable[Source], step: Step) -> tuple[int, int]:
    """Write the parts of a job on the cluster at RAY_ADDRESS, or on a new local cluster.

    Args:
        job: Description of the job and the output.
        sources: Images.
        step: Function that is called with the number of images in each written part.

    Returns:
        Total number of parts, and number of parts finished earlier.

    Raises:
        RunError: Ray is not installed or fails, or an actor reports an error.
    """
    try:
        import ray
    except ImportError as error:
        raise RunError("--engine ray requires Ray; install it with pip install 'mlrec[ray]'") from error
    units = list(units_of(sources, job.part_size))
    missing = [unit for unit in units if not is_finished(job, unit)]
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    # Only an actor has the device on which settings are compared: one part is sent even if all are finished.
    _run(job, missing or units[:1], step)
    return len(units), len(units) - len(missing)


def _run(job: PredictJob, units: list[Unit], step: Step) -> None:
    import ray

    device = job.machine.device
    resources: dict[str, float] = {"num_cpus": 1}
    # The machine of this command may have no GPU, so the cluster is asked.
    if device.startswith("cuda") or (device == "auto" and ray.cluster_resources().get("GPU", 0)):
        resources["num_gpus"] = 1
    blocks = ray.data.from_items([{"unit": unit} for unit in units], override_num_blocks=min(len(units), MOST_BLOCKS))
    written = blocks.map_batches(
        PartActor,
        fn_constructor_args=(job,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=len(units)),
        **resources,
    )
    try:
        for row in written.iter_rows():
            if row["error"]:
                raise RunError(row["error"])
            step(int(row["images"]))
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise RunError(f"the Ray pipeline failed ({reason}); run the command again to resume") from error
