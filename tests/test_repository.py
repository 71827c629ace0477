"""The tree: every floor has the files of every key, and what files say of each other is true."""

import ast
import fnmatch
import json
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import posenc
from scripts.sitegen import doors, tree

ROOT = Path(__file__).resolve().parents[1]
README, CONTRIBUTING, MAKEFILE, CI, PROJECT = (
    (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "CONTRIBUTING.md", "Makefile", ".ci/run", "pyproject.toml")
)
KEYS = tree.keys()
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
BY_WORKFLOW = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)


def stems(folder: str, pattern: str = "*.py") -> set[str]:
    """Names of the modules or pages in a folder, without private ones."""
    found = {path.stem for path in (ROOT / folder).glob(pattern)}
    return {stem for stem in found if not stem.startswith("_")}


# Floors


@pytest.mark.parametrize("key", KEYS)
def test_every_floor_has_the_key(key):
    floors = ("tests/test_{}.py", "docs/zh/{}.md", "docs/en/{}.md", "scripts/figures/{}.py")
    assert [f for f in floors if not (ROOT / f.format(key)).exists()] == []
    assert key in stems("posenc/equations") | stems("posenc/layers")


@pytest.mark.parametrize(
    ("folder", "beside"),
    [
        ("posenc/equations", set()),
        ("posenc/layers", set()),
        ("scripts/figures", {"home", "reading"}),
        ("docs/notebooks", set()),
    ],
)
def test_no_floor_has_a_file_without_a_key(folder, beside):
    assert stems(folder) <= {*KEYS, *beside}


@pytest.mark.parametrize("language", tree.LANGUAGES)
def test_the_pages_of_each_language_are_those_of_the_nav(language):
    written = {f"{stem}.md" for stem in stems(f"docs/{language}", "*.md")}
    assert written == {page for page in tree.pages() if "/" not in page}


def test_every_key_has_its_api_page_and_every_notebook_its_place():
    assert {p for p in tree.pages() if p.startswith("api/")} == {f"api/{key}.md" for key in KEYS}
    notebooks = {f"notebooks/{name}.md" for name in tree.notebooks()}
    assert {p for p in tree.pages() if p.startswith("notebooks/")} == notebooks


def test_every_chapter_has_an_english_name():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    groups = yaml.safe_load(re.search(r"^  groups: (.*)$", text, re.M)[1])
    assert set(groups) == {title for e in tree.nav() if isinstance(e, dict) for title in e}


def test_claims_of_a_key_are_made_in_its_test_file():
    statements = yaml.safe_load((ROOT / "docs/claims.yml").read_text(encoding="utf-8"))
    for key in KEYS:
        source = (ROOT / f"tests/test_{key}.py").read_text(encoding="utf-8")
        calls = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)]
        made = [c.args[0].value for c in calls if ast.unparse(c.func) == "claim"]
        assert sorted(made) == sorted(c for c in statements if c.partition(".")[0] == key)
    assert {claim.partition(".")[0] for claim in statements} <= set(KEYS)


# Commands


TARGETS = re.findall(r"^([a-z]+):.*?## \S", MAKEFILE, re.M)


def commands(text: str) -> set[str]:
    """Targets of `make` that a text names in code."""
    code = re.findall(r"```sh\n(.*?)```|`([^`\n]+)`", text, re.S)
    return {target for found in code for target in re.findall(r"\bmake ([a-z]+)", "\n".join(found))}


@pytest.mark.parametrize("text", [README, CONTRIBUTING, CI], ids=["README", "CONTRIBUTING", "CI"])
def test_named_commands_are_targets_of_the_makefile(text):
    assert commands(text) <= set(TARGETS)


def test_every_target_is_explained_and_is_no_file():
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)[1].split()
    assert sorted(phony) == sorted(TARGETS)
    assert MAKEFILE.index("help:") < min(MAKEFILE.index(f"\n{t}:") for t in {*TARGETS} - {"help"})


def test_the_two_commands_stand_in_the_first_screen_of_the_readme():
    first_screen = "\n".join(README.splitlines()[:25])
    assert commands(first_screen) >= {"site", "test"}


def test_ci_runs_the_command_that_the_readme_names():
    assert CI.splitlines()[-1] == "exec make test"
    assert "set -euo pipefail" in CI
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert any("- run: .ci/run" in path.read_text(encoding="utf-8") for path in WORKFLOWS)


def test_readme_example_is_short_and_shows_its_output():
    (fence,) = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    assert len(re.findall(r"^(?:>>>|\.\.\.) \S", fence, re.M)) <= 10
    assert re.search(r"^[^>.\n]", fence, re.M)


def test_readme_table_of_doors_is_the_one_read_off_the_code():
    shown = re.search(r"<!-- doors -->\n\n(.*?)\n\n<!-- /doors -->", README, re.S)
    assert shown[1] == doors.table("en", linked=False)


@pytest.mark.parametrize("text", [README, CONTRIBUTING], ids=["README", "CONTRIBUTING"])
def test_linked_files_exist(text):
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert [link for link in links if not (ROOT / link).exists()] == []


# Workflows


