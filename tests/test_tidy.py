"""The house rules that ruff cannot express, checked on every file of the repository.

Each rule is a function from the root of a tree to the faults in it, one line per fault. The
first test runs them all on this repository. The others break each rule once in a tree of their
own: a checker that finds nothing is otherwise indistinguishable from one that does not look.
"""

import ast
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

REPOSITORY: Final = Path(__file__).resolve().parent.parent

FILE_LINES_MAX: Final = 600
SCRIPT_LINES_MAX: Final = 60
FUNCTION_LINES_MAX: Final = 70
LINE_COLUMNS_MAX: Final = 100

FOLDERS: Final = {".ci", "bash", "bench", "config", "docs", "mako", "tests"}
#: Made by tools and runs, and ignored by git. Other folders with a dot belong to editors.
GENERATED: Final = {"__pycache__", "build", "dist", "results"}
TEXT: Final = {".cfg", ".json", ".md", ".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}

#: One word per concept: what must not be written, and the word to use.
WORDS: Final = {
    "async commit": "speculative",
    "commit_id": "timestamp",
    "data center": "process",
    "datacenter": "process",
    "hist_timestamp": "final watermark",
    "node set": "scan set",
    "par_id": "partition",
    "rset": "readset",
    "slave": "follower",
    "stored proc": "procedure",
    "stored procedure": "procedure",
    "tset": "readset or writeset",
    "tt_vec": "dependency mask",
    "txn body": "procedure",
    "vclock": "timestamp",
    "vectorized_w": "stable timestamp",
}

_LEFT_OPEN: Final = re.compile(r"\b(TO[D]O|FIX[M]E|X[X]X)\b")
_MACHINE_PATH: Final = re.compile(r"(?<![\w.:/~$}*-])/(?:home|root|Users|work)/\w")
_WORDS: Final = re.compile(rf"\b({'|'.join(map(re.escape, WORDS))})\b", re.IGNORECASE)
_FENCED: Final = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_INLINE_CODE: Final = re.compile(r"`[^`\n]*`")
_LINK: Final = re.compile(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_HEADING: Final = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)

Function = ast.FunctionDef | ast.AsyncFunctionDef
Check = Callable[[Path], Iterator[str]]


# --- The tree ----------------------------------------------------------------------------------


def is_ours(relative: Path) -> bool:
    """Whether a path below the root is part of the repository rather than of somebody's tools."""
    return not any(
        part in GENERATED
        or part.endswith(".egg-info")
        or (part.startswith(".") and part not in (".ci", ".gitignore"))
        for part in relative.parts
    )


def files(root: Path, *suffixes: str, folders: tuple[str, ...] = (".",)) -> Iterator[Path]:
    """Our files below `folders` with one of the suffixes, in a fixed order.

    What others have is not looked into: tools that run meanwhile make and remove folders there.
    """
    for folder in folders:
        for place, below, names in os.walk(root / folder):
            here = Path(place)
            below[:] = sorted(each for each in below if is_ours((here / each).relative_to(root)))
            for file in sorted(here / name for name in names):
                if file.suffix in suffixes and is_ours(file.relative_to(root)) and file.is_file():
                    yield file


@cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), file.name)


