"""
Writes the sync clients, which are the async ones on an event loop of their own: one method for each, with the same
parameters and documentation.

    python scripts/generate_sync.py [--check]

With --check nothing is written; it fails where what is committed is not what would be written.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CLIENT = ROOT / "src/holdfast/client"
FOLDER = CLIENT / "workflow"
TARGET = FOLDER / "sync.py"
# The clients that are one class each: folder, async name, sync name.
API_CLIENTS = (
    ("runtime", "AsyncRunsClient", "RunsClient"),
    ("engine", "AsyncEngineClient", "EngineClient"),
    ("skills", "AsyncSkillsClient", "SkillsClient"),
)

# Which class of which module becomes which.
CLASSES = {
    ("run", "WorkflowRun"): "SyncWorkflowRun",
    ("namespaces", "Tools"): "SyncTools",
    ("namespaces", "ExecutionFeedback"): "SyncExecutionFeedback",
    ("namespaces", "ExecutionRecords"): "SyncExecutionRecords",
    ("namespaces", "Webhooks"): "SyncWebhooks",
    ("client", "WorkflowClient"): "SyncWorkflowClient",
}
SYNC_NAMES = {name: sync for (_, name), sync in CLASSES.items()}
FIELDS = {"SyncWorkflowRun": ("task_id: int",)}

HEAD = '''"""
The sync client of the Workflow API: `WorkflowClient` on an event loop of its own, in a thread.

Generated from the async client by scripts/generate_sync.py; do not edit. Handlers that are `async def` run on that loop,
plain ones in threads. A sync client may be used by several threads at once.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from holdfast.client.portal import Portal
from holdfast.client.records import Record
from holdfast.client.workflow.client import WorkflowClient
from holdfast.client.workflow.errors import WorkflowTimeout
from holdfast.client.workflow.inputs import Image, Upload
from holdfast.client.workflow.ledger import Ledger
from holdfast.client.workflow.namespaces import ExecutionFeedback, ExecutionRecords, Source, Tools, Webhooks
from holdfast.client.workflow.records import AgentRuns, RunResult, StartedRun, TaskStatus, ToolResponses
from holdfast.client.workflow.run import WorkflowRun
from holdfast.client.workflow.tools import OnToolError

if TYPE_CHECKING:
    import httpx2
