#!/usr/bin/env python3
"""Check the Grafana dashboards of this directory.

Two sets of rules are applied to every ``*.json`` file:

* the rules of dashboard-linter that concern Prometheus dashboards, under
  their original names, so that the ``.lint`` file serves both programs;
* rules of this project: unique ids, no overlapping panels, provisioning
  without import inputs, variables used = variables defined, and so on.

Nothing but the Python 3 standard library is needed.

usage: check.py [-v] [DIRECTORY]

Every violation is printed with its dashboard and panel. The last line is
``N passed, M failed``; the exit status is 1 if something failed.
"""

import argparse
import json
import re
import sys
from pathlib import Path

# --------------------------------------------------------------------------
# What the dashboards may use
# --------------------------------------------------------------------------

UID_PREFIX = "rollcall-"
TAG = "rollcall"
SCHEMA_VERSION = 39

# Names of the chained query variables, in their order.
CHAIN = ["job", "instance", "service", "check", "target"]

PANEL_TYPES = {"stat", "timeseries", "table", "state-timeline", "status-history", "heatmap", "gauge", "row"}
TRANSFORMATIONS = {"organize", "merge", "labelsToFields"}

# Unit ids of Grafana that make sense here. Add to the list what is needed.
UNITS = {
    "none", "short", "string", "percent", "percentunit",
    "s", "ms", "dtdurations", "dtdurationms", "dtdhms", "dateTimeAsIso", "dateTimeFromNow",
    "bytes", "decbytes", "Bps", "binBps", "hertz",
    "ops", "reqps", "rps", "wps", "iops", "cps", "opm", "rpm", "cpm",
    "bool", "bool_yes_no", "bool_on_off",
}

# Panel types that dashboard-linter looks at, by rule.
DATASOURCE_TYPES = {"singlestat", "graph", "table", "timeseries"}
TITLED_TYPES = {"stat", "singlestat", "graph", "table", "timeseries", "gauge"}
QUERY_TYPES = {"singlestat", "gauge", "table", "stat", "state-timeline", "timeseries"}

LINTER_RULES = {
    "template-datasource-rule", "template-job-rule", "template-instance-rule",
    "template-label-promql-rule", "template-on-time-change-reload-rule",
    "panel-datasource-rule", "panel-title-description-rule", "panel-units-rule", "panel-no-targets-rule",
    "target-promql-rule", "target-rate-interval-rule", "target-job-rule", "target-instance-rule",
    "target-counter-agg-rule", "uneditable-dashboard",
}
# Rules of dashboard-linter that do not apply to Prometheus; allowed in .lint.
OTHER_LINTER_RULES = {"target-logql-rule", "target-logql-auto-rule"}
HOUSE_RULES = {
    "json-format", "dashboard-essentials", "unique-uid", "import-inputs", "datasource-uid",
    "variables-used", "variables-defined", "variable-chain", "panel-type", "panel-id", "panel-grid",
    "panel-complete", "panel-options", "panel-targets", "health-mappings", "transformations",
    "query-range", "query-le", "links", "data-links", "annotations",
}


# --------------------------------------------------------------------------
# PromQL
# --------------------------------------------------------------------------

class PromQLError(Exception):
    pass


class Node:
    """A node of the syntax tree. ``kind`` is the PromQL value type."""

    def __init__(self, name, kind, children=(), **extra):
        self.name = name
        self.kind = kind
        self.children = list(children)
        self.__dict__.update(extra)

    def walk(self, parents=()):
        yield self, parents
        for child in self.children:
            yield from child.walk(parents + (self,))


S, V, M, T = "scalar", "instant vector", "range vector", "string"

# name: (result, required arguments, optional arguments); "..." repeats the last one.
FUNCTIONS = {
    "absent": (V, [V], []), "pi": (S, [], []), "scalar": (S, [V], []), "time": (S, [], []), "vector": (V, [S], []),
    "histogram_quantile": (V, [S, V], []), "histogram_fraction": (V, [S, S, V], []),
    "predict_linear": (V, [M, S], []), "quantile_over_time": (V, [S, M], []), "round": (V, [V], [S]),
    "clamp": (V, [V, S, S], []), "clamp_min": (V, [V, S], []), "clamp_max": (V, [V, S], []),
    "label_replace": (V, [V, T, T, T, T], []), "label_join": (V, [V, T, T], ["..."]),
}
FUNCTIONS.update({name: (V, [M], []) for name in (
    "absent_over_time avg_over_time changes count_over_time delta deriv idelta increase irate last_over_time "
    "max_over_time min_over_time present_over_time rate resets stddev_over_time stdvar_over_time sum_over_time").split()})
FUNCTIONS.update({name: (V, [V], []) for name in (
    "abs ceil exp floor ln log2 log10 sgn sort sort_desc sqrt timestamp histogram_count histogram_sum "
    "acos acosh asin asinh atan atanh cos cosh deg rad sin sinh tan tanh").split()})
FUNCTIONS.update({name: (V, [], [V]) for name in (
    "day_of_month day_of_week day_of_year days_in_month hour minute month year").split()})

