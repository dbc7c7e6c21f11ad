"""The files of cluster/: held against Ray's own validator, KubeRay's schemas and shellcheck; a misspelt key fails."""

import contextlib
import copy
import gzip
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import ray.autoscaler
import yaml
from click import ClickException
from ray.autoscaler._private.util import prepare_config, validate_config

from pargrad.cli import COMMANDS, EXIT_TERMINATED
from pargrad.commands.options import parse
from tests.pages import check_ray
from tests.processes import descendants

ROOT = Path(__file__).parent.parent
CLUSTER = ROOT / "cluster"
README = (CLUSTER / "README.md").read_text()
LAUNCHERS = ["launcher-local.yaml", "launcher-aws.yaml"]
MANIFESTS = {"rayjob.yaml": "rayjobs", "raycluster.yaml": "rayclusters"}
RESOURCES = {"enum": ["cpu", "memory", "storage", "ephemeral-storage"]}
METADATA = {"type": "object", "additionalProperties": False, "required": ["name"], "properties": {
    "name": {"type": "string"}, "namespace": {"type": "string"}, "labels": {"type": "object"},
}}  # fmt: skip
# Of Amazon's RunInstances, what the file uses: Ray hands node_config on as it is.
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html
NODE_CONFIG = {"type": "object", "properties": {
    "InstanceType": {"type": "string"},
    "ImageId": {"type": "string"},
    "BlockDeviceMappings": {"type": "array", "items": {"type": "object", "properties": {
        "DeviceName": {"type": "string"},
        "Ebs": {"type": "object", "properties": {"VolumeSize": {"type": "integer"}, "VolumeType": {"enum": ["gp3"]}}},
    }}},
    "InstanceMarketOptions": {"type": "object", "properties": {"MarketType": {"enum": ["spot"]}}},
}}  # fmt: skip
REFUSALS = (jsonschema.ValidationError, KeyError, ValueError, ClickException)
FREE = {"file_mounts", "available_node_types"}  # mappings whose keys are the user's own


class Strict(yaml.SafeLoader):
    """YAML in which a key that is there twice is an error, as it is for Kubernetes."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise ValueError(f"a key is there twice: {keys}")
        return super().construct_mapping(node, deep)


def load(name):
    return yaml.load((CLUSTER / name).read_text(), Strict)


def closed(schema):
    """The schema with keys refused that it does not name, where it names any."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    out = {key: closed(part) for key, part in schema.items()}
    if isinstance(out.get("properties"), dict) and not out.get("x-kubernetes-preserve-unknown-fields"):
        out.setdefault("additionalProperties", False)
        for name in {"limits", "requests"} & set(out["properties"]):
            out["properties"][name]["propertyNames"] = RESOURCES
    return out


def schema_of(kind):
    schema = json.loads(gzip.decompress((ROOT / "tests" / "data" / "kuberay" / f"{kind}.json.gz").read_bytes()))
    schema["properties"]["metadata"] = METADATA
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return closed(schema)


def claim_schema():
    """Kubernetes' own schema of a volume claim's spec, which KubeRay's has inside the volumes of a pod."""
    head = schema_of("rayclusters")["properties"]["spec"]["properties"]["headGroupSpec"]
    volumes = head["properties"]["template"]["properties"]["spec"]["properties"]["volumes"]
    spec = volumes["items"]["properties"]["ephemeral"]["properties"]["volumeClaimTemplate"]["properties"]["spec"]
    properties = {"apiVersion": {"const": "v1"}, "kind": {"const": "PersistentVolumeClaim"}, "metadata": METADATA}
    return closed({"type": "object", "required": [*properties, "spec"], "properties": {**properties, "spec": spec}})


def check_launcher(config):
    """As `ray up` reads it; and what Ray hands on without a look."""
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    ray_schema = json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text())
    jsonschema.validate(config["provider"], {**ray_schema["properties"]["provider"], "additionalProperties": False})
    for node_type in config.get("available_node_types", {}).values():
        jsonschema.validate(node_type["node_config"], closed(NODE_CONFIG))


def misspelt(document, path=()):
    """(where, a copy) for every key of a document, in which that key has a letter more."""
    if isinstance(document, list):
        for number, part in enumerate(document):
            for where, wrong in misspelt(part, (*path, number)):
                yield where, [*document[:number], wrong, *document[number + 1 :]]
    if isinstance(document, dict):
        for key, part in document.items():
            if not path or path[-1] not in FREE:
                yield (*path, key), {(f"{name}x" if name == key else name): value for name, value in document.items()}
            for where, wrong in misspelt(part, (*path, key)):
                yield where, {**document, key: wrong}


# ----- Ray's cluster launcher -----


@pytest.mark.parametrize("name", LAUNCHERS)
def test_launchers_are_what_ray_reads(name):
    check_launcher(load(name))


