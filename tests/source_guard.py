"""What no source of this project may do, found in syntax trees and texts."""

import ast
import re
from collections.abc import Iterator

# What they read may name code that is run.
_LOADERS = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"),
}
_RUNS_TEXT = {
    *("eval", "exec", "os.system", "os.popen", "subprocess.getoutput"),
    *("subprocess.getstatusoutput", "asyncio.create_subprocess_shell", "pty.spawn"),
}
_UNPICKLES = {
    "torch.save",
    "torch.jit.load",
    "torch.package.PackageImporter",
    "pandas.read_pickle",
    "ray.tune.Tuner.restore",
}
_UNSAFE_YAML = {"load", "load_all", "full_load", "full_load_all", "unsafe_load", "unsafe_load_all"}
_SAFE_LOADERS = {"SafeLoader", "CSafeLoader"}
_EVERY_ADDRESS = {"0.0.0.0", "::", "[::]", "0", "::0"}
_LISTENS = re.compile(r"(^|\.)(bind|create_server|start_server|listen|run|serve)$|Server$")
_ASKS_RAY = re.compile(r"dashboard[-_]host")
_OPENS = re.compile(
    r"dashboard[-_]host|0\.0\.0\.0|\[::\]|--(?:host|bind)(?:[= ]::|=?\s*(?:''|\"\"))"
)


def breaches_of_text(text: str) -> list[str]:
    """Where a script, a manifest or a command would have something listen on every address."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [line.strip() for line in lines if _OPENS.search(line)]


def breaches(source: str) -> list[str]:
    """Each expression of a Python source that does what no source may."""
    tree = ast.parse(source)
    names = _imported(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = {part for name in _modules(node) for part in name.split(".")}
            found += [ast.unparse(node)] * bool(modules & _LOADERS)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            opens = node.value in _EVERY_ADDRESS - {"0"} or _ASKS_RAY.search(node.value)
            found += [repr(node.value)] * bool(opens)
        elif isinstance(node, ast.Call):
            found += [ast.unparse(node)] * any(_wrong(node, names))
    return found


def _wrong(call: ast.Call, names: dict[str, str]) -> Iterator[bool]:
    written = ast.unparse(call.func)
    root, _, rest = written.partition(".")
    name = names.get(root, root) + (f".{rest}" if rest else "")
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    last = name.rpartition(".")[2]
    yield name in _RUNS_TEXT | _UNPICKLES
    yield not _is(keywords.get("allow_pickle"), False)
    yield not _is(keywords.get("shell"), False)
    yield name == "torch.load" and not _is(keywords.get("weights_only", ast.Constant(None)), True)
    if name.startswith("yaml.") and last in _UNSAFE_YAML:
        loader = keywords.get("Loader", call.args[1] if len(call.args) > 1 else ast.Constant(None))
        yield ast.unparse(loader).rpartition(".")[2] not in _SAFE_LOADERS
    if name.startswith(("subprocess.", "os.exec", "os.spawn", "os.posix_spawn")):
        command = call.args[0] if call.args else keywords.get("args")
        yield isinstance(command, ast.Constant | ast.JoinedStr | ast.BinOp) or (
            isinstance(command, ast.Call)
            and ast.unparse(command.func).endswith((".format", ".join"))
        )
    yield "dashboard_host" in keywords
    yield any(
        _is_every_address(keywords[word])
        for word in ("host", "hostname", "bind")
        if word in keywords
    )
    if _LISTENS.search(name):
        hosts = [
            arg.elts[0] if isinstance(arg, ast.Tuple) and arg.elts else arg for arg in call.args
        ]
        yield any(map(_is_every_address, hosts))


def _is(value: ast.expr | None, wanted: bool) -> bool:
    """Whether a keyword is left out, or says so in as many words."""
    return value is None or (isinstance(value, ast.Constant) and value.value is wanted)


def _is_every_address(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value in _EVERY_ADDRESS | {"", None}


def _modules(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [f"{node.module}.{alias.name}" for alias in node.names]


def _imported(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return names
