"""`mlrec predict --engine ray` on a cluster of two workers, one of which is killed: the bytes of the local engine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mlrec.datasets.listing import sources_of
from mlrec.models.checkpoint import save_model
from mlrec.models.classifier import create_model
from mlrec.workflows.deploy.predict_parts import PredictJob, write_predictions
from mlrec.workflows.runtime import RuntimeOptions
from tests.processes import run
from tests.tiny import LABELS, make_tiny
from tests.workflows.deploy.test_predict_parts import content

# A program of its own: Ray starts threads and processes that outlive a test.
PROGRAM = """
import sys, threading, time
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from mlrec.cli import app

out, killed = Path(sys.argv[1]), sys.argv[2] == "kill"
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 10**8})
workers = [cluster.add_node(num_cpus=1, object_store_memory=10**8) for _ in range(2)]
ray.init(address=cluster.address, log_to_driver=False)

def kill_one():
    while len(list(out.glob("_parts/part-*.json"))) < 3:
        time.sleep(0.02)
    print("killed a worker after", len(list(out.glob("_parts/part-*.json"))), "parts", flush=True)
    cluster.remove_node(workers[0], allow_graceful=False)

if killed:
    threading.Thread(target=kill_one, daemon=True).start()
sys.argv = ["mlrec", *sys.argv[3:]]
code = 0
try:
    app.main()
except SystemExit as leave:
    code = leave.code
if killed:  # the cluster notices the loss after some seconds
    while sum(node["Alive"] for node in ray.nodes()) == 3:
        time.sleep(0.1)
print("nodes alive:", sum(node["Alive"] for node in ray.nodes()), flush=True)
ray.shutdown()
cluster.shutdown()
sys.exit(code)
"""


@pytest.mark.long
def test_ray_writes_the_bytes_of_the_local_engine_also_if_a_worker_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs pip install 'mlrec[ray]'")
    pictures = make_tiny(tmp_path / "tiny").parents[1] / "pictures"
    model = tmp_path / "model.safetensors"
    save_model(model, create_model("test_resnet", 3, img_size=32, labels=LABELS, pretrained=False), {})
    machine = RuntimeOptions(batch_size=1, workers=0, device="cpu")
    job = PredictJob(model, tmp_path / "local", "parquet", part_size=1, machine=machine)
    write_predictions(job, sources_of([str(pictures)]))
    arguments = ["predict", str(pictures), "--run", str(model), "--engine", "ray", "--format", "parquet"]
    flags = ["--part-size", "1", "--batch-size", "1", "--workers", "0", "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    for how in ("kill", "keep"):
        out = tmp_path / how
        program = [sys.executable, "-c", PROGRAM, out, how, *arguments, "--out", str(out), *flags]
        result = run(program, cwd=tmp_path, env=environment, timeout=600)
        told = result.stdout.decode() + result.stderr.decode()
        assert result.returncode == 0, told
        assert content(out) == content(tmp_path / "local"), told
        assert ("nodes alive: 2" in told) == (how == "kill"), told  # the head and one worker
    program = [sys.executable, "-c", PROGRAM, out, "keep", *arguments, "--out", str(out), *flags, "--top", "2"]
    result = run(program, cwd=tmp_path, env=environment, timeout=600)
    assert result.returncode == 1
    assert "was begun with other settings (top)" in result.stderr.decode()