'''


def main() -> int:
    texts = {TARGET: formatted(generated(), TARGET)}
    for folder, name, sync in API_CLIENTS:
        target = CLIENT / folder / "sync.py"
        texts[target] = formatted(api_client_text(folder, name, sync), target)
    if "--check" not in sys.argv[1:]:
        for target, text in texts.items():
            target.write_text(text)
        return 0
    stale = [target for target, text in texts.items() if not target.exists() or target.read_text() != text]
    for target in stale:
        sys.stderr.write(f"{target.relative_to(ROOT)} is not what scripts/generate_sync.py writes: run `make fix`\n")
    return 1 if stale else 0


def api_client_text(folder: str, name: str, sync: str) -> str:
    """The module of a client that is one class. It has the imports of the async one; the linter takes what is too much."""
    tree = ast.parse((CLIENT / folder / "client.py").read_text())
    imports = [ast.unparse(node) for node in tree.body if isinstance(node, ast.ImportFrom | ast.Import)]
    imports += [API_IMPORTS, *(ast.unparse(node) for node in tree.body if isinstance(node, ast.If))]
    aliases = [node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript)]
    names = [ast.unparse(node.targets[0]) for node in aliases]
    found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    head = f'"""\nThe sync client of `{name}`: that one on an event loop of its own, in a thread.\n\n{API_HEAD}\n"""'
    body = [f'    """\n{indented(sync_words(ast.get_docstring(found) or ""), 4)}\n    """']
    for item in found.body:
        if isinstance(item, ast.AsyncFunctionDef | ast.FunctionDef):
            if item.name == "__init__":
                body.append(api_init_text(item.args, ast.get_docstring(item) or "", name))
            elif not item.name.startswith("_"):
                body.append(api_method_text(item))
    imports.insert(1, f"from holdfast.client.{folder}.client import {', '.join([name, *names])}")
    parts = [head, "\n".join(imports), f"class {sync}:\n" + "\n\n".join([*body, API_CONTEXT])]
    return "\n\n".join(parts).replace("-> SYNC", f"-> {sync}") + "\n"


def api_init_text(args: ast.arguments, doc: str, name: str) -> str:
    lines = [
        f"    def __init__({ast.unparse(args)}) -> None:",
        f'        """\n{indented(doc, 8)}\n        """',
        "        self._portal = Portal()",
        f"        self._async = {name}({arguments_text(args)})",
    ]
    return "\n".join(lines)


def api_method_text(node: ast.AsyncFunctionDef | ast.FunctionDef) -> str:
    assert node.returns is not None, f"{node.name} has no type"
    returns = ast.unparse(node.returns)
    inner = f"self._async.{node.name}({arguments_text(node.args)})"
    if isinstance(node, ast.AsyncFunctionDef):
        work = inner.removesuffix("()") if inner.endswith("()") else f"lambda: {inner}"
        inner = f"self._portal.call({work})"
    else:
        assert returns.startswith("AsyncEventStream["), f"{node.name} is neither async nor a stream"
        returns = returns.removeprefix("Async")
        inner = f"EventStream(self._portal, self._portal.make(lambda: {inner}))"
    doc = sync_words(ast.get_docstring(node) or "")
    shown = f'        """\n{indented(doc, 8)}\n        """' if "\n" in doc else f'        """{doc}"""'
    return f"    def {node.name}({ast.unparse(node.args)}) -> {returns}:\n{shown}\n        return {inner}"


def sync_words(doc: str) -> str:
    return doc.replace("An async client.", "A sync client.").replace("`async with`", "`with`")


def generated() -> str:
    parts = [HEAD]
    for (module, name), sync in CLASSES.items():
        tree = ast.parse((FOLDER / f"{module}.py").read_text())
        found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
        parts.append(class_text(found, sync))
    return "\n\n".join([*parts, RESULT]) + "\n"


def class_text(node: ast.ClassDef, sync: str) -> str:
    doc = ast.get_docstring(node) or ""
    body = [
        f'    """\n{indented(doc.replace("An async client.", "A sync client."), 4)}\n    """',
        init_text(node, sync),
    ]
    for item in node.body:
        if isinstance(item, ast.AsyncFunctionDef | ast.FunctionDef) and not item.name.startswith("_"):
            body.append(method_text(item))
        elif isinstance(item, ast.Assign) and isinstance(item.value, ast.Name):
            body.append(f"    {ast.unparse(item)}")
    if sync == "SyncWorkflowClient":
        body.append(CONTEXT)
    return f"class {sync}:\n" + "\n\n".join(body)


def init_text(node: ast.ClassDef, sync: str) -> str:
    if sync == "SyncWorkflowClient":
        given = next(item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__")
        doc = indented(ast.get_docstring(given) or "", 8)
        lines = [
            f"    def __init__({ast.unparse(given.args)}) -> None:",
            f'        """\n{doc}\n        """',
            "        self._portal = Portal()",
            f"        self._async = WorkflowClient({arguments_text(given.args)})",
            "        self.tools = SyncTools(self._portal, self._async.tools)",
            "        self.execution_feedback = SyncExecutionFeedback(self._portal, self._async.execution_feedback)",
            "        self.agent_feedback = self.execution_feedback",
            "        self.agent_execution_records = SyncExecutionRecords(",
            "            self._portal, self._async.agent_execution_records",
            "        )",
            "        self.webhooks = SyncWebhooks(self._portal, self._async.webhooks)",
        ]
        return "\n".join(lines)
    lines = [
        f"    def __init__(self, portal: Portal, wrapped: {node.name}) -> None:",
        "        self._portal = portal",
        "        self._async = wrapped",
    ]
    for field in FIELDS.get(sync, ()):
        name, _, kind = field.partition(": ")
        lines.append(f"        self.{name}: {kind} = wrapped.{name}")
    return "\n".join(lines)


def method_text(node: ast.AsyncFunctionDef | ast.FunctionDef) -> str:
    name = "close" if node.name == "aclose" else node.name
    returns = "None" if node.returns is None else ast.unparse(node.returns)
    sync = SYNC_NAMES.get(returns)
    doc = (ast.get_docstring(node) or "").replace("Every later await", "Every later call")
    is_property = any(isinstance(item, ast.Name) and item.id == "property" for item in node.decorator_list)
    inner = f"self._async.{node.name}" if is_property else f"self._async.{node.name}({arguments_text(node.args)})"
    if isinstance(node, ast.AsyncFunctionDef):
        work = f"self._async.{node.name}" if inner.endswith("()") else f"lambda: {inner}"
        inner = f"_result(self._portal, {work})" if returns == "RunResult" else f"self._portal.call({work})"
    elif sync is not None:
        inner = f"self._portal.make(lambda: {inner})"
    if sync is not None:
        inner = f"{sync}(self._portal, {inner})"
    lines = ["    @property"] if is_property else []
    lines.append(f"    def {name}({ast.unparse(node.args)}) -> {sync or returns}:")
    if doc:
        lines.append(f'        """\n{indented(doc, 8)}\n        """' if "\n" in doc else f'        """{doc}"""')
    if name == "close":
        lines += [f"        {inner}", "        self._portal.close()"]
    else:
        lines.append(f"        {inner}" if returns == "None" else f"        return {inner}")
    return "\n".join(lines)


def arguments_text(args: ast.arguments) -> str:
    """The parameters passed on, as they were given."""
    plain = [item.arg for item in args.args if item.arg != "self"]
    named = [f"{item.arg}={item.arg}" for item in args.kwonlyargs]
    more = [f"**{args.kwarg.arg}"] if args.kwarg is not None else []
    return ", ".join([*plain, *named, *more])


def indented(text: str, width: int) -> str:
    return "\n".join(f"{' ' * width}{line}" if line else "" for line in text.splitlines())


RESULT = '''def _result(portal: Portal, work: Callable[[], Coroutine[Any, Any, RunResult]]) -> RunResult:
    """What a run comes to; the handle in a timeout's error is a sync one too."""
    try:
        return portal.call(work)
    except WorkflowTimeout as exc:
        exc.run = SyncWorkflowRun(portal, exc.run)
        raise'''

CONTEXT = """    def __enter__(self) -> SyncWorkflowClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()"""


API_HEAD = """Generated from the async client by scripts/generate_sync.py; do not edit. Callbacks are called on the thread of that loop,
and must not call the client. A sync client may be used by several threads at once."""

API_IMPORTS = """from types import TracebackType
from holdfast.client.portal import Portal
from holdfast.client.streams import EventStream"""

API_CONTEXT = """    def set_key(self, key: str | None) -> None:
        \"""
        The key of all further requests; None sends none.

        Raises:
            ValueError: it is none, say with a line break behind it. The text does not show it.
        \"""
        self._async.set_key(key)

    def close(self) -> None:
        \"""Close the connections, and the event loop. Runs go on.\"""
        self._portal.call(self._async.aclose)
        self._portal.close()

    def __enter__(self) -> SYNC:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()"""


def formatted(text: str, target: Path) -> str:
    """As the formatter writes it, with sorted imports and none that is not used."""
    for command in (["check", "--quiet", "--fix-only", "--select", "F401,I"], ["format"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(target), "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    return text


if __name__ == "__main__":
    sys.exit(main())
