"""Who may import whom, read from the sources."""

import ast
import functools
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SOURCES = {"gradcam_export": CHECKOUT / "export/gradcam_export", "gradcam_client": CHECKOUT / "client/gradcam_client"}
LONGEST_FILE, LONGEST_FUNCTION = 250, 40

EXPORT_LEAVES = {"contract", "errors", "options", "labels", "manifest", "stock_ops"}
EXPORT_ROAD = {"keras_model", "methods", "graph", "module", "savedmodel", "checks"}
CLIENT_LEAVES = {"contract", "errors", "options", "manifest", "wire"}
CLIENT_ROAD = {*CLIENT_LEAVES, "choices", "connected", "images", "many", "outcomes", "results", "steps", "waiting"}
CLIENT_COMMANDS = {
    *CLIENT_LEAVES,
    *("client", "drawing", "in_order", "outcomes", "paths", "records", "report", "results"),
}
ROOMS = {
    "gradcam_export": {
        "contract": set(),
        "errors": set(),
        "options": {"errors"},
        "labels": {"errors"},
        "manifest": {"contract"},
        "stock_ops": set(),
        "methods": EXPORT_LEAVES,
        "keras_model": EXPORT_LEAVES,
        "graph": {*EXPORT_LEAVES, "keras_model", "methods"},
        "module": {*EXPORT_LEAVES, "graph", "keras_model", "methods"},
        "facts": {*EXPORT_LEAVES, "graph", "keras_model", "methods", "module"},
        "savedmodel": EXPORT_LEAVES,
        # Checks and server take a path: what they find there is all that they know of an export.
        "checks": {*EXPORT_LEAVES, "savedmodel"},
        "server": {*EXPORT_LEAVES, "savedmodel"},
        "inspection": {*EXPORT_LEAVES, "graph", "keras_model", "methods"},
        # What the live model answers, for a version that is published already.
        "expectation": {*EXPORT_LEAVES, "graph", "keras_model", "methods"},
        "export": EXPORT_LEAVES | EXPORT_ROAD | {"facts"},
        "callback": {*EXPORT_LEAVES, "export"},
        # The demo calls the server and the client as commands, as a user does.
        "demo": {*EXPORT_LEAVES, "export"},
        "cli_arguments": EXPORT_LEAVES,
        "commands": {*EXPORT_LEAVES, "checks", "cli_arguments", "expectation"},
        "cli": {*EXPORT_LEAVES, "cli_arguments", "commands", "export", "inspection", "savedmodel", "server", "demo"},
        "": {*EXPORT_LEAVES, "callback", "export", "inspection", "module", "savedmodel"},
    },
    "gradcam_client": {
        "contract": set(),
        "errors": set(),
        "wire": set(),
        "options": {"errors"},
        "archives": {"errors"},
        "paths": {"archives", "errors"},
        "progress": set(),
        "in_order": set(),
        "completion": set(),
        "png": set(),
        "manifest": {"contract", "errors"},
        "images": {"archives", "errors"},
        "overlay": {"errors"},
        "visualization": {"errors", "overlay"},
        "figures": {"errors"},
        # An answer draws itself.
        "results": {"errors", "figures", "visualization"},
        "contact_sheet": {"errors", "figures", "results", "visualization"},
        "outcomes": {"errors", "images", "results"},
        "codec": CLIENT_LEAVES,
        "steps": CLIENT_LEAVES,
        "rpc": {*CLIENT_LEAVES, "steps"},
        "answers": {*CLIENT_LEAVES, "codec", "results"},
        "choices": CLIENT_LEAVES,
        "core": {*CLIENT_LEAVES, "answers", "choices", "codec", "results", "steps"},
        "many": {*CLIENT_LEAVES, "choices", "core", "images", "outcomes", "results", "steps"},
        "waiting": {*CLIENT_LEAVES, "core", "images", "many", "outcomes", "rpc", "steps"},
        "connected": CLIENT_LEAVES,
        "client": CLIENT_ROAD,
        "aio": CLIENT_ROAD,
        "beam": {*CLIENT_LEAVES, "choices", "client", "images", "many", "outcomes"},
        "report_layers": {"overlay", "results", "visualization"},
        "report": {*CLIENT_LEAVES, "report_layers", "results", "visualization"},
        "records": {"archives", "errors", "results"},
        "drawing": {"errors", "paths", "png", "results", "visualization"},
        "cli_arguments": {*CLIENT_LEAVES, "completion", "overlay", "visualization"},
        "explaining": CLIENT_COMMANDS | {"cli_arguments"},
        "cli": CLIENT_COMMANDS | {"cli_arguments", "completion", "core", "explaining", "progress", "visualization"},
        "": {*CLIENT_LEAVES, "aio", "client", "contact_sheet", "outcomes", "results", "visualization"},
    },
}
"""Rooms (the modules and folders of a package; "" is its own `__init__`), and those that each may import."""

