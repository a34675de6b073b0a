"""Random templates and what Python's Jinja makes of them, as JSON lines: {"template", "request", "rendered" or "error"}.

usage: jinja_reference.py SEED COUNT

The environment is the one that transformers renders chat templates in. Templates are made of what chat templates use:
whitespace control, loops, macros, namespaces, filters, tests, methods, slices, arithmetic; types fit most of the time.
"""

import json
import random
import re
import sys

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    """{% generation %} marks what the assistant said; it renders as it is."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_support"), [], [], body).set_lineno(line)

    def _support(self, caller):
        return caller()


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])

    def raise_exception(message):
        raise TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


REQUEST = {
    "messages": [
        {"role": "system", "content": "Be terse.\n"},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " What is\tthis? "}, {"type": "text", "text": "né <b>&'\"\u2028\x7f"}]},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"b": 1, "a": [True, None, 1.5, -0.0, 1e20]}}}]},
        {"role": "tool", "content": "ünï ✓ 😀", "name": None},
    ],
    "s": "Hello World",
    "t": "  a,b, ,c\r\nd\n\n",
    "u": "Straße – naïve",
    "n": 7,
    "m": -3,
    "x": 2.5,
    "y": -1e-07,
    "b": True,
    "none_here": None,
    "d": {"k": "v", "z": [3, 1, 2], "items": 5, "A": {"deep": "er"}},
    "l": [3, "b", None, 1.0, True, "B", [1, 2], {"q": "w"}],
    "nums": [5, 3, 9, 3, -1],
    "words": ["pear", "Apple", "fig", "apple"],
}

SEPARATORS = "separators=(',', ':')"


class Generator:
    def __init__(self, random_source):
        self.r = random_source
        self.depth = 0

    def pick(self, *options):
        choice = self.r.choice(options)
        return choice() if callable(choice) else choice

    def literal(self):
        return self.pick("''", "'a'", "\"it's\"", "'a\\n\\tb'", "'\\u00e9\\x41'", "'{{ }}'", "' pad '", "'aXbXc'", "'é'")

    def text(self):
        if self.depth > 3:
            return self.pick(self.literal, "s", "t", "u", "messages[0].role", "words[0]")
        self.depth += 1
        a, b, i = self.text, self.literal, self.integer
        result = self.pick(
            self.literal, self.literal, "s", "t", "u", "messages[0]['content']", "messages[-1].content", "d.k", "d['A'].deep", "messages[1].content[1].text",
            lambda: f"({a()} + {a()})",
            lambda: f"({a()} ~ {self.any()} ~ {b()})",
            lambda: f"({a()} * {self.r.randint(0, 3)})",
            lambda: f"({a()})[{self.bound()}:{self.bound()}]",
            lambda: f"({a()})[{self.bound()}:{self.bound()}:{self.pick('-1', '2', '-2', '1')}]",
            lambda: f"({a()} | {self.pick('trim', 'upper', 'lower', 'capitalize', 'title', 'string', 'reverse')})",
            lambda: f"({a()} | replace({b()}, {b()}))",
            lambda: f"({a()} | replace({b()}, {b()}, {self.r.randint(0, 2)}))",
            lambda: f"({a()} | indent({self.pick('2', 'first=true', 'width=3, blank=true', '')}))",
            lambda: f"({a()} | default({b()}))",
            lambda: f"({a()} | center({self.r.randint(0, 20)}))",
            lambda: f"({a()} | trim({b()}))",
            lambda: f"({a()}).{self.pick('strip()', 'lstrip()', 'rstrip()', 'upper()', 'lower()', 'capitalize()', 'title()')}",
            lambda: f"({a()}).{self.pick('strip', 'lstrip', 'rstrip', 'removeprefix', 'removesuffix')}({b()})",
            lambda: f"({a()}).replace({b()}, {a()})",
            lambda: f"({a()}).{self.pick('ljust', 'rjust', 'center', 'zfill')}({self.r.randint(0, 12)})",
            lambda: f"({b()}).join({self.texts()})",
            lambda: f"({self.texts()} | join({b()}))",
            lambda: f"({self.list()} | join(', '))",
            lambda: f"({self.any()} | string)",
            lambda: f"({self.any()} | tojson)",
            lambda: f"({self.any()} | tojson({self.pick('indent=2', 'ensure_ascii=true', 'sort_keys=true', SEPARATORS, 'indent=1, ensure_ascii=true', '*[false, 4]')}))",
            lambda: f"('%s|%r' | format({a()}, {a()}))",
            lambda: f"('%5d|%-4s|%05.1f|%x' % ({i()}, {a()}, {self.number()}, {i()} | abs))",
            lambda: f"('{{}} {{1}} {{}}'.format({a()}, {i()}))" if self.r.random() < 0.2 else f"('{{}}-{{k}}'.format({a()}, k={self.any()}))",
            lambda: f"({self.bool()} and {a()} or {b()})",
            lambda: f"({a()} if {self.bool()} else {a()})",
            lambda: f"({a()} if {self.bool()})",
            lambda: f"(({a()}).split({b()}) | first)",
            lambda: f"({self.texts()} | last)",
        )
        self.depth -= 1
        return result

    def bound(self):
        return self.pick("", "", "0", "1", "-1", "2", "-3", "100", "n", "none")

    def texts(self):
        if self.depth > 3:
            return self.pick("words", "['a', 'b']", "[]")
        self.depth += 1
        a, b = self.text, self.literal
        result = self.pick(
            "words",
            lambda: f"[{a()}, {a()}]",
            lambda: f"({a()}, {b()})",
            lambda: f"({a()}).split()",
            lambda: f"({a()}).split({b()}{self.pick('', ', 1')})",
            lambda: f"({a()}).rsplit({self.pick('none', b)}, {self.r.randint(0, 2)})",
            lambda: f"({a()}).split(none, {self.r.randint(0, 2)})",
            lambda: f"({a()}).splitlines({self.pick('', 'true')})",
            lambda: f"({a()}).{self.pick('partition', 'rpartition')}({b()})",
            lambda: f"({a()} | list)",
            lambda: f"({self.texts()} | map('{self.pick('upper', 'trim', 'capitalize', 'string', 'length')}') | map('string') | list)",
            lambda: f"({self.texts()} | {self.pick('sort', 'unique', 'reverse', 'sort(reverse=true)', 'sort(case_sensitive=true)')} | list)",
            lambda: f"({self.texts()} | {self.pick('select', 'reject')}('{self.pick('equalto', 'ne', 'in', 'lt')}', {a()}) | list)",
            lambda: "(messages | map(attribute='role') | list)",
            lambda: f"(messages | {self.pick('selectattr', 'rejectattr')}('role', '{self.pick('equalto', '==', 'ne')}', {self.pick(chr(39) + 'user' + chr(39), a)}) | map(attribute='role') | list)",
            lambda: f"(messages | selectattr('tool_calls', '{self.pick('defined', 'undefined')}') | map(attribute='role') | list)",
            lambda: f"({self.texts()})[{self.bound()}:{self.bound()}:{self.pick('', '-1', '2')}]",
            lambda: "(d.keys() | list)",
        )
        self.depth -= 1
        return result

    def integer(self):
        if self.depth > 3:
            return self.pick("n", "m", "0", "1", "12", "-4", "0x1F", "1_000")
        self.depth += 1
        i = self.integer
        result = self.pick(
            "n", "m", lambda: str(self.r.randint(-9, 9)),
            lambda: f"({i()} {self.pick('+', '-', '*')} {i()})",
            lambda: f"({i()} {self.pick('//', '%')} {i()})",
            lambda: f"(-{i()})",
            lambda: f"({self.pick(self.text, self.list)} | {self.pick('length', 'count')})",
            lambda: f"({self.pick(self.text, self.integer, self.number)} | int)",
            lambda: f"({self.literal()} | int(default={self.r.randint(0, 5)}))",
            lambda: f"({self.text()}).{self.pick('find', 'rfind', 'count')}({self.literal()})",
            lambda: f"({i()} | abs)",
            lambda: f"(nums | {self.pick('sum', 'max', 'min', 'first', 'last')})",
            lambda: f"({i()} if {self.bool()} else {i()})",
            lambda: "nums[1]", lambda: f"(words).index({self.literal()})" if self.r.random() < 0.3 else "l.count(true)",
        )
        self.depth -= 1
        return result

    def number(self):
        return self.pick("x", "y", "1.5", "1e3", "2.0e-5", "(n / 2)", lambda: f"({self.integer()} / {self.pick('2', '3', '0.5', self.integer)})", lambda: f"({self.integer()} * 0.1)",
                         lambda: f"({self.pick('x', 'y', '2.675', '0.5', '1.5')} | round{self.pick('', '(1)', '(2)', '(0, ' + chr(39) + 'ceil' + chr(39) + ')', '(1, ' + chr(39) + 'floor' + chr(39) + ')')})",
                         lambda: f"({self.text()} | float)", lambda: "(n ** 2)", lambda: "(x ** -1)", lambda: "(-7.5 // 2)", lambda: "(-7.5 % 2)", lambda: "(x % m)")

    def bool(self):
        if self.depth > 3:
            return self.pick("true", "false", "b", "none_here")
        self.depth += 1
        any_, t = self.any, self.text
        result = self.pick(
            "true", "false", "b", "not_here",
            lambda: f"(not {self.bool()})",
            lambda: f"({self.bool()} {self.pick('and', 'or')} {self.bool()})",
            lambda: f"({any_()} {self.pick('==', '!=')} {any_()})",
            lambda: f"({self.integer()} {self.pick('<', '<=', '>', '>=')} {self.number()} < {self.integer()})",
            lambda: f"({t()} {self.pick('<', '>=', 'in', 'not in')} {t()})",
            lambda: f"({any_()} {self.pick('in', 'not in')} {self.list()})",
            lambda: f"({t()} in {self.pick('d', 'messages[0]')})",
            lambda: f"({any_()} is {self.pick('', 'not ')}{self.pick('defined', 'undefined', 'none', 'string', 'number', 'integer', 'float', 'boolean', 'mapping', 'sequence', 'iterable', 'true', 'false', 'callable', 'escaped')})",
            lambda: f"({self.name()} is {self.pick('defined', 'undefined', 'none')})",
            lambda: f"({self.integer()} is {self.pick('odd', 'even', 'divisibleby 3', 'divisibleby(2)', 'eq 1', 'gt(2)', 'lessthan 5')})",
            lambda: f"({t()} is {self.pick('upper', 'lower', 'in words', 'equalto ' + self.literal())})",
            lambda: f"({t()}).{self.pick('startswith', 'endswith')}({self.pick(self.literal, '(' + self.literal() + ', ' + self.literal() + ')')})",
            lambda: f"({t()}).{self.pick('isdigit', 'isalpha', 'isspace', 'isupper', 'islower', 'isalnum')}()",
        )
        self.depth -= 1
        return result

    def list(self):
        return self.pick("l", "nums", "words", "messages", "d", "[]", "(range(3) | list)", lambda: f"(range({self.r.randint(-2, 4)}, {self.r.randint(0, 6)}, {self.r.randint(1, 3)}) | list)", self.texts,
                         lambda: f"[{self.any()}, {self.any()}]", lambda: f"(nums + [{self.any()}])", lambda: f"([{self.any()}] * 2)", "(d.items() | list)", "(d | items | list)", "(d | dictsort)",
                         "messages[1].content", lambda: f"nums[{self.bound()}:{self.bound()}:{self.pick('', '-1', '2', '-2')}]", "(nums | sort)", "(nums | sort | reverse | list)", "(nums | unique | list)",
                         "(l | reject('none') | list)", "(l | select | list)", "(l | select('string') | list)", "(messages | map(attribute='content.0.type', default='-') | list)")

    def any(self):
        if self.depth > 3:
            return self.pick("s", "n", "none", "true", "x", "words", "d", "l")
        self.depth += 1
        result = self.pick(self.text, self.text, self.integer, self.number, self.bool, self.list, "none", "d", lambda: f"{{'a': {self.any()}, {self.text()}: {self.any()}}}",
                           self.name, lambda: f"d.get({self.text()}{self.pick('', ', 1')})", "messages[2].tool_calls[0].function.arguments", "l[6][-1]", "()", "(1,)", "d['items']")
        self.depth -= 1
        return result

    def name(self):
        return self.pick("not_here", "messages", "d.nope", "d.k", "none_here", "messages[9]", "s.nope", "messages[0].tool_calls", "d['z'][0]", "s[0]", "s[50]", "tools")

    # Statements. What they set has names of its own: Jinja's compiler decides by the order of mentions whether an inner block
    # sees a variable of the request before the template sets one of that name.

    def open(self):
        return self.pick("{%", "{%", "{%-", "{%+")

    def close(self):
        return self.pick("%}", "%}", "-%}", "+%}")

    def tag(self, inside):
        return f"{self.open()} {inside} {self.close()}"

    def data(self):
        return self.pick("", "\n", " ", "text", "  \n  ", "\n\n", "a\n    ", "<|im_start|>", "\t", "x y\r\n", "é")

    def print(self):
        expression = self.pick(self.any, self.text, self.text)
        return self.pick("{{ ", "{{- ", "{{") + expression + self.pick(" }}", " -}}", "}}")

    def block(self, level=0):
        return "".join(self.data() + self.statement(level) for _ in range(self.r.randint(1, 3))) + self.data()

    def statement(self, level):
        if level > 2:
            return self.print()
        inner = lambda: self.block(level + 1)
        return self.pick(
            self.print, self.print, self.print,
            lambda: f"{{{{ ({self.text()} | {self.pick('safe', 'e', 'escape', 'forceescape')}) + {self.text()} }}}}",
            lambda: f"{self.tag('if ' + self.bool())}{inner()}{self.tag('else')}{inner()}{self.tag('endif')}",
            lambda: f"{self.tag('if ' + self.any())}{inner()}{self.tag('elif ' + self.bool())}{inner()}{self.tag('endif')}",
            lambda: f"{self.tag('for m in messages')}{{{{ loop.index }}}}{self.data()}{{{{ m.role }}}}{inner()}{self.tag('endfor')}",
            lambda: f"{self.tag('for q in ' + self.list() + self.pick('', ' if q', ' if q is string'))}{self.loop_print()}{inner()}{self.tag('else')}none{self.tag('endfor')}",
            lambda: f"{self.tag('for k, v in d.items()')}{{{{ k }}}}={{{{ v }}}}{self.tag(self.pick('if loop.first', 'if k is string', 'if v'))}{self.tag(self.pick('continue', 'break'))}{self.tag('endif')},{self.tag('endfor')}",
            lambda: f"{self.tag('set fresh = ' + self.text())}{self.data()}{{{{ fresh }}}}",
            lambda: f"{self.tag('set p, q = ' + self.pick('1, 2', '(n, m)', 'words[:2]', 's'))}{{{{ p }}}}{{{{ q }}}}",
            lambda: f"{self.tag('set w' + self.pick('', ' | trim', ' | upper | trim'))}{inner()}{self.tag('endset')}[{{{{ w }}}}]",
            lambda: f"{self.tag('set ns = namespace(a=0, t=' + self.text() + ')')}{self.tag('for i in range(3)')}{self.tag('set ns.a = ns.a + i')}{self.tag('set inner = 99')}{self.tag('endfor')}{{{{ ns.a }}}}{{{{ inner }}}}{{{{ ns.t }}}}{{{{ ns.zz }}}}",
            lambda: f"{self.tag('macro f(a, b=' + self.text() + ', c=a)')}{inner()}<{{{{ a }}}}|{{{{ b }}}}|{{{{ c }}}}>{self.tag('endmacro')}{{{{ f({self.any()}{self.pick('', ', 2', ', b=3', ', c=4, b=5')}) }}}}",
            lambda: f"{self.tag('macro g(x)')}({{{{ caller({self.pick('', '1')}) }}}}){self.tag('endmacro')}{self.tag('call' + self.pick('(y=2)', '(y)', '') + ' g(1)')}{inner()}{{{{ y }}}}{self.tag('endcall')}",
            lambda: f"{self.tag('filter ' + self.pick('upper', 'trim', 'replace(' + chr(39) + 'a' + chr(39) + ', ' + chr(39) + 'b' + chr(39) + ')', 'indent | upper'))}{inner()}{self.tag('endfilter')}",
            lambda: f"{self.tag('with n = ' + self.any() + ', k = n')}{{{{ n }}}}{{{{ k }}}}{inner()}{self.tag('endwith')}",
            lambda: f"{self.tag('generation')}{inner()}{self.tag('endgeneration')}",
            lambda: self.pick("{#", "{#-", "{#+") + self.pick(" note ", " {{ x }}\n ") + self.pick("#}", "-#}", "+#}"),
            lambda: self.pick("{% raw %}", "{%- raw -%}", "{% raw -%}") + self.pick("{{ raw }}\n", "  {% x %} ", "\n\n") + self.pick("{% endraw %}", "{%- endraw -%}", "{% endraw +%}"),
            lambda: f"{self.tag('for node in [[1, [2, [3]]], 4] recursive')}{{{{ loop.depth }}}}{self.tag('if node is sequence')}({{{{ loop(node) }}}}){self.tag('else')}{{{{ node }}}}{self.tag('endif')}{self.tag('endfor')}",
        )

    def loop_print(self):
        return "{{ loop." + self.pick("index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "previtem", "nextitem", "cycle('a', 'b')") + " }}{{ q }}"


def main():
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    generator = Generator(random.Random(seed))
    env = environment()
    written = 0
    while written < count:
        template = generator.block() if generator.r.random() < 0.6 else "{{ " + generator.any() + " }}"
        line = {"template": template, "request": REQUEST}
        try:
            line["rendered"] = env.from_string(template).render(tools=None, documents=None, add_generation_prompt=False, **REQUEST)
            # Addresses and other forms that say nothing to a model; integers beyond 64 bits.
            if re.search(r" at 0x|range\(|Macro|Markup|Undefined|\d{19}|\binf\b|\bnan\b", line["rendered"], re.IGNORECASE):
                continue
        except Exception as e:
            line["error"] = f"{type(e).__name__}: {e}"
        print(json.dumps(line))
        written += 1


main()
