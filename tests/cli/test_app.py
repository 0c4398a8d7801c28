"""The command line as a user meets it: exit statuses, one line per failure, no numba."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pytest

import mako.cli.app as app
from mako.cli.lazy import LazyCommand
from mako.errors import ConfigError, OutOfMemory

# Each costs 100 to 900 ms of start-up; rich alone is 40.
HEAVY = ("hypothesis", "llvmlite", "msgpack", "numba", "numpy", "rich", "trio", "yaml")


@click.command()
@click.argument("fault")
def faulty(fault: str) -> int:
    """Fails in the way its argument says; stands for a command of another package."""
    match fault:
        case "config":
            raise ConfigError("workers is 0;\n  give at least 1")
        case "memory":
            raise OutOfMemory("memory is full; open with more")
        case "folder":
            raise PermissionError(13, "Permission denied", "reports/a")
        case "full":
            raise OSError(28, "No space left on device")
        case "late":
            raise TimeoutError("members has not ended in time; wait longer")
        case "interrupt":
            raise KeyboardInterrupt
        case "check":
            return 1
        case "exit":
            click.get_current_context().exit(1)
        case "bug":
            raise AssertionError("a broken invariant")
    return 0


@pytest.fixture
def with_faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = LazyCommand(__name__, "faulty", "Fails.")
    monkeypatch.setitem(app.mako._lazy, "faulty", lazy)


def imported_by(arguments: Sequence[str]) -> list[str]:
    """Which of HEAVY a process has imported after it ran `mako` with `arguments`."""
    program = (
        "import json, sys\n"
        "from mako.cli import main\n"
        f"status = main({list(arguments)!r})\n"
        "assert status == 0, status\n"
        f"print('\\n' + json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return names


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["status"], ["status", "--help"], ["warmup", "--help"]]
)
def test_light_commands_import_nothing_heavy(arguments: list[str]) -> None:
    assert imported_by(arguments) == []


def test_import_of_the_client_does_not_import_numba() -> None:
    program = "import sys, mako, mako.client; sys.exit('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_module_runs_like_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mako", "no-such-command"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "mako: no such command 'no-such-command'; see mako --help\n"


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in app.mako.list_commands(click.Context(app.mako)):
        assert f"\n  {name} " in text


def test_every_listed_command_loads() -> None:
    context = click.Context(app.mako)
    names = app.mako.list_commands(context)
    assert {"bench", "server", "status", "warmup"} <= set(names)
    for name in names:
        command = app.mako.get_command(context, name)
        assert command is not None
        assert command.name == name


def test_no_arguments_prints_the_help_and_is_a_usage_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert app.main([]) == 2
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--colour"], "mako: there is no option --colour; see mako --help"),
        (["statsu"], "mako: no such command 'statsu'"),
        (["status", "--output", "xml"], "mako: --output: 'xml' is not one of"),
        (["status", "now"], "mako: got unexpected extra argument (now); see mako status --help"),
        (["warmup", "--force=1"], "mako: there is no option --force"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert app.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(line)
    assert printed.err.count("\n") == 1


@pytest.mark.usefixtures("with_faulty")
@pytest.mark.parametrize(
    ("fault", "status", "line"),
    [
        ("config", 2, "mako: workers is 0; give at least 1\n"),
        ("memory", 2, "mako: memory is full; open with more\n"),
        ("folder", 2, "mako: reports/a: Permission denied; name another place\n"),
        ("full", 2, "mako: No space left on device\n"),
        ("late", 2, "mako: members has not ended in time; wait longer\n"),
        ("interrupt", 130, "mako: interrupted\n"),
        ("check", 1, ""),
        ("exit", 1, ""),
        ("none", 0, ""),
    ],
)
def test_failure_becomes_a_status_and_at_most_one_line(
    capsys: pytest.CaptureFixture[str], fault: str, status: int, line: str
) -> None:
    assert app.main(["faulty", fault]) == status
    # An interrupted terminal shows ^C: click starts a new line after it.
    assert capsys.readouterr().err.lstrip("\n") == line


@pytest.mark.usefixtures("with_faulty")
def test_broken_invariant_keeps_its_traceback() -> None:
    with pytest.raises(AssertionError, match="a broken invariant"):
        app.main(["faulty", "bug"])


def test_missing_library_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "needs_more.py").write_text("import no_such_library.part\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(app.mako._lazy, "more", LazyCommand("needs_more", "more", "More."))
    assert app.main(["more"]) == 2
    assert "no_such_library is not installed; run `pip install" in capsys.readouterr().err


def test_missing_module_of_our_own_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.mako._lazy, "more", LazyCommand("mako.no_such_module", "more", "More."))
    with pytest.raises(ModuleNotFoundError):
        app.main(["more"])


def test_a_reader_that_stops_early_sees_no_traceback() -> None:
    program = f"{sys.executable} -m mako status | true"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", ["status", "--help", "--version"])
def test_an_output_that_is_full_is_one_line_and_status_2(arguments: str) -> None:
    program = f"{sys.executable} -m mako {arguments} > /dev/full"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "mako: No space left on device\n")


def options_of(command: click.Command, path: str) -> dict[str, str]:
    """The variables of the options of a command and of all below it, and what they should be."""
    found = {}
    context = click.Context(command, auto_envvar_prefix=path)
    for option in command.params:
        if isinstance(option, click.Option) and option.expose_value:
            name = max(option.opts, key=len).lstrip("-")
            found[str(option.envvar)] = f"{path}_{name}".replace("-", "_").upper()
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found |= options_of(below, f"{path}_{name}".replace("-", "_").upper())
    return found


def test_variables_are_called_as_the_options_are() -> None:
    found = options_of(app.mako, "MAKO")
    assert len(found) > 50
    assert {"MAKO_SERVER_PROCESS", "MAKO_REPLICA_LEAD_TIMEOUT", "MAKO_STATUS_CONFIG"} <= set(found)
    assert {name: wanted for name, wanted in found.items() if name != wanted} == {}


def test_options_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAKO_SERVER_PROCESS", "p1")
    monkeypatch.setenv("MAKO_SERVER_CONFIG", "config/1c1s3r1p_cluster_test.yml")
    monkeypatch.setenv("MAKO_SERVER_CHECK", "1")
    assert app.main(["server"]) == 0
    assert "process p1" in capsys.readouterr().out
