"""Makes mutants of `supervision/`: small changes of its source, all that the rules below give, one at a time.

Works on syntax trees; imports nothing of what it changes. Words and settings (texts, the defaults of policies) are left
alone: they are not decisions.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

SUPERVISION = Path(__file__).parent.parent / "src" / "botctl" / "supervision"

WORDS = frozenset({"explain.py", "reference.py", "__init__.py"})
"""Files that decide nothing."""

SETTINGS = frozenset({"Policy", "Pace", "BreakerPolicy"})
"""Classes whose defaults are settings."""

LONGEST = 80
"""Characters of a piece of source in a name."""

_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_CALCULATED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
}


@dataclass(frozen=True)
class Mutant:
    """`number` is its place in the file; `name` says what is changed, and stays the same when lines move."""

    file: str
    number: int
    line: int
    name: str


@dataclass(frozen=True)
class _Change:
    line: int
    what: str
    do: Callable[[], None]


class _Finder:
    """Walks a tree and notes every change that could be made to it."""

    def __init__(self, tree: ast.Module) -> None:
        self.found: list[_Change] = []
        self._where: list[str] = []
        for statement in tree.body:
            self._visit(statement, tree, "body")

    def _note(self, node: ast.AST, what: str, do: Callable[[], None]) -> None:
        place = ".".join(self._where) or "module"
        self.found.append(_Change(getattr(node, "lineno", 0), f"{place}: {what}", do))

    def _visit(self, node: ast.AST, parent: ast.AST, slot: str, place: int | None = None) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.arg):
            return
        named = isinstance(node, ast.FunctionDef | ast.ClassDef)
        if named:
            self._where.append(node.name)  # type: ignore[attr-defined]
        self._changes(node, parent, slot, place)
        for name, value in ast.iter_fields(node):
            if self._is_left_alone(node, name):
                continue
            if isinstance(value, list):
                for index, one in enumerate(value):
                    if isinstance(one, ast.AST):
                        self._visit(one, node, name, index)
            elif isinstance(value, ast.AST):
                self._visit(value, node, name)
        if named:
            self._where.pop()

    def _is_left_alone(self, node: ast.AST, field: str) -> bool:
        if field in ("annotation", "returns", "decorator_list", "bases"):
            return True
        settings = bool(self._where) and self._where[-1] in SETTINGS
        return isinstance(node, ast.AnnAssign) and settings and field == "value"

    # --- the rules -------------------------------------------------------------------------------------------------

    def _changes(self, node: ast.AST, parent: ast.AST, slot: str, place: int | None) -> None:
        match node:
            case ast.Compare(ops=[op]):
                for other in _COMPARED.get(type(op), ()):
                    self._operator(node, other())
            case ast.BoolOp():
                other_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
                self._attribute(node, "op", other_op)
            case ast.UnaryOp(op=ast.Not()):
                self._replace(node, node.operand, parent, slot, place)
            case ast.BinOp() if type(node.op) in _CALCULATED and not _is_type(node):
                self._attribute(node, "op", _CALCULATED[type(node.op)]())
            case ast.Constant(value=bool()):
                self._attribute(node, "value", not node.value)
            case ast.Constant(value=int() | float()):
                self._attribute(node, "value", node.value + 1)  # type: ignore[operator]
            case ast.If() | ast.IfExp() | ast.While():
                for value in (True, False):
                    if not (isinstance(node, ast.While) and value):
                        self._attribute(node, "test", ast.Constant(value))
            case ast.Expr(value=ast.Call()):
                self._replace(node, ast.Pass(), parent, slot, place)
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript() | ast.Tuple()]) if len(self._where) > 1:
                self._replace(node, ast.Pass(), parent, slot, place)
            case ast.AugAssign() | ast.Delete():
                self._replace(node, ast.Pass(), parent, slot, place)
            case ast.Call():
                self._call(node)
            case ast.Dict():
                self._dict(node)
            case ast.Set() if not self._where:
                for index, element in enumerate(node.elts):
                    self._drop(node, node.elts, index, f"without {ast.unparse(element)}")

    def _call(self, node: ast.Call) -> None:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("but", "enter", "Treatment"):
            for index, keyword in enumerate(node.keywords):
                if keyword.arg is not None:
                    self._drop(node, node.keywords, index, f"without {keyword.arg}=")
        if called == "Step" and len(node.args) > 1 and isinstance(node.args[1], ast.Tuple | ast.IfExp):
            for actions in ast.walk(node.args[1]):
                if isinstance(actions, ast.Tuple):
                    for index, element in enumerate(actions.elts):
                        self._drop(node, actions.elts, index, f"does not {ast.unparse(element)}")

    def _dict(self, node: ast.Dict) -> None:
        """A cell of the table does nothing."""
        if self._where:
            return
        for index, (key, value) in enumerate(zip(node.keys, node.values, strict=True)):
            cell = isinstance(value, ast.Name | ast.Attribute) and isinstance(key, ast.Name)
            if cell and key is not None and ast.unparse(value) != "ignore":
                what = f"{ast.unparse(key)}: {ast.unparse(value)} -> ignore"
                self._note(value, what, partial(node.values.__setitem__, index, ast.Name("ignore", ast.Load())))

    # --- how they are made -----------------------------------------------------------------------------------------

    def _operator(self, node: ast.Compare, other: ast.cmpop) -> None:
        before, kept = ast.unparse(node), node.ops
        node.ops = [other]
        after = ast.unparse(node)
        node.ops = kept
        self._note(node, f"{before} -> {after}", lambda: setattr(node, "ops", [other]))

    def _attribute(self, node: ast.AST, name: str, value: object) -> None:
        before, kept = _short(node), getattr(node, name)
        setattr(node, name, value)
        after = _short(node)
        setattr(node, name, kept)
        self._note(node, f"{before} -> {after}", lambda: setattr(node, name, value))

    def _replace(self, node: ast.AST, other: ast.AST, parent: ast.AST, slot: str, place: int | None) -> None:
        def do() -> None:
            if place is None:
                setattr(parent, slot, other)
            else:
                getattr(parent, slot)[place] = other

        self._note(node, f"{_short(node)} -> {_short(other)}", do)

    def _drop(self, node: ast.AST, elements: list[ast.expr] | list[ast.keyword], index: int, what: str) -> None:
        self._note(node, f"{_short(node)} {what}", lambda: elements.__delitem__(index))


def _is_type(node: ast.BinOp) -> bool:
    """`A | B` of types or of tables, not of numbers."""
    return isinstance(node.op, ast.BitOr) and not isinstance(node.right, ast.Call)


def _short(node: ast.AST) -> str:
    if isinstance(node, ast.If | ast.While):
        return f"{'if' if isinstance(node, ast.If) else 'while'} {ast.unparse(node.test)}"
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def files() -> Iterator[Path]:
    """All files that decide something."""
    for path in sorted(SUPERVISION.rglob("*.py")):
        if path.name not in WORDS:
            yield path


def mutants(path: Path) -> list[Mutant]:
    """All mutants of a file."""
    finder = _Finder(ast.parse(path.read_text("utf-8")))
    name = path.relative_to(SUPERVISION).as_posix()
    seen: dict[str, int] = {}
    found = []
    for number, change in enumerate(finder.found):
        title = f"{name} {change.what}"
        seen[title] = seen.get(title, 0) + 1
        if seen[title] > 1:
            title += f" ({seen[title]})"
        found.append(Mutant(name, number, change.line, title))
    return found


def mutated(path: Path, number: int) -> ast.Module:
    """The tree of a file with one change."""
    tree = ast.parse(path.read_text("utf-8"))
    _Finder(tree).found[number].do()
    return ast.fix_missing_locations(tree)


def module_name(path: Path) -> str:
    """The module that a file is."""
    parts = path.relative_to(SUPERVISION.parent.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
