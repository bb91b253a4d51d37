"""docs/cluster.md: every command as far as it can be followed without a cluster."""

import itertools
import re
import shlex

import click
import pytest
import yaml
from manifests import APPS, KUBERAY, pods, read
from one_cluster import ROOT

from reasonray.cli.main import cli
from reasonray.core.version import __version__

TEXT = (ROOT / "docs" / "cluster.md").read_text("utf-8")
COMMANDS = [
    shlex.split(line.removeprefix("$ "))
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]


def named(*beginning: str) -> list[list[str]]:
    """The commands that begin so, what follows of each."""
    count = len(beginning)
    rest = [words[count:] for words in COMMANDS if tuple(words[:count]) == beginning]
    assert rest, beginning
    return rest


def test_each_command_is_of_a_tool_that_is_said_to_be_needed() -> None:
    assert {words[0] for words in COMMANDS} == {
        "helm", "docker", "kubectl", "reasonray", "ray", "curl", "export",
    }  # fmt: skip


def test_our_own_commands_are_understood() -> None:
    own = named("reasonray") + [
        [words[1].removeprefix("/app/jobs/").removesuffix(".py"), *words[2:]]
        for words in (line[line.index("--") + 1 :] for line in named("ray", "job", "submit"))
    ]
    for command, *arguments in own:
        with click.Context(cli, info_name="reasonray", obj=True) as context:
            cli.commands[command].make_context(command, arguments, parent=context)


def test_every_folder_is_applied_and_there() -> None:
    folders = {folder for [folder] in named("kubectl", "apply", "-k")}
    assert folders == {f"cluster/kuberay/{app}" for app in APPS} | {"cluster/prometheus"}
    assert all((ROOT / folder / "kustomization.yaml").exists() for folder in folders)


def test_every_secret_that_a_pod_reads_is_made() -> None:
    beginning = ("kubectl", "-n", "reasonray", "create", "secret", "generic")
    contents = {name: words for name, *words in named(*beginning)}
    read_by_pods = set()
    for pod in itertools.chain.from_iterable(pods(read(app)) for app in APPS):
        read_by_pods |= {
            each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each
        }
        for source in pod["containers"][0]["envFrom"]:
            read_by_pods |= {each["name"] for kind, each in source.items() if kind == "secretRef"}
    assert contents.keys() == read_by_pods | {"valkey"}
    assert any(word.startswith("--from-literal=password=") for word in contents["valkey"])
    assert "--from-file=keys=keys.txt" in contents["reasonray-keys"]


def test_jobs_and_services_bear_the_names_that_kuberay_gives_them() -> None:
    kinds = {read(app)["metadata"]["name"]: read(app)["kind"] for app in APPS}
    for [job] in named(*["kubectl", "-n", "reasonray", "logs", "-f"]):
        assert kinds[job.removeprefix("job/")] == "RayJob"
    for service, _ in named(*["kubectl", "-n", "reasonray", "port-forward"]):
        match = re.fullmatch(r"svc/([\w-]+)-(serve|head)-svc", service)
        assert match
        assert kinds[match[1]] == {"serve": "RayService", "head": "RayCluster"}[match[2]]


def test_a_token_is_in_the_secret_that_kuberay_makes() -> None:
    [name] = re.findall(r"get secret ([\w-]+) -o jsonpath='\{\.data\.auth_token\}'", TEXT)
    assert name == read("cluster")["metadata"]["name"]


def test_the_image_and_kuberay_are_those_of_the_files() -> None:
    settings = yaml.safe_load((KUBERAY / "settings" / "kustomization.yaml").read_text("utf-8"))
    [image] = settings["images"]
    tag = f"{image['newName']}:{__version__}"
    assert named("docker", "push") == [[tag]]
    assert named("docker", "build") == [["-f", "cluster/Dockerfile", "-t", tag, "."]]
    [install] = named("helm", "install")
    [schema] = (ROOT / "tests" / "cluster").glob("kuberay-v*.json.gz")
    assert f"kuberay-v{install[install.index('--version') + 1]}.json.gz" == schema.name


def test_clusters_of_machines_are_there() -> None:
    for action in ("up", "dashboard", "down"):
        for [file] in named("ray", action):
            assert (ROOT / file).exists()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((\.\./[\w./-]+|[\w-]+\.md)\)", TEXT))))
def test_a_link_leads_somewhere(link: str) -> None:
    assert (ROOT / "docs" / link).exists()
