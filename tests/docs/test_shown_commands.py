"""Each command line that a page shows is run by a test, or the table here says why not."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import attrs
import pytest

from odin_ws.cli import main
from odin_ws.settings import Settings
from tests.cli.test_main import parse
from tests.docs.pages import ROOT, blocks, pages
from tests.docs.test_examples import write_files

PAGES: Final = [
    *pages(),
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "clients").glob("*/README.md")),
]

# Beginnings of command lines; a block without a language must not have any.
PROGRAMS: Final = re.compile(
    r"(?m)^(?:\$ )?(?:\w+=\S+ )*"
    r"(?:(?:\S+/)?(?:odin-ws|pip)|make|curl|python3?|docker|kubectl|helm|npm) "
)

SETTING: Final = re.compile(r"(?m)^((?:WS|KAFKA|LOG)_[A-Z_]+)=")

EXAMPLES: Final = "tests/docs/test_examples.py::test_commands_print_what_pages_show"
CURL: Final = "tests/docs/test_curl.py"
DEMO: Final = "tests/integration/test_demo.py"
TOPICS: Final = "tests/integration/test_topics_and_publish.py"
DEPLOYMENT: Final = "tests/integration/test_deployment_page.py::test_the_plan_works"
SERVER: Final = "tests/integration/servers.py::serving"
TUTORIAL: Final = "tests/docs/test_tutorial.py::test_step_1_from_an_empty_folder"

# By page and command, with `*` as in a shell: the test that runs it with this machine's addresses
# and folders, or `not run:` with the reason. The first match counts.
RUN_BY: Final = [
    ("docs/tutorial.md", "*", TUTORIAL),
    ("docs/settings.md", "*", EXAMPLES),
    ("docs/catalogue.md", "odin-ws catalogue check *", EXAMPLES),
    (
        "docs/catalogue.md",
        "odin-ws tail *",
        f"{DEMO}::test_tail_prints_events_of_an_example_catalogue",
    ),
    ("docs/catalogue.md", "*", f"{TOPICS}::test_topics_and_publish_accept_another_catalogue"),
    ("docs/deployment.md", "groupadd *", "not run: changes groups and services of the machine"),
    ("docs/deployment.md", "ch* *", "not run: changes groups and services of the machine"),
    ("docs/deployment.md", "systemctl *", "not run: changes groups and services of the machine"),
    ("docs/deployment.md", "*", DEPLOYMENT),
    ("docs/auth.md", "curl -i *", f"{CURL}::test_rejection_of_a_token_is_as_shown"),
    ("docs/auth.md", "curl -s -X POST *", f"{CURL}::test_revocation_is_as_shown"),
    ("docs/auth.md", "export WS_AUTH=jwt *", "tests/settings/test_secrets.py::*"),
    ("docs/auth.md", "odin-ws tail *", DEPLOYMENT),
    (
        "docs/check.md",
        "*",
        "tests/integration/test_check.py::test_output_has_a_line_per_check_and_a_summary",
    ),
    (
        "docs/client-js.md",
        "*",
        "tests/client_js/test_package.py::test_installed_package_receives_every_record_through_restarts",
    ),
    ("docs/console.md", "curl -sN *", "tests/ops/console/test_events.py::*"),
    ("docs/console.md", "curl -s *", "tests/ops/console/test_events.py::*"),
    ("docs/monitoring.md", "curl -i *", f"{CURL}::test_probe_is_as_shown"),
    ("docs/monitoring.md", "curl -s *", f"{CURL}::test_ops_pages_have_the_fields_shown"),
    ("docs/protocol.md", "curl -i *", f"{CURL}::test_rejection_is_as_shown"),
    (
        "docs/sse.md",
        "curl *",
        "tests/integration/test_sse.py::test_curl_reads_events_snapshots_and_probes",
    ),
    (
        "README.md",
        "curl *",
        "tests/integration/test_sse.py::test_curl_reads_events_snapshots_and_probes",
    ),
    (
        "docs/operations.md",
        "kill -HUP *",
        "tests/integration/test_tls.py::test_certificate_is_renewed_without_disconnections",
    ),
    (
        "docs/operations.md",
        "odin-ws serve --workers *",
        "tests/integration/test_workers.py::test_option_overrides_the_setting",
    ),
    ("docs/operations.md", "python3 -m venv *", TUTORIAL),
    ("docs/operations.md", "venv/bin/pip install *", "tools/release.py::install"),
    (
        "docs/own-client.md",
        "*",
        "tests/testing/test_conformance.py::test_example_of_own_client_page_conforms",
    ),
    ("docs/testing.md", "python -m odin_ws.testing.brokers *", "tests/testing/test_brokers.py::*"),
    ("docs/testing.md", "make help", "tests/docs/test_examples.py::test_make_help"),
    (
        "docs/start.md",
        "*odin-ws check",
        "tests/integration/test_check.py::test_output_has_a_line_per_check_and_a_summary",
    ),
    (
        "docs/start.md",
        "*odin-ws serve --brokers *",
        "tests/cli/test_serve.py::test_options_override_settings",
    ),
    (
        "README.md",
        "odin-ws demo --catalogue *",
        f"{DEMO}::test_demo_runs_each_example_catalogue",
    ),
    ("clients/python/README.md", "pip install *", "tools/release.py::install"),
    ("*", "*odin-ws tail *", f"{DEMO}::test_tail_prints_events_of_an_example_catalogue"),
    ("*", "*odin-ws topics create*", f"{TOPICS}::test_topics_create_creates_only_missing_topics"),
    ("*", "*odin-ws serve", SERVER),
    ("*", "make demo", "not run: installs an environment; the commands that it runs are tested"),
    ("*", "make *", "not run: runs the tests, or installs what they need"),
    ("*", "docker *", "not run: there is no container engine"),
    ("compose/README.md", "*", "not run: there is no container engine"),
    (
        "*",
        "kubectl *",
        "not run: there is no Kubernetes; tests/deploy/test_kubernetes.py validates",
    ),
    ("*", "helm *", "not run: there is no Kubernetes; tests/deploy/test_kubernetes.py validates"),
]


@attrs.frozen
class Shown:
    """A command line of a page."""

    page: str
    command: str

    def __str__(self) -> str:
        return f"{self.page}: {self.command}"


def _shown() -> Iterator[Shown]:
    for path in PAGES:
        text = path.read_text("utf-8")
        name = path.relative_to(ROOT).as_posix()
        for block in blocks(text, "console"):
            for command in re.findall(r"(?m)^\$ (.*)$", block.text):
                yield Shown(name, command)
        for language in ("bash", "sh", "shell"):
            for block in blocks(text, language):
                lines = (line.strip() for line in block.text.splitlines())
                for line in lines:
                    if line and not line.startswith("#") and not SETTING.match(line):
                        yield Shown(name, line)


SHOWN: Final = list(dict.fromkeys(_shown()))


@pytest.mark.parametrize("shown", SHOWN, ids=str)
def test_each_command_is_run_by_a_test(shown: Shown) -> None:
    """The table names a test that exists, or says why no test runs the command."""
    found = [
        how
        for page, command, how in RUN_BY
        if fnmatchcase(shown.page, page) and fnmatchcase(shown.command, command)
    ]
    assert found, f"say in RUN_BY which test runs it: {shown}"
    if not found[0].startswith("not run: "):
        path, _, name = found[0].partition("::")
        text = (ROOT / path).read_text("utf-8")
        assert name == "*" or f"def {name}(" in text, found[0]


@pytest.mark.parametrize("entry", RUN_BY, ids=" ".join)
def test_each_entry_is_needed(entry: tuple[str, str, str]) -> None:
    """An entry for a command that no page shows is removed."""
    page, command, _ = entry
    assert any(fnmatchcase(one.page, page) and fnmatchcase(one.command, command) for one in SHOWN)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_are_in_blocks_of_a_shell(path: Path) -> None:
    """A block without a language has no command, which these tests would miss."""
    for block in blocks(path.read_text("utf-8"), ""):
        assert not PROGRAMS.search(block.text), block.text


@pytest.mark.parametrize(
    "shown", [one for one in SHOWN if re.match(r"(\w+=\S+ )*\S*odin-ws ", one.command)], ids=str
)
def test_options_exist(shown: Shown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's parser accepts commands that no test runs, too."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    for name in ("docs/catalogue.md", "docs/settings.md"):
        write_files(name, tmp_path)
    monkeypatch.chdir(tmp_path)
    words = shlex.split(shown.command.partition(" | ")[0])
    at = next(n for n, word in enumerate(words) if word.rpartition("/")[2] == "odin-ws")
    if "--help" not in words:
        parse(main, words[at + 1 :])


@pytest.mark.parametrize(
    "target", sorted({one.command.split()[1] for one in SHOWN if one.command.startswith("make ")})
)
def test_targets_of_make_exist(target: str) -> None:
    """The Makefile has every target that a page names."""
    assert re.search(rf"(?m)^{target}:", (ROOT / "Makefile").read_text("utf-8"))


def test_settings_of_blocks_exist() -> None:
    """Each setting that a page shows in a block exists."""
    known = {name.upper() for name in attrs.fields_dict(Settings)}
    known |= {f"{name}_FILE" for name in known}
    for path in PAGES:
        text = path.read_text("utf-8")
        for language in ("", "bash"):
            for block in blocks(text, language):
                unknown = set(SETTING.findall(block.text)) - known
                assert not unknown, path.name