def lines_matching(root: Path, pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Place and match of every line of text that has the pattern, this file left out."""
    for file in files(root, *TEXT):
        if file.name == Path(__file__).name:
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if match := pattern.search(line):
                yield f"{file.relative_to(root)}:{number}", match.group()


def calls_of(tree: ast.AST, name: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every call of `name` or of an attribute called so."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            dotted = ast.unparse(node.func)
            if dotted.rpartition(".")[2] == name:
                yield node.lineno, dotted


def own_line_count(function: Function) -> int:
    """Lines of a function without its decorators and without the functions inside it."""
    assert function.end_lineno is not None
    count = function.end_lineno - function.lineno + 1
    inner = list(ast.iter_child_nodes(function))
    while inner:
        node = inner.pop()
        if isinstance(node, Function):
            assert node.end_lineno is not None
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            count -= node.end_lineno - first + 1
        else:
            inner += ast.iter_child_nodes(node)
    return count


# --- The rules ---------------------------------------------------------------------------------


def long_files(root: Path) -> Iterator[str]:
    """Files stay short enough to be read at once: split along a seam."""
    limits = {".py": FILE_LINES_MAX, ".sh": SCRIPT_LINES_MAX}
    for file in files(root, *limits):
        count = len(file.read_text().splitlines())
        if count > limits[file.suffix]:
            yield f"{file.relative_to(root)}: {count} lines, at most {limits[file.suffix]}"


def long_functions(root: Path) -> Iterator[str]:
    """Functions fit on a screen. A factory is not charged for the functions it makes."""
    for file in files(root, ".py"):
        for node in ast.walk(parsed(file)):
            if isinstance(node, Function):
                count = own_line_count(node)
                if count > FUNCTION_LINES_MAX:
                    place = f"{file.relative_to(root)}:{node.lineno}"
                    yield f"{place}: {node.name} has {count} lines, at most {FUNCTION_LINES_MAX}"


def long_lines(root: Path) -> Iterator[str]:
    """Ruff leaves comments and strings that it cannot break, and sees Python only."""
    for file in files(root, ".py", ".sh", ".toml", ".yaml", ".yml"):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            if len(line) > LINE_COLUMNS_MAX:
                place = f"{file.relative_to(root)}:{number}"
                yield f"{place}: {len(line)} columns, at most {LINE_COLUMNS_MAX}"


def prints(root: Path) -> Iterator[str]:
    """Only the command line and the benchmarks write to a terminal."""
    for file in files(root, ".py", folders=("mako", "tests")):
        relative = file.relative_to(root)
        if relative.is_relative_to("mako/cli"):
            continue
        for number, dotted in calls_of(parsed(file), "print"):
            if dotted == "print":
                yield f"{relative}:{number}: print() outside mako/cli and bench"


def left_open(root: Path) -> Iterator[str]:
    """What is open is an issue, not a comment."""
    for place, mark in lines_matching(root, _LEFT_OPEN):
        yield f"{place}: {mark}; finish it or open an issue"


def sleeps_in_tests(root: Path) -> Iterator[str]:
    """A test waits for an event. trio's sleep is allowed, for its clock can be a virtual one."""
    for file in files(root, ".py", folders=("tests",)):
        for number, dotted in calls_of(parsed(file), "sleep"):
            if dotted != "trio.sleep":
                yield f"{file.relative_to(root)}:{number}: {dotted}() in a test"


def machine_paths(root: Path) -> Iterator[str]:
    """Nothing depends on where one developer keeps things."""
    for place, path in lines_matching(root, _MACHINE_PATH):
        yield f"{place}: a path of one machine, {path}..."


def banned_words(root: Path) -> Iterator[str]:
    """One word per concept."""
    for place, word in lines_matching(root, _WORDS):
        yield f"{place}: say {WORDS[word.lower()]!r}, not {word!r}"


def unknown_folders(root: Path) -> Iterator[str]:
    """A new top-level folder is a decision: it gets a line in README.md and one here."""
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and is_ours(Path(entry.name)) and entry.name not in FOLDERS:
            yield f"{entry.name}/: not a folder of the layout"


def broken_links(root: Path) -> Iterator[str]:
    """Links between documents lead somewhere, to the heading if they name one."""
    for file in files(root, ".md"):
        text = _INLINE_CODE.sub("", _FENCED.sub("", file.read_text()))
        for target in _LINK.findall(text):
            path, _, anchor = target.partition("#")
            if re.match(r"[a-z]+:", path):
                continue
            place = f"{file.relative_to(root)}: link to {target}"
            aim = (file.parent / path) if path else file
            if not aim.exists():
                yield f"{place}: no such file"
            elif anchor and aim.suffix == ".md" and anchor not in anchors(aim):
                yield f"{place}: no such heading"


def anchors(file: Path) -> set[str]:
    """The names by which the headings of a Markdown file can be linked."""
    headings = _HEADING.findall(_FENCED.sub("", file.read_text()))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


RULES: Final[tuple[Check, ...]] = (
    long_files,
    long_functions,
    long_lines,
    prints,
    left_open,
    sleeps_in_tests,
    machine_paths,
    banned_words,
    unknown_folders,
    broken_links,
)


# --- The tests ---------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_repository(rule: Check) -> None:
    faults = list(rule(REPOSITORY))
    assert not faults, f"{rule.__doc__}\n" + "\n".join(faults)


def write(root: Path, relative: str, content: str) -> None:
    file = root / relative
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def function_of(line_count: int) -> str:
    return "def f():\n" + "    a = 1\n" * (line_count - 1)


BROKEN: Final[list[tuple[Check, str, str, str]]] = [
    (long_files, "mako/a.py", "a = 1\n" * 601, "mako/a.py: 601 lines, at most 600"),
    (long_files, "bash/a.sh", "true\n" * 61, "bash/a.sh: 61 lines, at most 60"),
    (long_functions, "bench/a.py", function_of(71), "bench/a.py:1: f has 71 lines, at most 70"),
    (long_lines, "config/a.yaml", f"# {'a' * 99}\n", "config/a.yaml:1: 101 columns, at most 100"),
    (prints, "mako/engine/a.py", "\nprint(1)\n", "mako/engine/a.py:2: print() outside"),
    (prints, "tests/a.py", "print(1)\n", "tests/a.py:1: print() outside"),
    (left_open, "mako/a.py", "# " + "TO" + "DO: later\n", "mako/a.py:1: TO" + "DO; finish"),
    (left_open, "docs/a.md", "FIX" + "ME\n", "docs/a.md:1: FIX" + "ME; finish"),
    (left_open, "bash/a.sh", "true # XX" + "X\n", "bash/a.sh:1: XX" + "X; finish"),
    (sleeps_in_tests, "tests/a.py", "time.sleep(1)\n", "tests/a.py:1: time.sleep() in a test"),
    (sleeps_in_tests, "tests/b/a.py", "sleep(1)\n", "tests/b/a.py:1: sleep() in a test"),
    (machine_paths, "docs/a.md", "cd /ho" + "me/ann/mako\n", "docs/a.md:1: a path of one machine"),
    (machine_paths, "mako/a.py", "A = '/ro" + "ot/x'\n", "mako/a.py:1: a path of one machine"),
    (banned_words, "mako/a.py", "par_" + "id = 1\n", "mako/a.py:1: say 'partition', not"),
    (banned_words, "docs/a.md", "The Sla" + "ve.\n", "docs/a.md:1: say 'follower', not"),
    (unknown_folders, "scripts/a.sh", "true\n", "scripts/: not a folder of the layout"),
    (broken_links, "docs/a.md", "[b](b.md)\n", "docs/a.md: link to b.md: no such file"),
    (broken_links, "README.md", "![b](docs/b.png)\n", "README.md: link to docs/b.png: no such"),
    (broken_links, "docs/a.md", "# One\n[b](#two)\n", "docs/a.md: link to #two: no such heading"),
]


@pytest.mark.parametrize(
    ("rule", "relative", "content", "fault"), BROKEN, ids=lambda part: getattr(part, "__name__", "")
)
def test_broken_rule_is_found(
    tmp_path: Path, rule: Check, relative: str, content: str, fault: str
) -> None:
    write(tmp_path, relative, content)
    found = list(rule(tmp_path))
    assert len(found) == 1
    assert found[0].startswith(fault)


def test_every_rule_is_broken_once() -> None:
    assert {rule for rule, *_ in BROKEN} == set(RULES)


def test_what_is_within_the_rules_is_not_found(tmp_path: Path) -> None:
    write(tmp_path, "mako/a.py", "a = 1\n" * 600)
    write(tmp_path, "mako/b.py", function_of(70) + f"# {'b' * 98}\n")
    inner = "    @inline\n    def g():\n        return 2\n"
    write(tmp_path, "mako/c.py", function_of(70) + inner)
    write(tmp_path, "mako/cli/a.py", "print(1)\n")
    write(tmp_path, "bench/a.py", "print(1)\n")
    write(tmp_path, "tests/a.py", "async def test():\n    await trio.sleep(1)\n")
    write(
        tmp_path, "docs/a.md", "# A `b` c-d\n[a](#a-b-c-d) [b](../README.md) [c](https://c.org)\n"
    )
    write(tmp_path, "README.md", "```\n[not](a-link)\n```\n`[nor](this)` ~/home/a ./work/b\n")
    write(tmp_path, ".venv/lib/a.py", "a = 1\n" * 601)
    write(tmp_path, "results/a.md", "[b](b.md)\n")
    assert [fault for rule in RULES for fault in rule(tmp_path)] == []