LIBRARIES = {
    "gradcam_export": {
        **{leaf: set() for leaf in EXPORT_LEAVES},
        "methods": {"tensorflow"},
        "": set(),
        "cli": set(),
        "cli_arguments": set(),
    },
    "gradcam_client": {
        **{room: set() for room in ("contract", "errors", "options", "manifest", "paths", "progress", "in_order")},
        **{
            room: set()
            for room in ("archives", "completion", "steps", "outcomes", "many", "waiting", "connected", "client")
        },
        **{room: set() for room in ("aio", "records", "explaining", "cli_arguments", "cli", "")},
        "wire": {"google"},
        "rpc": {"grpc"},
        "codec": {"numpy"},
        "choices": {"numpy"},
        "report_layers": {"numpy"},
        "beam": {"apache_beam"},
        **{room: {"PIL"} for room in ("figures", "contact_sheet", "drawing", "report")},
        "images": {"numpy", "PIL", "pillow_heif"},
        **{room: {"numpy", "PIL"} for room in ("overlay", "visualization", "results", "answers", "core", "png")},
    },
}
"""Libraries that these rooms may import beside Python's own."""

INPUT_OUTPUT = {"asyncio", "io", "os", "pathlib", "socket", "subprocess", "threading", "time"}
TENSORFLOW = {"tensorflow", "tensorflow_serving", "keras"}
PACKAGES = pytest.mark.parametrize("package", SOURCES)


@functools.cache
def modules(package: str) -> dict[str, ast.Module]:
    """Return the package's syntax trees by their names under it: `graph.fold`, and `""` for its own `__init__`."""
    found = {}
    for path in SOURCES[package].rglob("*.py"):
        parts = path.relative_to(SOURCES[package]).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = ast.parse(path.read_text())
    return found


