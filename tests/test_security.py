"""What the project's own source never does, told from its syntax."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path for folder in ("idm_ray", "pipelines", "cluster") for path in (ROOT / folder).rglob("*.py")
)
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
MANIFESTS = sorted((ROOT / "cluster").rglob("*.yaml"))

# Tune keeps the error of a trial as a pickle, in a file that the driver has just written itself.
ALLOWED = {("idm_ray/runtime/tuning.py", "unpickles: cloudpickle.load")}

ANYWHERE = ("0.0.0.0", "::")
UNPICKLERS = {"load", "loads", "Unpickler"}
PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "shelve"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
STARTERS = {"run", "Popen", "call", "check_call", "check_output"}
SAFE_LOADERS = {"SafeLoader", "CSafeLoader"}


def dotted(node):
    """The name that is called, with its dots; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def is_true(call, keyword):
    """Whether a call has this keyword, as True or as something that is not known here."""
    found = [k.value for k in call.keywords if k.arg == keyword]
    return bool(found) and getattr(found[0], "value", True) is not False


def is_text_put_together(node):
    """An f-string, a sum or a formatted text."""
    return isinstance(node, ast.JoinedStr | ast.BinOp) or (
        isinstance(node, ast.Call) and dotted(node.func).endswith((".format", ".join"))
    )


def faults_of_call(call):
    name = dotted(call.func)
    module, _, function = name.rpartition(".")
    if module.split(".")[-1] in PICKLES and function in UNPICKLERS:
        yield f"unpickles: {name}"
    if is_true(call, "allow_pickle"):
        yield f"allows pickle: {name}"
    if name == "torch.load" and not is_true(call, "weights_only"):
        yield "torch.load without weights_only"
    if module == "yaml" and function in ("load", "load_all", "unsafe_load", "full_load"):
        loaders = [
            dotted(a).rpartition(".")[2] for a in [*call.args, *[k.value for k in call.keywords]]
        ]
        if not SAFE_LOADERS.intersection(loaders):
            yield f"unsafe YAML: {name}"
    if name in ("eval", "exec") or name in SHELLS or is_true(call, "shell"):
        yield f"runs text: {name}"
    if (
        module == "subprocess"
        and function in STARTERS
        and any(map(is_text_put_together, call.args[:1]))
    ):
        yield f"a command out of text: {name}"
    if function in ("bind", "listen", "create_server", "TCPServer", "HTTPServer", "serve_forever"):
        yield f"listens: {name}"


def faults(source):
    """What a source does that it must not, in words."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            found.update(faults_of_call(node))
            found.update("asks Ray to listen" for k in node.keywords if k.arg == "dashboard_host")
        if isinstance(node, ast.Constant) and node.value in ANYWHERE:
            found.add(f"names every address: {node.value}")
        if isinstance(node, ast.Constant) and "--dashboard-host" in str(node.value):
            found.add("asks Ray to listen")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_does_what_it_must_not(path):
    name = str(path.relative_to(ROOT))
    found = {(name, fault) for fault in faults(path.read_text())}
    assert found <= ALLOWED


def test_what_is_allowed_is_there():
    for name, fault in ALLOWED:
        assert fault in faults((ROOT / name).read_text())


@pytest.mark.parametrize(
    "bad",
    [
        "import pickle; pickle.load(f)",
        "import cloudpickle; cloudpickle.loads(b)",
        "ray.cloudpickle.loads(b)",
        "pickle.Unpickler(f)",
        "joblib.load(f)",
        "np.load(f, allow_pickle=True)",
        "np.load(f, allow_pickle=maybe)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "yaml.load(f)",
        "yaml.load(f, yaml.Loader)",
        "yaml.load(f, Loader=yaml.UnsafeLoader)",
        "yaml.unsafe_load(f)",
        "yaml.full_load(f)",
        "eval(text)",
        "exec(text)",
        "os.system('ls')",
        "os.popen('ls')",
        "subprocess.run('ls', shell=True)",
        "subprocess.run(f'ls {folder}')",
        "subprocess.run('ls ' + folder)",
        "subprocess.Popen(' '.join(words))",
        "sock.bind(('', 80))",
        "asyncio.create_server(serve, port=80)",
        "http.server.HTTPServer(('localhost', 1), Handler)",
        "host = '0.0.0.0'",
        "host = '::'",
        "ray.init(dashboard_host='127.0.0.1')",
        "words = ['ray', 'start', '--dashboard-host=0.0.0.0']",
    ],
)
def test_every_fault_is_noticed(bad):
    assert faults(bad)


@pytest.mark.parametrize(
    "good",
    [
        "np.load(f, allow_pickle=False)",
        "torch.load(f, weights_only=True)",
        "yaml.safe_load(f)",
        "yaml.load(f, Loader=yaml.CSafeLoader)",
        "subprocess.run([git, '-C', folder], check=True)",
        "json.load(f)",
        "self.load(f)",
    ],
)
def test_what_is_harmless_is_no_fault(good):
    assert faults(good) == set()


@pytest.mark.parametrize("path", [*PAGES, *MANIFESTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_and_no_manifest_asks_ray_to_listen_to_everybody(path):
    text = path.read_text()
    commands = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL))
    told = commands if path.suffix == ".md" else re.sub(r"#.*", "", text)
    assert "dashboard-host" not in told
    assert "0.0.0.0" not in told