# name: type of the parameter in front of the vector, if any
AGGREGATORS = dict.fromkeys("sum avg min max count group stddev stdvar".split())
AGGREGATORS.update({"topk": S, "bottomk": S, "quantile": S, "count_values": T})

PRECEDENCE = [
    {"or"}, {"and", "unless"}, {"==", "!=", "<=", "<", ">=", ">"}, {"+", "-"}, {"*", "/", "%", "atan2"},
]
SET_OPERATORS = {"or", "and", "unless"}
COMPARISONS = PRECEDENCE[2]

TOKEN = re.compile(r"""
    (?P<space>    [ \t\r\n]+ | \#[^\n]* )
  | (?P<string>   "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' | `[^`]*` )
  | (?P<variable> \$\{[A-Za-z_]\w*(?::\w+)?\} | \$[A-Za-z_]\w* )
  | (?P<duration> (?=[0-9]) (?:[0-9]+y)?(?:[0-9]+w)?(?:[0-9]+d)?(?:[0-9]+h)?(?:[0-9]+m(?!s))?(?:[0-9]+s)?(?:[0-9]+ms)? (?<=[a-z]) (?![A-Za-z0-9_.]) )
  | (?P<number>   0[xX][0-9A-Fa-f]+ | (?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)? | (?:[Nn]a[Nn]|[Ii]nf)\b )
  | (?P<word>     [A-Za-z_][A-Za-z0-9_:]* )
  | (?P<operator> =~ | !~ | != | == | <= | >= | [-+*/%^=<>(){}\[\],:@] )
""", re.X)
WORD_OPERATORS = {"or", "and", "unless", "atan2"}
KEYWORDS = WORD_OPERATORS | {"by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset"}


class Parser:
    """A recursive descent parser with the type checks of Prometheus.

    Grafana variables are accepted where they can stand for a number or a
    duration; inside of strings they are left alone.
    """

    def __init__(self, text):
        self.text = text
        self.tokens = []
        position = 0
        while position < len(text):
            match = TOKEN.match(text, position)
            if not match:
                raise PromQLError(f"unexpected character {text[position]!r} at {position}")
            if match.lastgroup != "space":
                self.tokens.append((match.lastgroup, match.group()))
            position = match.end()
        self.tokens.append(("end", "end of expression"))
        self.at = 0

    def peek(self, *texts):
        kind, text = self.tokens[self.at]
        return kind not in ("string", "end") and text in texts

    def take(self, *texts):
        if self.peek(*texts):
            self.at += 1
            return self.tokens[self.at - 1][1]
        return None

    def expect(self, *texts):
        taken = self.take(*texts)
        if taken is None:
            self.fail(" or ".join(repr(t) for t in texts))
        return taken

    def kind(self, *kinds):
        kind, text = self.tokens[self.at]
        if kind in kinds:
            self.at += 1
            return text
        return None

    def fail(self, wanted):
        raise PromQLError(f"expected {wanted}, found {self.tokens[self.at][1]!r}")

    def parse(self):
        node = self.binary(0)
        if self.tokens[self.at][0] != "end":
            self.fail("end of expression")
        return node

    def binary(self, level):
        if level == len(PRECEDENCE):
            return self.unary()
        left = self.binary(level + 1)
        while True:
            operator = self.take(*PRECEDENCE[level])
            if not operator:
                return left
            modifiers = self.modifiers()
            left = self.combine(operator, left, self.binary(level + 1), modifiers)

    def modifiers(self):
        found = {"bool": bool(self.take("bool")), "match": None, "group": None}
        if self.peek("on", "ignoring"):
            found["match"] = (self.take("on", "ignoring"), self.labels())
            side = self.take("group_left", "group_right")
            if side:
                found["group"] = (side, self.labels() if self.peek("(") else [])
        return found

    def combine(self, operator, left, right, modifiers):
        for side in (left, right):
            if side.kind not in (S, V):
                raise PromQLError(f"operator {operator!r} cannot be applied to a {side.kind}")
        both_scalar = left.kind == right.kind == S
        both_vector = left.kind == right.kind == V
        if modifiers["bool"] and operator not in COMPARISONS:
            raise PromQLError("bool is allowed with comparisons only")
        if operator in COMPARISONS and both_scalar and not modifiers["bool"]:
            raise PromQLError("comparisons between scalars must use bool")
        if operator in SET_OPERATORS and not both_vector:
            raise PromQLError(f"set operator {operator!r} needs two vectors")
        if modifiers["match"] and not both_vector:
            raise PromQLError("vector matching is allowed between vectors only")
        if modifiers["group"] and operator in SET_OPERATORS:
            raise PromQLError(f"no grouping allowed for {operator!r}")
        if modifiers["group"] and modifiers["match"][0] == "on":
            twice = set(modifiers["group"][1]) & set(modifiers["match"][1])
            if twice:
                raise PromQLError(f"label {sorted(twice)[0]!r} in both on and {modifiers['group'][0]}")
        return Node("binary", S if both_scalar else V, [left, right], operator=operator)

    def unary(self):
        if self.take("+", "-"):
            node = self.unary()
            if node.kind not in (S, V):
                raise PromQLError(f"a sign cannot be applied to a {node.kind}")
            return Node("unary", node.kind, [node])
        left = self.postfix()
        if self.take("^"):
            modifiers = self.modifiers()
            return self.combine("^", left, self.unary(), modifiers)
        return left

    def duration(self, where):
        text = self.kind("duration", "variable")
        if text is None:
            self.fail(f"a duration in {where}")
        return text

    def postfix(self):
        node = self.primary()
        while True:
            if self.take("["):
                if node.kind != V:
                    raise PromQLError(f"a range cannot be taken of a {node.kind}")
                length = self.duration("the range")
                if self.take(":"):
                    if not self.peek("]"):
                        self.duration("the subquery step")
                    node = Node("subquery", M, [node], range=length)
                elif node.name == "selector":
                    node = Node("range", M, [node], range=length)
                else:
                    raise PromQLError("a range must follow a selector; use [range:step] for expressions")
                self.expect("]")
            elif self.take("offset"):
                self.take("-")
                self.duration("the offset")
            elif self.take("@"):
                if self.take("start", "end"):
                    self.expect("(")
                    self.expect(")")
                else:
                    self.take("-")
                    if self.kind("number", "variable") is None:
                        self.fail("a timestamp")
            else:
                return node

    def primary(self):
        if self.take("("):
            inner = self.binary(0)
            self.expect(")")
            return Node("paren", inner.kind, [inner])
        if self.peek("{"):
            return self.selector("")
        text = self.kind("number")
        if text is not None:
            return Node("number", S)
        text = self.kind("string")
        if text is not None:
            return Node("string", T, value=unquote(text))
        text = self.kind("variable")
        if text is not None:
            return Node("variable", S, value=text)
        text = self.kind("word")
        if text is None or text in KEYWORDS:
            if text:
                self.at -= 1
            self.fail("an expression")
        if text in AGGREGATORS and self.peek("(", "by", "without"):
            return self.aggregation(text)
        if self.peek("("):
            return self.call(text)
        return self.selector(text)

    def labels(self):
        self.expect("(")
        names = []
        while not self.take(")"):
            name = self.kind("word")
            if name is None or ":" in name:
                self.fail("a label name")
            names.append(name)
            if not self.peek(")"):
                self.expect(",")
        return names

    def arguments(self):
        self.expect("(")
        nodes = []
        while not self.take(")"):
            nodes.append(self.binary(0))
            if not self.peek(")"):
                self.expect(",")
        return nodes

    def aggregation(self, name):
        grouped = self.take("by", "without")
        if grouped:
            self.labels()
        nodes = self.arguments()
        if not grouped and self.take("by", "without"):
            self.labels()
        wanted = ([AGGREGATORS[name]] if AGGREGATORS[name] else []) + [V]
        self.check_arguments(name, nodes, wanted, [])
        return Node("aggregation", V, nodes, operator=name)

    def call(self, name):
        if name not in FUNCTIONS:
            raise PromQLError(f"unknown function {name!r}")
        result, required, optional = FUNCTIONS[name]
        nodes = self.arguments()
        self.check_arguments(name, nodes, required, optional)
        return Node("call", result, nodes, function=name)

    @staticmethod
    def check_arguments(name, nodes, required, optional):
        wanted = list(required)
        if optional == ["..."]:
            wanted += [required[-1]] * (len(nodes) - len(required))
        else:
            wanted += optional[:max(0, len(nodes) - len(required))]
        if len(nodes) != len(wanted):
            raise PromQLError(f"{name}: wrong number of arguments ({len(nodes)})")
        for node, kind in zip(nodes, wanted):
            if node.kind != kind:
                raise PromQLError(f"{name}: expected a {kind}, found a {node.kind}")

    def selector(self, name):
        matchers = []
        if self.take("{"):
            while not self.take("}"):
                label = self.kind("word")
                if label is None or ":" in label:
                    self.fail("a label name")
                operator = self.expect("=", "!=", "=~", "!~")
                quoted = self.kind("string")
                if quoted is None:
                    self.fail("a quoted label value")
                value = unquote(quoted)
                if "~" in operator:
                    try:
                        re.compile(VARIABLE.sub("x", value))
                    except re.error as error:
                        raise PromQLError(f"bad regular expression {value!r}: {error}") from None
                matchers.append((label, operator, value))
                if not self.peek("}"):
                    self.expect(",")
        if not name and not any(value and operator in ("=", "=~") for _, operator, value in matchers):
            raise PromQLError("a selector needs a name or a matcher that does not match the empty string")
        return Node("selector", V, metric=name, matchers=matchers)


def unquote(text):
    if text[0] == "`":
        return text[1:-1]
    bad = re.search(r"\\([^abfnrtvxuU0-7\\'\"])", re.sub(r"\\\\", "", text[1:-1]))
    if bad:
        raise PromQLError(f"unknown escape sequence {bad[0]!r}")
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def parse_promql(text):
    if not text or not text.strip():
        raise PromQLError("empty expression")
    return Parser(text).parse()


def selectors(tree):
    for node, parents in tree.walk():
        if node.name == "selector":
            yield node, parents


def show(selector):
    return selector.metric + "{" + ", ".join(f'{l}{o}"{v}"' for l, o, v in selector.matchers) + "}"


# --------------------------------------------------------------------------
# The .lint file: the small part of YAML that it needs
# --------------------------------------------------------------------------

class LintFileError(Exception):
    pass


def yaml_scalar(text):
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    if text[:1] in tuple("[{&*!|>%@`\"'"):
        raise LintFileError(f"not supported here: {text!r}")
    return re.split(r"\s#", text)[0].strip()


def parse_yaml(text):
    """Block mappings, block sequences and plain or quoted one-line scalars."""
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        if "\t" in line:
            raise LintFileError(f"line {number}: tab character")
        if line.strip() and not line.lstrip().startswith("#") and line.strip() != "---":
            lines.append((number, len(line) - len(line.lstrip()), line.strip()))

    def block(at, indent):
        result = None
        while at < len(lines) and lines[at][1] >= indent:
            number, depth, content = lines[at]
            if depth != indent:
                raise LintFileError(f"line {number}: unexpected indentation")
            if content.startswith("- "):
                if not isinstance(result, (list, type(None))):
                    raise LintFileError(f"line {number}: a list item inside of a mapping")
                result = [] if result is None else result
                # Treat the rest of the line as the first line of a nested block.
                inner = depth + len(content) - len(content[2:].lstrip())
                lines[at] = (number, inner, content[2:].lstrip())
                value, at = block(at, inner)
                result.append(value)
                continue
            match = re.match(r"([A-Za-z0-9_-]+):(?:\s+(.*))?$", content)
            if not match:
                raise LintFileError(f"line {number}: expected 'key: value'")
            if not isinstance(result, (dict, type(None))):
                raise LintFileError(f"line {number}: a key inside of a list")
            result = {} if result is None else result
            key, rest = match.groups()
            if key in result:
                raise LintFileError(f"line {number}: {key!r} twice")
            at += 1
            if rest and not rest.startswith("#"):
                result[key] = yaml_scalar(rest)
            elif at < len(lines) and (lines[at][1] > indent or lines[at][1] == indent and lines[at][2].startswith("- ")):
                result[key], at = block(at, lines[at][1])
            else:
                result[key] = None
        return result, at

    if not lines:
        return {}
    value, at = block(0, lines[0][1])
    if at != len(lines):
        raise LintFileError(f"line {lines[at][0]}: unexpected indentation")
    return value


class Exclusions:
    """Exclusions and warnings, matched the way dashboard-linter does."""

    def __init__(self, path):
        self.path = path
        self.rules = {}
        self.problems = []
        self.used = set()
        if not path.exists():
            return
        try:
            self.load(parse_yaml(path.read_text(encoding="utf-8")))
        except (LintFileError, OSError, UnicodeDecodeError) as error:
            self.problems.append(str(error))

    def load(self, content):
        if not isinstance(content, dict):
            raise LintFileError("not a mapping")
        for section, rules in content.items():
            if section not in ("exclusions", "warnings"):
                self.problems.append(f"unknown section {section!r}")
                continue
            for rule, body in (rules or {}).items():
                body = body or {}
                if rule not in LINTER_RULES | OTHER_LINTER_RULES | HOUSE_RULES:
                    self.problems.append(f"unknown rule {rule!r}")
                if not body.get("reason"):
                    self.problems.append(f"{rule}: no reason given")
                for entry in body.get("entries") or []:
                    unknown = set(entry) - {"dashboard", "panel", "targetIdx", "reason"}
                    if unknown:
                        self.problems.append(f"{rule}: unknown key {sorted(unknown)[0]!r}")
                self.rules.setdefault(rule, []).append((section, body.get("entries") or []))

    def find(self, rule, dashboard, panel, index):
        """The section that covers a finding, or None."""
        found = None
        for number, (section, entries) in enumerate(self.rules.get(rule, [])):
            if not entries:
                self.used.add((rule, number, None))
                found = found or section
            for position, entry in enumerate(entries):
                if entry.get("dashboard") != dashboard:
                    continue
                if panel is not None and entry.get("panel") != panel:
                    continue
                if index is not None and str(entry.get("targetIdx", index)) != str(index):
                    continue
                self.used.add((rule, number, position))
                found = found or section
        return found

    def stale(self):
        for rule, sections in self.rules.items():
            if rule in OTHER_LINTER_RULES:
                continue
            for number, (_, entries) in enumerate(sections):
                for position, entry in enumerate(entries or [None]):
                    if (rule, number, position if entries else None) not in self.used:
                        where = f"{entry.get('dashboard')} / {entry.get('panel')}" if entry else "all dashboards"
                        yield f"{rule}: the entry for {where} excludes nothing"


# --------------------------------------------------------------------------
# Rules
# --------------------------------------------------------------------------

# $name, ${name}, ${name:format}, ${name.field}; not [[name]].
VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?:[.:\[][^}]*)?\}|([A-Za-z_]\w*))")
GLOBAL = re.compile(r"__")