@functools.cache
def imports(package: str, module: str) -> frozenset[str]:
    """Return all that a module imports, by full names, wherever in the file, also for types alone."""
    found = set()
    for node in ast.walk(modules(package)[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names = {f"{base}.{alias.name}" for alias in node.names}
            inner = {f"{package}.{name}".rstrip(".") for name in modules(package)}
            found |= (names & inner) or ({base} & inner) or names
    return frozenset(found)


def roots(names) -> set[str]:
    return {name.split(".")[0] for name in names}


def ours(package: str, module: str) -> set[str]:
    """Return the package's own modules that a module imports, by their names under the package."""
    return {name.partition(".")[2] for name in imports(package, module) if name.split(".")[0] == package} - {module}


def room_of(module: str) -> str:
    return module.split(".")[0]


def offences(package: str, rule) -> dict[str, set[str]]:
    """Return what `rule(module)` finds wrong, for the modules where it finds something."""
    return {module: found for module in modules(package) if (found := rule(module))}


@PACKAGES
def test_every_room_has_its_place(package):
    assert {room_of(module) for module in modules(package)} == set(ROOMS[package])


@PACKAGES
def test_a_room_imports_only_the_rooms_below_it(package):
    def too_high(module):
        room = room_of(module)
        return roots(ours(package, module)) - {room} - ROOMS[package][room]

    assert offences(package, too_high) == {}


@PACKAGES
def test_rooms_and_modules_lie_in_an_order(package):
    for dependencies in (ROOMS[package], {module: ours(package, module) for module in modules(package)}):
        tuple(graphlib.TopologicalSorter(dependencies).static_order())


@PACKAGES
def test_a_room_uses_only_its_libraries(package):
    foreign = {"gradcam_export": {"gradcam_client"}, "gradcam_client": {"gradcam_export", *TENSORFLOW}}[package]

    def unfit(module):
        libraries = roots(imports(package, module)) - set(sys.stdlib_module_names) - {package}
        allowed = LIBRARIES[package].get(room_of(module), libraries)
        return libraries - (allowed - foreign - {"", "tests", "client", "export"})

    assert offences(package, unfit) == {}


@pytest.mark.parametrize("module", ["core", "codec", "answers", "steps", "choices"])
def test_what_does_no_input_or_output_has_no_means_to(module):
    assert not roots(imports("gradcam_client", module)) & INPUT_OUTPUT


def test_the_server_knows_one_room_of_a_version():
    found = {
        name
        for module in modules("gradcam_export")
        if room_of(module) == "server"
        for name in ours("gradcam_export", module)
    }
    assert {name for name in found if room_of(name) == "savedmodel"} == {"savedmodel.session"}


def test_the_rewrites_of_a_graph_know_nothing_of_how_it_came_about():
    rewrites = [module for module in modules("gradcam_export") if module.startswith("graph.folding")]
    found = {name for module in rewrites for name in ours("gradcam_export", module)}
    assert found <= EXPORT_LEAVES | set(rewrites)


@PACKAGES
def test_tensorflows_privates_are_touched_in_one_module(package):
    private = re.compile(r"(tensorflow|tf)\.python\b|keras\.src\b")

    def touched(module):
        named = {ast.unparse(node) for node in ast.walk(modules(package)[module]) if isinstance(node, ast.Attribute)}
        return {name for name in named | imports(package, module) if private.match(name)}

    expected = {"gradcam_export": {"graph.folding.grappler"}, "gradcam_client": set()}[package]
    assert set(offences(package, touched)) == expected


@PACKAGES
def test_nothing_but_the_command_prints(package):
    def said(module):
        named = (node for node in ast.walk(modules(package)[module]) if isinstance(node, ast.Name | ast.Attribute))
        return {ast.unparse(node) for node in named} & {"print", "tf.print", "sys.stdout", "sys.stderr"}

    assert set(offences(package, said)) == {"cli"}


@PACKAGES
def test_files_and_functions_do_one_job(package):
    for path in SOURCES[package].rglob("*.py"):
        assert len(path.read_text().splitlines()) <= LONGEST_FILE, path.name

    def too_long(module):
        functions = (
            node
            for node in ast.walk(modules(package)[module])
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        )
        return {function.name for function in functions if length(function) > LONGEST_FUNCTION}

    assert offences(package, too_long) == {}


def length(function) -> int:
    """Lines of a function, its docstring left out."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return function.end_lineno - function.lineno + 1 - (body[0].lineno - function.body[0].lineno if body else 0)


BANNED = {
    "export/gradcam_export/x.py": {"gradcam_client", "client", "export", "tests"},
    "client/gradcam_client/x.py": {"gradcam_export", "client", "export", "tests", *TENSORFLOW},
}


@pytest.mark.parametrize("file", BANNED)
def test_ruff_refuses_what_is_banned(file):
    everything = sorted(set().union(*BANNED.values()))
    said = ruff(file, "".join(f"import {module}\n" for module in everything))
    assert set(re.findall(r"TID251 `(\w+)` is banned", said)) == BANNED[file]


def test_ruff_refuses_printing_outside_the_commands():
    assert "T201" in ruff("export/gradcam_export/x.py", 'print("x")\n')
    assert "T201" not in ruff("export/gradcam_export/cli.py", 'print("x")\n')


def ruff(file: str, source: str) -> str:
    """Return what ruff says of a file, by the configuration that holds where it would lie."""
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise"]
    command += ["--stdin-filename", file, "-"]
    done = subprocess.run(command, input=source, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout
