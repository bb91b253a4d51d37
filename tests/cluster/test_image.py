"""The image, as far as it can be looked through without building it."""

import re
import shlex
import tomllib
from fnmatch import fnmatch

from manifests import KUBERAY
from one_cluster import ROOT
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from reasonray.core.version import __version__

DOCKERFILE = (ROOT / "cluster" / "Dockerfile").read_text("utf-8")
INSTRUCTIONS = [
    shlex.split(line)
    for line in re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", DOCKERFILE)).splitlines()
    if line.strip()
]
FORBIDDEN_BY_VLLM = {"fastapi", "numpy"}


def pins(name: str) -> dict[str, str]:
    """Package -> version of a file of exact versions."""
    text = (ROOT / name).read_text("utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    versions = dict(line.split("==") for line in lines)
    return {canonicalize_name(package): version for package, version in versions.items()}


def extras() -> list[str]:
    """That the image installs."""
    [extras] = re.findall(r"'\.\[([\w,]+)\]'", DOCKERFILE)
    return str(extras).split(",")


def test_each_instruction_is_one_of_docker() -> None:
    kinds = [instruction[0] for instruction in INSTRUCTIONS]
    assert kinds[0] == "FROM"
    assert set(kinds) <= {"FROM", "RUN", "COPY", "WORKDIR", "USER", "ENV"}


def test_what_it_copies_is_there_and_is_not_ignored() -> None:
    ignored, *rules = [
        line
        for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert ignored == "*"
    allowed = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    sources = [each for kind, *words in INSTRUCTIONS if kind == "COPY" for each in words[:-1]]
    assert "jobs/" in sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source.rstrip("/"), each) for each in allowed), source
    # What the wheel is made of: without it pip refuses.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {project["readme"], *project["license-files"], "pyproject.toml"} <= set(sources)


def test_it_runs_as_the_user_that_pods_have() -> None:
    [user] = [words for kind, *words in INSTRUCTIONS if kind == "USER"]
    assert user == ["1000"]
    assert "useradd --create-home --uid 1000" in DOCKERFILE
    assert [kind for kind, *_ in INSTRUCTIONS].index("USER") > len(INSTRUCTIONS) - 5


def test_its_tag_is_the_version_s() -> None:
    [tag] = re.findall(r"docker build .* -t (\S+) \.", DOCKERFILE)
    assert tag == f"registry.example/reasonray:{__version__}"
    settings = (KUBERAY / "settings" / "kustomization.yaml").read_text("utf-8")
    assert f'newTag: "{__version__}"' in settings


def test_its_versions_are_those_that_are_tested() -> None:
    image, tested = pins("cluster/image.txt"), pins("constraints.txt")
    different = {name for name in image.keys() & tested.keys() if image[name] != tested[name]}
    assert different == FORBIDDEN_BY_VLLM
    [python] = re.findall(r"^FROM python:(3\.\d+)\.\d+-", DOCKERFILE, re.MULTILINE)
    assert f"python{python}" == "python3.11"


def test_its_versions_are_all_that_the_package_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert set(extras()) <= project["optional-dependencies"].keys()
    image = pins("cluster/image.txt")
    needed = [
        *project["dependencies"],
        *(each for extra in extras() for each in project["optional-dependencies"][extra]),
    ]
    environment = {key: str(text) for key, text in default_environment().items()}
    environment["python_version"] = "3.11"
    for requirement in map(Requirement, needed):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            version = image[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), requirement


def test_every_store_that_an_output_may_lie_on_is_in_it() -> None:
    assert {"s3", "gcs", "azure", "cluster"} <= set(extras())