def variables_in(value):
    """Names of the dashboard variables in any string below ``value``."""
    names = set()
    for text in strings(value):
        for braced, plain in VARIABLE.findall(text):
            name = braced or plain
            if not GLOBAL.match(name):
                names.add(name)
    return names


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def objects(value, key):
    """All values of ``key`` anywhere below ``value``."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from objects(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from objects(inner, key)


def all_panels(panels):
    for panel in panels:
        yield panel
        yield from all_panels(panel.get("panels") or [])


def source_uid(owner):
    """The data source of a panel or variable; old dashboards give it as a string."""
    source = owner.get("datasource")
    return source.get("uid") if isinstance(source, dict) else source


def query_text(variable):
    query = variable.get("query")
    return query.get("query", "") if isinstance(query, dict) else query or ""


class Checker:
    def __init__(self, directory, verbose):
        self.directory = directory
        self.verbose = verbose
        self.passed = self.failed = 0
        self.exclusions = Exclusions(directory / ".lint")
        self.dashboards = {}

    # -- reporting

    def report(self, ok, rule, dashboard, message, panel=None, index=None):
        assert rule in LINTER_RULES | HOUSE_RULES, rule
        where = dashboard if panel is None else f"{dashboard}: {panel}"
        if not ok:
            section = self.exclusions.find(rule, dashboard, panel, index)
            if section:
                if self.verbose or section == "warnings":
                    print(f"{'warning' if section == 'warnings' else 'excluded'}: {where}: {rule}: {message}")
                self.passed += 1
                return
        if ok:
            self.passed += 1
            if self.verbose:
                print(f"ok: {where}: {rule}")
        else:
            self.failed += 1
            print(f"{where}: {rule}: {message}")

    def plain(self, ok, where, message):
        self.passed += bool(ok)
        self.failed += not ok
        if not ok:
            print(f"{where}: {message}")

    # -- entry point

    def run(self):
        paths = sorted(self.directory.glob("*.json"))
        self.plain(paths, str(self.directory), "no dashboards found")
        for path in paths:
            self.load(path)
        for path, board in self.dashboards.items():
            self.dashboard(path, board)
        for problem in self.exclusions.problems:
            self.plain(False, ".lint", problem)
        for problem in self.exclusions.stale():
            self.plain(False, ".lint", problem)

    def load(self, path):
        name = path.name
        doubled = []

        def pairs(items):
            keys = [key for key, _ in items]
            doubled.extend(key for key in set(keys) if keys.count(key) > 1)
            return dict(items)

        try:
            text = path.read_text(encoding="utf-8")
            board = json.loads(text, object_pairs_hook=pairs)
        except (OSError, ValueError) as error:
            self.report(False, "json-format", name, str(error))
            return
        if not isinstance(board, dict) or not isinstance(board.get("panels"), list):
            self.report(False, "json-format", name, "not a dashboard: no list of panels")
            return
        title = board.get("title") or name
        self.report(not doubled, "json-format", title, f"duplicate keys: {sorted(doubled)}")
        canonical = json.dumps(board, indent=2, ensure_ascii=False) + "\n"
        self.report(text == canonical, "json-format", title, "not formatted with two spaces and a final newline")
        self.dashboards[path] = board

    # -- dashboard level

    def dashboard(self, path, board):
        title = board.get("title") or path.name
        panels = list(all_panels(board["panels"]))
        variables = (board.get("templating") or {}).get("list") or []

        def report(ok, rule, message):
            self.report(bool(ok), rule, title, message)

        uid = board.get("uid") or ""
        report(uid == path.stem, "dashboard-essentials", f"uid {uid!r} differs from the file name")
        report(re.fullmatch(re.escape(UID_PREFIX) + r"[a-z0-9-]+", uid) and 8 <= len(uid) <= 40,
               "dashboard-essentials", f"uid {uid!r} is not {UID_PREFIX}<name> with 8 to 40 characters")
        others = [other for file, other in self.dashboards.items() if file != path]
        report(uid not in [other.get("uid") for other in others], "unique-uid", f"uid {uid!r} is used twice")
        report(title not in [other.get("title") for other in others], "unique-uid", f"title {title!r} is used twice")
        for key, wanted in {"id": None, "schemaVersion": SCHEMA_VERSION, "timezone": "browser", "graphTooltip": 1}.items():
            report(key in board and board[key] == wanted, "dashboard-essentials", f"{key} is {board.get(key)!r}, not {wanted!r}")
        for key in ("title", "description", "refresh", "time", "version", "annotations"):
            report(board.get(key), "dashboard-essentials", f"{key} is missing")
        report(TAG in (board.get("tags") or []), "dashboard-essentials", f"tag {TAG!r} is missing")
        report(board.get("editable") is False, "uneditable-dashboard", "editable is not false")

        inputs = [key for key in ("__inputs", "__requires", "__elements") if key in board]
        report(not inputs, "import-inputs", f"{', '.join(inputs)}: not resolved when provisioned")
        foreign = [text for text in strings(board) if "${DS_" in text]
        report(not foreign, "import-inputs", f"{foreign[:1]}: not resolved when provisioned")
        for source in objects(board, "datasource"):
            builtin = source == {"type": "grafana", "uid": "-- Grafana --"}
            report(builtin or source == {"type": "prometheus", "uid": "${datasource}"}, "datasource-uid",
                   f"data source {source!r} is not the variable ${{datasource}}")

        for note in (board.get("annotations") or {}).get("list") or []:
            if note.get("builtIn"):
                continue
            try:
                parse_promql(note.get("expr"))
                report(True, "annotations", "")
            except PromQLError as error:
                report(False, "annotations", f"annotation {note.get('name')!r}: {error}")

        self.variables(title, board, variables)
        self.links(title, board)
        self.grid(title, board["panels"])
        ids = [panel.get("id") for panel in panels]
        for panel in panels:
            name = panel.get("title") or f"panel {panel.get('id')}"
            number = panel.get("id")
            self.report(isinstance(number, int) and number > 0 and ids.count(number) == 1, "panel-id", title,
                        f"id {number!r} is missing or used twice", name)
            self.panel(title, name, panel, panels)

    def variables(self, title, board, variables):
        names = [variable.get("name") for variable in variables]

        def report(ok, rule, message):
            self.report(bool(ok), rule, title, message)

        sources = [variable for variable in variables if variable.get("type") == "datasource"]
        report(sources, "template-datasource-rule", "no data source variable")
        for source in sources:
            report(source.get("name") in ["prometheus_datasource"] + ["datasource"] * (len(sources) == 1),
                   "template-datasource-rule", f"data source variable is named {source.get('name')!r}")
            report(source.get("label") in ["Prometheus data source"] + ["Data source"] * (len(sources) == 1),
                   "template-datasource-rule", f"data source variable is labelled {source.get('label')!r}")
        if sources and sources[0].get("query") == "prometheus":
            for name in ("job", "instance"):
                found = [variable for variable in variables if variable.get("name") == name]
                rule = f"template-{name}-rule"
                report(found, rule, f"no variable {name!r}")
                for variable in found:
                    report(variable.get("type") == "query", rule, f"variable {name!r} is not a query")
                    report(source_uid(variable) in ("$datasource", "${datasource}"), rule,
                           f"variable {name!r} does not use the data source variable")
                    report(variable.get("label") == name.capitalize(), rule, f"variable {name!r} is labelled {variable.get('label')!r}")
                    report(variable.get("multi") is True, rule, f"variable {name!r} is not multi-value")
                    report(variable.get("allValue") == ".+", rule, f"allValue of {name!r} is not '.+'")

        report(len(set(names)) == len(names), "variables-defined", "a variable is defined twice")
        queries = [variable for variable in variables if variable.get("type") == "query"]
        for variable in queries:
            name, text = variable.get("name"), query_text(variable)
            match = re.fullmatch(r"([a-z_]+)\((.*)\)", text.strip())
            if not match or match[1] not in ("label_names", "label_values", "metrics", "query_result"):
                report(False, "template-label-promql-rule", f"variable {name!r}: {text!r} is not a variable query")
            else:
                inner = match[2]
                if match[1] == "label_values":
                    inner = re.sub(r",?\s*[A-Za-z_]\w*\s*$", "", inner)
                    if not inner:
                        inner = "up"  # label_values(label)
                try:
                    if match[1] in ("label_values", "query_result"):
                        parse_promql(inner)
                    report(True, "template-label-promql-rule", "")
                except PromQLError as error:
                    report(False, "template-label-promql-rule", f"variable {name!r}: {error}")
            report(variable.get("refresh") == 2, "template-on-time-change-reload-rule",
                   f"variable {name!r} is not reloaded when the time range changes")
            report(isinstance(variable.get("query"), dict) and variable["query"].get("refId"), "variable-chain",
                   f"query of variable {name!r} is not of the form {{query, refId}}")
            report(variable.get("definition") == text, "variable-chain", f"definition of variable {name!r} differs from its query")
            report(variable.get("multi") is True and variable.get("includeAll") is True and variable.get("allValue") == ".+",
                   "variable-chain", f"variable {name!r} is not multi-value with all = '.+'")
        chain = [variable.get("name") for variable in queries]
        report(chain == CHAIN[:len(chain)], "variable-chain", f"query variables are {chain}, expected the start of {CHAIN}")
        for position, variable in enumerate(queries):
            wanted = set(chain[:position])
            report(variables_in(query_text(variable)) == wanted, "variable-chain",
                   f"query of variable {variable.get('name')!r} must use {sorted(wanted)}")

        # Only panels count: a variable that merely narrows the next one is a
        # selection box without effect.
        shown = variables_in(board["panels"])
        for name in names:
            report(name in shown, "variables-used", f"variable {name!r} is not used by any panel")
        for name in sorted(variables_in(board) - set(names)):
            report(False, "variables-defined", f"variable {name!r} is not defined")
        report(not any("[[" in text and "]]" in text for text in strings(board["panels"])), "variables-defined",
               "the variable syntax [[name]] is deprecated")

    def links(self, title, board):
        links = board.get("links") or []
        tags = {tag for other in self.dashboards.values() for tag in other.get("tags") or []}
        by_tag = [link for link in links if link.get("type") == "dashboards"]
        self.report(bool(by_tag), "links", title, "no link to the other dashboards by tag")
        for link in links:
            self.report(link.get("keepTime") is True, "links", title, f"link {link.get('title')!r} does not keep the time range")
            if link in by_tag:
                self.report(TAG in (link.get("tags") or []) and set(link["tags"]) <= tags, "links", title,
                            f"tags of link {link.get('title')!r} fit no dashboard")
            else:
                self.url(title, None, "links", link.get("url") or "")

    def url(self, title, panel, rule, url):
        match = re.fullmatch(r"/d/([^?/]+)(?:\?(.*))?", url)
        self.report(bool(match), rule, title, f"{url!r} is not a link to a dashboard", panel)
        if not match:
            return
        targets = [board for board in self.dashboards.values() if board.get("uid") == match[1]]
        self.report(bool(targets), rule, title, f"{url!r}: there is no such dashboard", panel)
        for board in targets:
            known = {variable.get("name") for variable in (board.get("templating") or {}).get("list") or []}
            query = match[2] or ""
            given = re.findall(r"(?:^|&)var-([^=&]+)=", query) + re.findall(r"(?:^|&)\$\{(\w+):queryparam\}", query)
            unknown = sorted(name for name in given if name not in known and not GLOBAL.match(name))
            self.report(not unknown, rule, title, f"{url!r}: {match[1]} has no variable {unknown}", panel)
            self.report(len(given) == len(set(given)), rule, title, f"{url!r}: a variable is set twice", panel)

    def grid(self, title, panels):
        """Positions of one level; panels inside of a collapsed row are a level of their own."""
        taken = []
        for panel in panels:
            self.grid(title, panel.get("panels") or [])
            name = panel.get("title") or f"panel {panel.get('id')}"
            pos = panel.get("gridPos") or {}
            box = [pos.get(key) for key in "xywh"]
            whole = all(isinstance(number, int) and number >= 0 for number in box)
            self.report(whole, "panel-grid", title, f"gridPos is {pos!r}", name)
            if not whole:
                continue
            x, y, w, h = box
            self.report(w > 0 and h > 0 and x + w <= 24, "panel-grid", title, f"{pos!r} is outside of the 24 columns", name)
            self.report(panel.get("type") != "row" or (x, w, h) == (0, 24, 1), "panel-grid", title, "a row must be 24 wide and 1 high", name)
            hit = [other for other, (a, b, c, d) in taken if x < a + c and a < x + w and y < b + d and b < y + h]
            self.report(not hit, "panel-grid", title, f"overlaps {hit[:1]}", name)
            taken.append((name, (x, y, w, h)))

    # -- panel level

    def panel(self, title, name, panel, panels):
        kind = panel.get("type")

        def report(ok, rule, message):
            self.report(bool(ok), rule, title, message, name)

        report(kind in PANEL_TYPES, "panel-type", f"panel type {kind!r} is not among {sorted(PANEL_TYPES)}")
        if kind == "row":
            report(panel.get("title"), "panel-complete", "row without title")
            report(panel.get("collapsed") is True or not panel.get("panels"), "panel-complete",
                   "only a collapsed row holds panels itself")
            return
        targets = panel.get("targets") or []
        config = panel.get("fieldConfig") or {}
        defaults = config.get("defaults") or {}
        overrides = config.get("overrides") or []
        options = panel.get("options") or {}
        properties = [item for override in overrides for item in override.get("properties") or []]

        # dashboard-linter
        if kind in DATASOURCE_TYPES:
            report(source_uid(panel) in ("$datasource", "${datasource}"), "panel-datasource-rule",
                   "the panel does not use the data source variable")
        if kind in TITLED_TYPES:
            report(panel.get("title") and panel.get("description"), "panel-title-description-rule", "title or description is missing")
            units = [item.get("value") for item in properties if item.get("id") == "unit"] or [defaults.get("unit")]
            mapped = bool(defaults.get("mappings")) or any(item.get("id") == "mappings" for item in properties)
            texts = kind == "stat" and (options.get("reduceOptions") or {}).get("fields")
            report(mapped or texts or all(unit in UNITS for unit in units), "panel-units-rule", f"unit {units!r} is unknown")
            report(targets, "panel-no-targets-rule", "the panel has no query")

        # this project: the same for every type
        report(panel.get("title") and panel.get("description"), "panel-complete", "title or description is missing")
        report([other.get("title") for other in panels].count(panel.get("title")) == 1, "panel-complete", "the title is used twice")
        report(defaults.get("unit") in UNITS, "panel-complete", f"default unit {defaults.get('unit')!r} is unknown")
        report(panel.get("datasource"), "panel-complete", "no data source")
        report(options, "panel-complete", "no options")
        report(targets, "panel-targets", "the panel has no query")
        refs = [target.get("refId") for target in targets]
        report(all(refs) and len(set(refs)) == len(refs), "panel-targets", f"refIds {refs} are not unique")
        for change in panel.get("transformations") or []:
            report(change.get("id") in TRANSFORMATIONS, "transformations", f"{change.get('id')!r} is not among {sorted(TRANSFORMATIONS)}")

        steps = (defaults.get("thresholds") or {}).get("steps") or []
        if kind in ("stat", "gauge", "state-timeline", "status-history", "timeseries", "table"):
            values = [step.get("value") for step in steps]
            report(values and values[0] is None and values[1:] == sorted(values[1:]), "panel-options",
                   f"thresholds {values} do not start with null and grow")
        if kind in ("state-timeline", "status-history"):
            known = {value: item.get("text") for mapping in defaults.get("mappings") or [] if mapping.get("type") == "value"
                     for value, item in mapping["options"].items()}
            report(known.get("1") == "Healthy" and known.get("0") == "Unhealthy", "health-mappings",
                   "0 and 1 are not mapped to Unhealthy and Healthy")
        if kind == "state-timeline":
            report(options.get("mergeValues") is True, "panel-options", "equal values are not merged")
        if kind in ("stat", "gauge"):
            report((options.get("reduceOptions") or {}).get("calcs"), "panel-options", "no calculation to reduce the values")
        if kind == "timeseries":
            report((options.get("legend") or {}).get("showLegend") is True, "panel-options", "no legend")
        if kind == "heatmap":
            report((options.get("yAxis") or {}).get("unit") in UNITS, "panel-options", "no unit on the y axis")

        for url in [link.get("url") for found in objects(config, "links") for link in found or []]:
            self.url(title, name, "data-links", url or "")
        # Links given as the value of an override.
        for item in properties:
            if item.get("id") == "links":
                for link in item.get("value") or []:
                    self.url(title, name, "data-links", link.get("url") or "")

        for index, target in enumerate(targets):
            self.target(title, name, panel, index, target, panels)

    # -- query level

    def target(self, title, name, panel, index, target, panels):
        kind = panel.get("type")

        def report(ok, rule, message):
            self.report(bool(ok), rule, title, message, name, index)

        report(target.get("datasource"), "panel-targets", f"query {index}: no data source")
        report(isinstance(target.get("instant"), bool) and target.get("range") is (not target["instant"]), "panel-targets",
               f"query {index}: exactly one of instant and range must be true")
        wanted = {"table": "table", "heatmap": "heatmap"}.get(kind, "time_series")
        report(target.get("format") == wanted, "panel-targets", f"query {index}: format is {target.get('format')!r}, not {wanted!r}")
        report(target.get("instant") is True or kind != "table", "panel-targets", f"query {index}: a table shows an instant query")
        report(target.get("instant") is False or kind in ("table", "stat", "gauge"), "panel-targets",
               f"query {index}: {kind} needs a range query")
        report(kind == "table" or target.get("legendFormat"), "panel-targets", f"query {index}: no legend format")

        expr = target.get("expr") or ""
        if not expr and target.get("panelId"):
            report(target["panelId"] in [other.get("id") for other in panels], "target-promql-rule",
                   f"query {index}: there is no panel {target['panelId']}")
            return
        try:
            tree = parse_promql(expr)
        except PromQLError as error:
            report(False, "target-promql-rule", f"query {index}: {error} in {expr!r}")
            return
        report(True, "target-promql-rule", "")

        for node, parents in tree.walk():
            if node.name not in ("range", "subquery"):
                continue
            function = parents[-1].function if parents and parents[-1].name == "call" else None
            if node.name == "range" and function in ("rate", "irate"):
                report(node.range in ("$__rate_interval", "${__rate_interval}"), "target-rate-interval-rule",
                       f"query {index}: {function} over [{node.range}], not [$__rate_interval]")
            report(node.range in ("$__rate_interval", "$__range"), "query-range",
                   f"query {index}: fixed range [{node.range}]")
        for node, parents in selectors(tree):
            for label in ("job", "instance"):
                report((label, "=~", f"${label}") in node.matchers, f"target-{label}-rule",
                       f'query {index}: {show(node)} has no matcher {label}=~"${label}"')
            if node.metric.endswith("_total"):
                rated = (len(parents) >= 2 and parents[-1].name == "range" and parents[-2].name == "call"
                         and parents[-2].function in ("rate", "irate", "increase"))
                report(rated, "target-counter-agg-rule", f"query {index}: counter {node.metric} without rate, irate or increase")
            bad = [value for label, _, value in node.matchers if label == "le" and re.fullmatch(r"[0-9]+", value)]
            report(not bad, "query-le", f'query {index}: le="{bad[:1]}" must be written with a decimal point')


def main():
    parser = argparse.ArgumentParser(description="Check the Grafana dashboards of a directory.")
    parser.add_argument("directory", nargs="?", type=Path, default=Path(__file__).resolve().parent,
                        help="where the dashboards are (default: the directory of this program)")
    parser.add_argument("-v", "--verbose", action="store_true", help="print passed and excluded checks too")
    arguments = parser.parse_args()
    checker = Checker(arguments.directory, arguments.verbose)
    checker.run()
    print(f"{checker.passed} passed, {checker.failed} failed")
    return 1 if checker.failed else 0


if __name__ == "__main__":
    sys.exit(main())