@pytest.mark.parametrize("name", LAUNCHERS)
def test_every_misspelt_key_of_a_launcher_is_refused(name):
    wrong = dict(misspelt(load(name)))
    assert len(wrong) > 12
    for where, document in wrong.items():
        try:
            check_launcher(document)
        except REFUSALS:
            pass
        else:
            raise AssertionError(f"{where} is not seen")


# ----- KubeRay -----


@pytest.mark.parametrize(("name", "kind"), MANIFESTS.items())
def test_manifests_are_what_kuberay_reads(name, kind):
    jsonschema.validate(load(name), schema_of(kind))


def test_the_volume_claim_is_what_kubernetes_reads():
    claim = load("runs.yaml")
    jsonschema.validate(claim, claim_schema())
    for _, wrong in misspelt(claim):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, claim_schema())


@pytest.mark.parametrize(("name", "kind"), MANIFESTS.items())
def test_every_misspelt_key_of_a_manifest_is_refused(name, kind):
    validator = jsonschema.validators.validator_for(schema_of(kind))(schema_of(kind))
    wrong = dict(misspelt(load(name)))
    assert len(wrong) > 60
    assert [where for where, document in wrong.items() if validator.is_valid(document)] == []


def test_both_manifests_have_one_cluster():
    assert load("rayjob.yaml")["spec"]["rayClusterSpec"] == load("raycluster.yaml")["spec"]