@BY_WORKFLOW
def test_actions_are_pinned_by_digest_with_their_version(path):
    uses = re.findall(r"uses: *(.*)", path.read_text(encoding="utf-8"))
    assert uses
    unpinned = [u for u in uses if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", u)]
    assert unpinned == []


def test_an_action_has_the_same_digest_everywhere():
    text = "\n".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    pins = set(re.findall(r"uses: *(\S+)@(\w+)", text))
    assert len(pins) == len({action for action, _ in pins})


@BY_WORKFLOW
def test_workflows_read_and_only_the_deployment_writes(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    granted = {name: job.get("permissions", {}) for name, job in workflow["jobs"].items()}
    writing = {name for name, rights in granted.items() if "write" in rights.values()}
    assert writing <= {"deploy"}
    assert granted.get("deploy", {}) in ({}, {"pages": "write", "id-token": "write"})


def test_workflows_test_every_python_from_the_oldest_that_is_allowed():
    text = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    versions = yaml.safe_load(text)["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert versions == ["3.11", "3.12", "3.13"]
    assert tomllib.loads(PROJECT)["project"]["requires-python"] == f">={versions[0]}"


# Versions and dependencies


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads(PROJECT)["project"]["version"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest, date = re.findall(r"^## \[(\d[^]]*)\] - (\S+)$", changes, re.M)[0]
    assert posenc.__version__ == cited["version"] == newest == version
    assert cited["date-released"].isoformat() == date
    assert f"version {version}, {date[:4]}" in README.replace("\n", " ")


def test_citation_has_what_the_format_asks_for():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert cited["authors"] == [{"name": "posenc contributors"}]
    assert {"message", "title"} <= set(cited)
    assert not {"doi", "url", "identifiers"} & set(cited)


def requirements() -> list[str]:
    project = tomllib.loads(PROJECT)["project"]
    extras = project["optional-dependencies"].values()
    return [*project["dependencies"], *(need for extra in extras for need in extra)]


@pytest.mark.parametrize("need", requirements())
def test_every_dependency_says_what_it_is_for(need):
    (line,) = [line for line in PROJECT.splitlines() if f'"{need}"' in line and "#" in line]
    assert re.search(r"# .*\w{4}", line)


def test_torch_has_one_version_in_all_files():
    texts = [README, MAKEFILE, PROJECT, *(p.read_text(encoding="utf-8") for p in WORKFLOWS)]
    found = [re.findall(r"\btorch==([\d.]+\d)", text) for text in texts]
    assert all(found)
    assert len({version for versions in found for version in versions}) == 1


def lock_entries() -> dict[str, str]:
    """Entries of the lock by name."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.M)
    return {re.match(r"[\w.-]+", e)[0].lower(): e for e in entries if e.strip()}


def test_python_lock_holds_hashes_and_no_addresses():
    entries = lock_entries()
    unlocked = [name for name, e in entries.items() if "==" not in e or "--hash=sha256:" not in e]
    assert unlocked == []
    assert "://" not in "".join(entries.values())


def test_python_lock_holds_every_dependency_but_torch_and_its_cuda():
    names = {re.match(r"[\w-]+", need)[0] for need in requirements()}
    locked = set(lock_entries())
    assert names - locked == {"torch"}
    assert not [name for name in locked if re.match(r"torch$|triton$|nvidia|cuda", name)]


def test_node_lock_holds_integrities_and_no_addresses():
    packages = json.loads((ROOT / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    packages.pop("")
    assert packages
    assert [name for name, package in packages.items() if "integrity" not in package] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []


# Words that no file may hold: absolute paths of somebody's machine, hosts of registries

FORBIDDEN = re.compile(
    r"(?<![\w.])/(?:work|home|root|users|mnt)/\w|[a-z]:\\users\\"
    r"|\b(?:pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|download\.pytorch\.org)",
    re.IGNORECASE,
)


def own_files() -> Iterator[Path]:
    """Files of the project: everything that .gitignore does not leave out."""
    ignored = [".git", *(ROOT / ".gitignore").read_text(encoding="utf-8").split()]
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [n for n in inner if not _matches(n, ignored)]
        yield from (Path(folder) / n for n in names if not _matches(n, ignored))


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern.strip("/")) for pattern in patterns)


def test_files_of_the_project_are_found():
    found = {path.relative_to(ROOT).as_posix() for path in own_files()}
    assert {"README.md", ".ci/run", "posenc/py.typed", ".github/workflows/test.yml"} <= found
    assert not [path for path in found if path.startswith((".venv", "node_modules", "site/"))]


def test_no_file_names_a_machine_or_a_registry():
    for path in own_files():
        text = path.read_bytes().decode("utf-8", errors="ignore")
        assert [path.name, FORBIDDEN.findall(text)] == [path.name, []]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/".join(["", "home", "ada", "x"]), True),
        ("/".join(["see ", "Work", "main"]), True),
        ("https://files." + "python" + "hosted.org/x", True),
        ("C:" + "\\Users\\ada", True),
        ("https://example.org/home/page", False),
        ("it does not /work", False),
        ("../work/x", False),
    ],
)
def test_a_path_of_a_machine_or_a_host_would_be_found(text, found):
    assert bool(FORBIDDEN.search(text)) == found