def test_what_a_run_on_kubernetes_needs():
    job = load("rayjob.yaml")["spec"]
    cluster = job["rayClusterSpec"]
    assert job["submitterConfig"]["backoffLimit"] == 0
    assert job["backoffLimit"] > 0
    assert cluster["authOptions"] == {"mode": "token"}
    claim = load("runs.yaml")["metadata"]["name"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert container["resources"]["limits"]["cpu"].isdigit()  # Ray counts whole cores
        assert pod["securityContext"]["runAsNonRoot"]
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert set(mounted) == set(volumes)
        assert volumes["shm"]["emptyDir"]["medium"] == "Memory"
        assert mounted["shm"] == "/dev/shm"
    runs = {volume["name"]: volume for volume in cluster["headGroupSpec"]["template"]["spec"]["volumes"]}["runs"]
    assert runs["persistentVolumeClaim"]["claimName"] == claim
    words = shlex.split(job["entrypoint"])
    assert words[:3] == ["python", "-m", "pargrad"]
    _, options = parse(COMMANDS, words[3:])
    assert (options.address, options.resume) == ("auto", "auto")
    assert options.run_dir.startswith("/mnt/runs/")


def test_one_version_of_ray_everywhere():
    text = "".join((CLUSTER / name).read_text() for name in [*LAUNCHERS, *MANIFESTS, "Dockerfile"])
    named = re.findall(r"ray\[default\]==([\d.]+)|rayVersion: \"([\d.]+)\"", text)
    assert len(named) == 5
    assert len({a or b for a, b in named}) == 1
    images = set(re.findall(r"registry\.example\.com/\S+", text + README))
    assert images == {"registry.example.com/pargrad:0.1.0"}


# ----- the image -----

INSTRUCTIONS = {"ARG", "FROM", "COPY", "RUN", "ENV", "USER", "WORKDIR", "CMD"}


def instructions():
    text = (CLUSTER / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [line.split(maxsplit=1) for line in lines]


def test_the_image_is_pinned_small_and_not_roots():
    steps = instructions()
    assert {name for name, _ in steps} <= INSTRUCTIONS
    base = dict(value.split("=", 1) for name, value in steps if name == "ARG")["PYTHON"]
    assert re.fullmatch(r"3\.\d+\.\d+-slim-\w+", base)
    assert {value.split()[0] for name, value in steps if name == "FROM"} == {"python:${PYTHON}"}
    last = max(number for number, (name, _) in enumerate(steps) if name == "FROM")
    (user,) = [value for name, value in steps[last:] if name == "USER"]
    pod = load("raycluster.yaml")["spec"]["headGroupSpec"]["template"]["spec"]
    assert int(user) == pod["securityContext"]["runAsUser"]
    for name, value in steps:
        if name == "COPY" and "--from" not in value:
            *sources, _ = value.split()
            assert all((ROOT / source).exists() for source in sources)
            ignored = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
            assert {f"!{source}" for source in sources} <= set(ignored)
        if name == "RUN" and "pip install" in value:
            assert "--no-cache-dir" in value
            words = shlex.split(value.partition("pip install")[2])
            assert all("==" in word or word.startswith(("-", "/source")) for word in words)
        if name == "RUN" and "apt-get" in value:
            assert "--no-install-recommends" in value
            assert "rm -rf /var/lib/apt/lists/*" in value


def test_the_image_has_what_the_package_is_built_from():
    copied = " ".join(value for name, value in instructions() if name == "COPY")
    project = (ROOT / "pyproject.toml").read_text()
    needed = {*re.findall(r'^readme = "(.+)"', project, re.MULTILINE), "pyproject.toml", "LICENSE", "pargrad"}
    assert needed <= set(copied.split())


# ----- shell -----


def shell_blocks():
    return re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def shell_of_launchers():
    for name in LAUNCHERS:
        config = load(name)
        for key in ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands"):
            yield from config[key]


def shellcheck(text, *ignored):
    """What shellcheck has against a script."""
    command = [Path(sys.executable).with_name("shellcheck"), "--shell=bash", "-"]
    if ignored:
        command.insert(1, f"--exclude={','.join(ignored)}")
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_shell_is_clean():
    assert shellcheck((CLUSTER / "slurm.sbatch").read_text()) == ""
    assert shellcheck("#!/bin/bash\n" + "\n".join(shell_blocks())) == ""
    follows = "SC1090", "SC1091"  # files that are there on the machines alone
    outside = "SC2154"  # RAY_HEAD_IP, which Ray sets
    assert shellcheck("#!/bin/bash\n" + "\n".join(shell_of_launchers()), *follows, outside) == ""


def test_shell_that_is_not_clean_is_seen():
    assert "SC2086" in shellcheck('#!/bin/bash\nrm "$1" $2\n')


def commands(text, name):
    """The words behind a command's name, wherever it is called in shell."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"\s*(?:&&|&$|;|\|)\s*", line):
            words = shlex.split(part, comments=True)
            while words and re.match(r"\w+=", words[0]):
                words.pop(0)
            if words and Path(words[0]).name == name:
                yield words[1:]


def all_shell():
    return "\n".join([*shell_blocks(), *shell_of_launchers()])


def test_every_ray_command_is_one():
    found = list(commands(all_shell(), "ray"))
    for words in found:
        check_ray(words)
    assert len(found) >= 12
    for wrong in (["upp"], ["job", "submitt"], ["start", "--headd"], ["up", "cluster/nothing.yaml"]):
        with pytest.raises(AssertionError):
            check_ray(wrong)


def test_every_file_that_is_named_is_there():
    links = re.findall(r"\]\(([^)]+)\)", README)
    named = re.findall(r"\bcluster/[\w.-]+", README)
    assert len(links) >= 5
    assert len(named) >= 8
    assert [link for link in links if not (CLUSTER / link).exists()] == []
    assert [path for path in named if not (ROOT / path).exists()] == []
    files = {path.name for path in CLUSTER.iterdir()} - {"README.md", "Dockerfile.dockerignore"}
    assert {name for name in files if name not in README} == set()


# ----- SLURM -----

FAKES = {
    "hostname": "echo 10.0.0.1 10.0.0.2",
    # Ray's part is left out: the command behind -- runs here, without Ray, as the head's driver would.
    "srun": """echo "srun $*" >> "$CALLS"; while [ "$1" != -- ]; do shift; done; shift
               echo $$ > "$DRIVER"; echo "driver $*" >> "$CALLS"; exec "$@" --num-workers 0""",
    "python": f'exec {shlex.quote(sys.executable)} "$@"',
    "pkill": 'echo "pkill ${@: -1}" >> "$CALLS"; kill -TERM "$(cat "$DRIVER")"',
}


@pytest.mark.timeout(120)
def test_slurm_stops_the_driver_with_a_checkpoint(tmp_path):
    """The script itself, with SLURM's and Ray's commands replaced; SIGTERM comes to it as from SLURM."""
    for name, body in FAKES.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    calls, run = tmp_path / "calls", tmp_path / "run"
    environment = {
        **os.environ,
        **{"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        **{"CALLS": str(calls), "DRIVER": str(tmp_path / "driver")},
        **{"SLURM_JOB_ID": "123456", "SLURM_JOB_NUM_NODES": "4", "SLURM_CPUS_PER_TASK": "2"},
    }
    arguments = ["train", "mnist", "--epochs", "100000", "--batch-size", "16", "--run-dir", str(run)]
    process = subprocess.Popen(
        ["bash", CLUSTER / "slurm.sbatch", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for line in process.stdout:
            if line.startswith("epoch 1/"):
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == EXIT_TERMINATED
        assert "there is a checkpoint after step" in process.stderr.read()
    finally:
        started = [process.pid, *descendants(process.pid)]
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()
    srun, driver, pkill = calls.read_text().splitlines()
    assert "ray symmetric-run --address 10.0.0.1:23456 --min-nodes 4 --num-cpus 2 -- python -m pargrad train" in srun
    check_ray(srun.split()[srun.split().index("ray") + 1 :])
    pattern = pkill.removeprefix("pkill ")
    assert re.search(pattern, driver.removeprefix("driver "))
    assert not re.search(pattern, srun)  # neither srun nor Ray's own process
