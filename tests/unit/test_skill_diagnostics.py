"""
Every error and warning of skill and capability files, each in one file that is otherwise sound, with its line and column.

The place is that of a piece of the text, marked by a `¦` before it; the mark is taken out.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.agents.skill.library import Library
from holdfast.agents.skill.lookup import SkillInvalid, SkillNotFound
from holdfast.agents.skill.model import Problem

HEAD = """\
id: x.y
version: 1.0.0
name: A skill
description: For a test.
inputs: {text: {type: string, required: true}, list: {type: array}}
outputs: {}
"""

CAPABILITY = """\
id: my.capability
version: 1.0.0
description: For a test.
inputs: {text: {type: string, required: true}}
outputs: {text: {type: string}}
"""


def skill(steps: str, head: str = HEAD) -> str:
    return f"{head}steps:\n{steps}"


def summarize(id: str, more: str = "") -> str:
    return f"  - {{id: {id}, uses: text.content.summarize, input: {{text: inputs.text}}{more}}}\n"


A, B = summarize("a"), summarize("b")

ERRORS = {
    "yaml_invalid": [
        "id: x.y\nname: [\n¦",
        HEAD + "¦id: again\n",
        "id: x.y\n¦---\nid: y\n",
        skill("  - {id: a, uses: ¦.inf}\n"),
        skill(A + "  - &b {id: b, input: {x: ¦*c}}\n"),
    ],
    "field_missing": [
        "¦version: 1.0.0\nname: n\ndescription: d\ninputs: {}\noutputs: {}\nsteps: [{id: a, uses: data.json.parse, input: {text: '1'}}]\n",
        skill("  - ¦{uses: text.content.summarize, input: {text: inputs.text}}\n"),
        skill(A, HEAD.replace("{type: array}", "¦{}")),
        "¦" + HEAD,
    ],
    "field_invalid": [
        skill(A, HEAD.replace("1.0.0", "¦1.0")),
        skill(A, HEAD.replace("x.y", "¦X.y")),
        skill(A, HEAD.replace("A skill", "¦''")),
        skill(A, HEAD.replace("outputs: {}", "outputs: ¦[]")),
        skill(A, HEAD.replace("type: array", "type: array, default: ¦'no list'")),
        skill(A, HEAD.replace("required: true", "required: ¦yes")),
        HEAD + "steps: ¦[]\n",
        HEAD + "steps: ¦{}\n",
        skill("  - {id: ¦1a, uses: text.content.summarize, input: {text: inputs.text}}\n"),
        skill("  - {id: a, uses: ¦Text.Summarize, input: {text: inputs.text}}\n"),
        skill("  - {id: a, uses: text.content.summarize, input: ¦[text]}\n"),
        skill(summarize("a", ", depends_on: ¦a")),
        skill(A + "  - ¦text\n"),
        skill(A, HEAD + "metadata: {tags: ¦one}\n"),
        "¦- id: x.y\n",
    ],
    "unknown_key": [
        skill(summarize("a", ", ¦outputs: {}")),
        skill(summarize("a", ", config: {¦foreach_: {}}")),
        skill(summarize("a", ", config: {retry: {¦attempts: 2}}")),
        skill(summarize("a", ", config: {gates: {pre: [{capability: text.pii.check, ¦fail: warn}]}}")),
        skill(A, HEAD + "¦step: []\n"),
        skill(A, HEAD.replace("type: array", "type: array, ¦defaults: []")),
    ],
    "duplicate_step": [skill(A + summarize("¦a"))],
    "unknown_step": [
        skill(A + summarize("b", ", depends_on: [a, ¦c]")),
        skill(A + summarize("b", ", config: {depends_on: [¦c]}")),
        skill(A + summarize("b", ", config: {condition: not ¦steps.c.status}")),
    ],
    "cycle": [
        skill(summarize("a", ", depends_on: [¦c]") + B + summarize("c")),
        skill(summarize("a", ", depends_on: [¦a]")),
    ],
    "unknown_capability": [
        skill("  - {id: a, uses: ¦text.content.summarise, input: {text: inputs.text}}\n"),
        skill(summarize("a", ", config: {router: {on: inputs.text, cases: {b: ¦nothing}}}")),
        skill(summarize("a", ", config: {scatter: {capabilities: [text.pii.check, ¦nothing]}}")),
        skill(summarize("a", ", config: {gates: {pre: [{capability: ¦nothing}]}}")),
        skill(summarize("a", ", config: {gates: {post: [¦nothing]}}")),
    ],
    "unknown_skill": [skill("  - {id: a, uses: ¦'skill:my.skil', input: {text: inputs.text}}\n")],
    "skill_cycle": [skill("  - {id: a, uses: ¦'skill:x.y', input: {text: inputs.text}}\n")],
    "bad_target": [
        skill(summarize("a", ", output: {summary: ¦summary}")),
        skill(summarize("a", ", output: {summary: ¦inputs.text}")),
        skill(summarize("a", ", output: {summary: ¦[vars.x]}")),
        skill(summarize("a", ", output: {summary: ¦working..x}")),
        skill(summarize("a", ", output: {summary: ¦vars.}")),
        skill(summarize("a", ", output: {summary: ¦vars.x, summary.0: ¦vars.x}")),
    ],
    "bad_reference": [
        skill("  - {id: a, uses: text.content.summarize, input: {text: ¦inputs.nothing}}\n"),
        skill("  - {id: a, uses: text.content.merge, input: {items: [x, {y: ¦vars.}]}}\n"),
        skill(A + "  - {id: b, uses: text.content.merge, input: {items: [¦steps.a.text]}}\n"),
        skill(summarize("a", ", config: {condition: 1 < ¦env.HOME}")),
        skill(summarize("a", ", config: {condition: '1 < ¦inputs.nothing'}")),
        skill(summarize("a", ", output: {¦summary..x: vars.x}")),
        skill(summarize("a", ", config: {gates: {pre: [{capability: text.pii.check, input: {text: ¦output.x}}]}}")),
        skill(summarize("a", ", config: {gates: {post: [{capability: text.pii.check, input: {text: ¦inputs.text}}]}}")),
        skill(summarize("a", ", config: {gates: {post: [{capability: text.pii.check, input: {text: ¦output.}}]}}")),
    ],
    "unknown_variable": [
        skill("  - {id: a, uses: text.content.summarize, input: {text: ¦vars.x}}\n"),
        skill(summarize("a", ", config: {condition: not ¦x}")),
        skill(summarize("a", ", config: {foreach: {items: ¦working.list}}")),
        skill(A, HEAD.replace("outputs: {}", "outputs: {¦text: {type: string, required: true}}")),
    ],
    "unordered_access": [
        skill(
            summarize("a", ", output: {summary: vars.x}")
            + "  - {id: b, uses: text.content.summarize, input: {text: ¦vars.x}, depends_on: []}\n"
        ),
        skill(
            "  - {id: b, uses: text.content.summarize, input: {text: ¦vars.x}}\n"
            + summarize("a", ", output: {summary: vars.x}")
        ),
        skill("  - {id: a, uses: text.content.summarize, input: {text: ¦vars.x}, output: {summary: vars.x}}\n"),
        skill(A + summarize("b", ", depends_on: [], config: {condition: ¦steps.a.attempt == 1}")),
        skill(
            A
            + summarize("b", ", output: {summary: ¦working.x}")
            + summarize("c", ", depends_on: [a], output: {summary: ¦working.x.y}")
        ),
    ],
    "bad_expression": [
        skill(summarize("a", ", config: {condition: inputs.text ¦= 1}")),
        skill(summarize("a", ", config: {condition: 'x ¦-1'}")),
        skill(summarize("a", ', config: {condition: "> ¦- 1"}')),
        skill(summarize("a", ", config: {condition: a ¦@ b}")),
        skill(summarize("a", ", config: {condition: 1 < x ¦< 3}")),
        skill(summarize("a", ", config: {while: {condition: (x¦}}")),
        skill(summarize("a", ", config: {foreach: {items: ¦and}}")),
        skill(summarize("a", ", config: {router: {on: f¦(x), cases: {a: text.pii.check}}}")),
    ],
    "bad_control": [
        skill(summarize("a", ", config: {foreach: {items: inputs.list}, ¦while: {condition: 'true'}}")),
        skill(summarize("a", ", config: {router: {on: inputs.text, default: text.pii.check}, ¦scatter: {capabilities: [text.pii.check, text.content.summarize]}}")),
        skill(summarize("a", ", config: {timeout_seconds: ¦0}")),
        skill(summarize("a", ", config: {timeout_seconds: ¦86401}")),
        skill(summarize("a", ", config: {retry: {max_attempts: ¦0}}")),
        skill(summarize("a", ", config: {foreach: {items: inputs.list, as: ¦vars}}")),
        skill(summarize("a", ", config: {foreach: {items: inputs.list, as: x, index_as: ¦x}}")),
        skill(summarize("a", ", config: {foreach: ¦{as: x}}")),
        skill(summarize("a", ", config: {while: {condition: 'true', max_iterations: ¦1001}}")),
        skill(summarize("a", ", config: {scatter: {capabilities: ¦[text.pii.check]}}")),
        skill(summarize("a", ", config: {scatter: {capabilities: [text.pii.check, text.content.summarize], merge: ¦first}}")),
        skill(summarize("a", ", config: {router: {on: inputs.text, cases: {a: ¦'skill:my.skill'}}}")),
        skill(summarize("a", ", config: {router: ¦{on: inputs.text}}")),
        skill(summarize("a", ", config: {merge_strategy: ¦merge}")),
        skill(summarize("a", ", config: {confirm: ¦please}")),
        skill(summarize("a", ", config: {confirm: {default: ¦yes}}")),
        skill(summarize("a", ", config: {gates: {pre: ¦text.pii.check}}")),
        skill(summarize("a", ", config: {gates: {pre: [{capability: text.pii.check, on_fail: ¦ignore}]}}")),
        skill(summarize("a", ", config: {at_most_once: ¦true, retry: {}}")),
        skill(summarize("a", ", config: {stream: ¦true, gates: {post: [text.pii.check]}}")),
        skill("  - {id: a, uses: 'skill:my.skill', input: {text: inputs.text}, config: {¦timeout_seconds: 5}}\n"),
        skill(summarize("a", ", depends_on: [], config: {¦depends_on: []}")),
        skill(summarize("a", ", config: ¦[]")),
    ],
    "missing_input": [
        skill("  - {id: a, uses: text.content.summarize, input: ¦{max_length: 5}}\n"),
        skill("  - ¦{id: a, uses: text.content.summarize}\n"),
        skill("  - {id: a, uses: 'skill:my.skill', input: ¦{}}\n"),
        skill(summarize("a", ", config: {gates: {pre: [{capability: text.pii.check, input: ¦{}}]}}")),
        skill(summarize("a", ", config: {gates: {post: [¦text.pii.check]}}")),
        skill(summarize("a", ", config: {gates: {post: [¦{capability: text.pii.check}]}}")),
    ],
}  # fmt: skip

OF_CAPABILITIES = {
    "unbound_capability": ["¦" + CAPABILITY, CAPABILITY + "bind: ¦{}\n"],
    "bad_binding": [
        CAPABILITY + "bind: ¦python\n",
        CAPABILITY + "bind: {¦pyhton: 'a:b'}\n",
        CAPABILITY + "bind: {python: ¦shouting.shout}\n",
        CAPABILITY + "bind: ¦{python: 'a:b', client: {tool: x}}\n",
        CAPABILITY + "bind: {¦builtin: text.content.merge}\n",
        CAPABILITY + "bind: {http: ¦{method: GET}}\n",
        CAPABILITY + "bind: {http: {url: ¦'ftp://x'}}\n",
        CAPABILITY + "bind: {http: {url: 'http://x', body: {a: ['¦${input.nothing}']}}}\n".replace("'¦", "¦'"),
        CAPABILITY + "bind: {http: {url: ¦'http://x/${text}'}}\n",
        CAPABILITY + "bind: {http: {url: 'http://x', response: {¦nothing: a.b}}}\n",
        CAPABILITY + "bind: {http: {url: 'http://x', method: ¦FETCH}}\n",
        CAPABILITY + "bind: {mcp: ¦{server: x}}\n",
        CAPABILITY + "bind: {client: ¦{}}\n",
        CAPABILITY + "bind: {prompt: {template: ¦'{{nothing}}'}}\n",
        CAPABILITY.replace("{text: {type: string}}", "{}") + "bind: {prompt: ¦{template: '{{text}}'}}\n",
    ],
    "field_missing": ["¦version: 1.0.0\ninputs: {}\noutputs: {}\nbind: {python: 'a:b'}\n"],
    "field_invalid": [
        CAPABILITY + "safety: {trust_level: ¦high}\nbind: {python: 'a:b'}\n",
        CAPABILITY + "properties: {side_effects: ¦no}\nbind: {python: 'a:b'}\n",
    ],
    "unknown_key": [CAPABILITY + "safety: {¦requires_confimation: true}\nbind: {python: 'a:b'}\n"],
    "unknown_capability": [
        CAPABILITY + "safety: {mandatory_pre_gates: [{capability: ¦nothing}]}\nbind: {python: 'a:b'}\n"
    ],
    "missing_input": [
        CAPABILITY.replace("outputs: {text", "outputs: {said")
        + "safety: {mandatory_pre_gates: [text.pii.check], mandatory_post_gates: [¦text.pii.check]}\nbind: {python: 'a:b'}\n"
    ],
    "cycle": [CAPABILITY + "safety: {mandatory_pre_gates: [¦my.capability]}\nbind: {python: 'a:b'}\n"],
    "bad_reference": [
        CAPABILITY
        + "safety: {mandatory_pre_gates: [{capability: text.pii.check, input: {text: ¦output.text}}]}\nbind: {python: 'a:b'}\n"
    ],
}

WARNINGS = {
    "unknown_type": [skill(A, HEAD.replace("type: array", "type: ¦list"))],
    "unknown_input_field": [
        skill("  - {id: a, uses: text.content.summarize, input: {text: inputs.text, ¦length: 5}}\n"),
        skill("  - {id: a, uses: 'skill:my.skill', input: {text: inputs.text, ¦length: 5}}\n"),
    ],
    "unknown_output_field": [
        skill(summarize("a", ", output: {¦text: vars.x}")),
        skill(summarize("a", ", output: {summary: ¦outputs.nothing}")),
        skill("  - {id: a, uses: 'skill:my.skill', input: {text: inputs.text}, output: {¦summary: vars.x}}\n"),
    ],
    "triggers_ignored": [skill(A, HEAD + "¦triggers: [{cron: '* * * * *'}]\n")],
}


def cases(table: dict[str, list[str]]) -> list[object]:
    return [
        pytest.param(code, text, id=f"{code}-{index}")
        for code, texts in table.items()
        for index, text in enumerate(texts)
    ]


def places(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without its marks, and the places of them."""
    found = []
    while "¦" in text:
        before, _, after = text.partition("¦")
        found.append((before.count("\n") + 1, len(before) - before.rfind("\n")))
        text = before + after
    return text, found


def load(root: Path, files: dict[str, str]) -> Library:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    library = Library([root])
    library.refresh()
    return library


def told(problems: list[Problem]) -> list[tuple[str, str, int, int]]:
    return [(problem.severity, problem.code, problem.line, problem.column) for problem in problems]


@pytest.mark.parametrize(("code", "text"), cases(ERRORS))
def test_an_error_of_a_skill_is_told_with_its_place(tmp_path: Path, code: str, text: str) -> None:
    text, expected = places(text)

    library = load(tmp_path, {"skills/x.skill.yaml": text})

    assert told(library.problems()) == [("error", code, *place) for place in expected], library.problems()
    assert library.skill("x.y") is None


@pytest.mark.parametrize(("code", "text"), cases(OF_CAPABILITIES))
def test_an_error_of_a_capability_is_told_with_its_place(tmp_path: Path, code: str, text: str) -> None:
    text, expected = places(text)

    library = load(tmp_path, {"capabilities/x.yaml": text})

    assert told(library.problems()) == [("error", code, *place) for place in expected], library.problems()
    assert library.capability("my.capability") is None


@pytest.mark.parametrize(("code", "text"), cases(WARNINGS))
def test_a_warning_is_told_with_its_place_and_the_skill_can_run(tmp_path: Path, code: str, text: str) -> None:
    text, expected = places(text)

    library = load(tmp_path, {"skills/x.skill.yaml": text})

    assert told(library.problems()) == [("warning", code, *place) for place in expected], library.problems()
    assert library.definition("skill:x.y").skills["x.y"].steps


def chain(length: int) -> dict[str, str]:
    """Skills that use each other one after the other; the last one uses a capability."""
    files = {}
    for number in range(1, length):
        head = HEAD.replace("x.y", f"s{number}")
        files[f"skills/s{number}.skill.yaml"] = skill(
            f"  - {{id: a, uses: 'skill:s{number + 1}', input: {{text: inputs.text}}}}\n", head
        )
    files[f"skills/s{length}.skill.yaml"] = skill(A, HEAD.replace("x.y", f"s{length}"))
    return files


def test_ten_skills_inside_of_each_other_load_and_eleven_do_not(tmp_path: Path) -> None:
    library = load(tmp_path, chain(11))

    assert told(library.problems()) == [("error", "depth_exceeded", 8, 19)]
    assert [problem.skill_id for problem in library.problems()] == ["s1"]
    assert len(library.definition("skill:s2").skills) == 10


def test_skills_that_use_each_other_in_a_circle_cannot_run_nor_what_uses_them(tmp_path: Path) -> None:
    def using(id: str, other: str) -> str:
        return skill(f"  - {{id: a, uses: 'skill:{other}', input: {{text: inputs.text}}}}\n", HEAD.replace("x.y", id))

    files = {f"skills/{one}.skill.yaml": using(one, other) for one, other in (("p", "q"), ("q", "r"), ("r", "q"))}

    library = load(tmp_path, files)

    assert [(problem.skill_id, problem.code) for problem in library.problems()] == [
        ("p", "unknown_skill"),
        ("q", "skill_cycle"),
        ("r", "skill_cycle"),
    ]
    assert "q → r → q" in library.problems("q")[0].message


def test_a_circle_of_steps_is_told_in_the_order_in_which_they_wait(tmp_path: Path) -> None:
    steps = (
        A
        + summarize("b", ", depends_on: [c]")
        + summarize("c", ", depends_on: [a, d]")
        + summarize("d", ", depends_on: [b]")
    )

    (problem,) = load(tmp_path, {"skills/x.skill.yaml": skill(steps)}).problems()

    assert (problem.step_id, problem.line) == ("b", 9)
    assert problem.message.endswith("b → c → d → b")


@pytest.mark.timeout(20)
def test_as_many_steps_as_there_may_be_that_wait_for_many_load_in_no_time(tmp_path: Path) -> None:
    def waiting(number: int) -> str:
        return summarize(
            f"s{number}", f", depends_on: [{', '.join(f's{n}' for n in range(number + 1, min(number + 80, 500)))}]"
        )

    library = load(tmp_path, {"skills/x.skill.yaml": skill("".join(map(waiting, range(500))))})

    assert library.problems() == []
    assert library.skill("x.y") is not None


def test_places_touch_where_one_lies_inside_the_other_and_nowhere_else(tmp_path: Path) -> None:
    steps = (
        summarize("a", ", output: {summary: working.x.y}")
        + summarize("b", ", depends_on: [], output: {summary: working.x.z}")
        + summarize("c", ", depends_on: [], output: {summary: working.xy}")
        + summarize("d", ", depends_on: [], output: {summary: working.x}")
        + summarize("e", ", depends_on: [], output: {summary: vars.x}")
        + summarize("f", ", depends_on: [], output: {summary: vars.x.y}")
    )

    problems = load(tmp_path, {"skills/x.skill.yaml": skill(steps)}).problems()

    assert [(problem.step_id, problem.code) for problem in problems] == [
        ("a", "unordered_access"),
        ("b", "unordered_access"),
        ("d", "unordered_access"),
    ]


@pytest.mark.timeout(20)
def test_a_file_full_of_targets_loads_in_no_time(tmp_path: Path) -> None:
    def writing(number: int) -> str:
        return summarize(
            f"s{number}", f", output: {{{', '.join(f'o{n}: working.r.s{number}.{n}' for n in range(15))}}}"
        )

    library = load(tmp_path, {"skills/x.skill.yaml": skill("".join(map(writing, range(500))))})

    assert {problem.code for problem in library.problems()} == {"unknown_output_field"}


def test_of_one_id_twice_in_a_root_neither_is_used(tmp_path: Path) -> None:
    library = load(tmp_path, {"skills/one.skill.yaml": skill(A), "skills/two.skill.yaml": "# two\n" + skill(A)})

    assert told(library.problems()) == [("error", "duplicate_id", 1, 5), ("error", "duplicate_id", 2, 5)]
    with pytest.raises(SkillInvalid) as caught:
        library.definition("skill:x.y")
    assert [problem.code for problem in caught.value.problems] == ["duplicate_id", "duplicate_id"]


def test_of_one_id_in_two_roots_the_earlier_counts_even_if_it_is_broken(tmp_path: Path) -> None:
    load(
        tmp_path / "two",
        {"skills/x.skill.yaml": skill(A), "capabilities/m.yaml": CAPABILITY + "bind: {python: 'a:b'}\n"},
    )
    load(tmp_path / "one", {"skills/x.skill.yaml": skill(A, HEAD.replace("A skill", "The earlier"))})
    library = Library([tmp_path / "one", tmp_path / "two"])
    library.refresh()

    found = library.skill("x.y")

    assert found is not None
    assert found.name == "The earlier"
    assert told(library.problems()) == [("warning", "shadowed", 1, 5)]
    assert library.problems()[0].file.startswith(str(tmp_path / "two"))
    assert library.capability("my.capability") is not None

    (tmp_path / "one/skills/x.skill.yaml").write_text(skill("", HEAD))
    assert library.refresh()
    assert library.skill("x.y") is None


def test_a_skill_cannot_run_on_a_capability_that_cannot_be_called(tmp_path: Path) -> None:
    uses = skill("  - {id: a, uses: my.capability, input: {text: inputs.text}}\n")

    unbound = load(tmp_path, {"skills/x.skill.yaml": uses, "capabilities/m.yaml": CAPABILITY})
    assert [problem.code for problem in unbound.problems("x.y")] == ["unbound_capability"]

    (tmp_path / "capabilities/m.yaml").write_text(CAPABILITY + "bind: {python: nothing}\n")
    unbound.refresh()
    assert [problem.code for problem in unbound.problems("x.y")] == ["unknown_capability"]

    gated = "safety: {mandatory_pre_gates: [nothing]}\nbind: {python: 'a:b'}\n"
    (tmp_path / "capabilities/m.yaml").write_text(CAPABILITY + gated)
    unbound.refresh()
    assert [problem.code for problem in unbound.problems("x.y")] == ["unknown_capability"]
    with pytest.raises(SkillInvalid):
        unbound.definition("capability:my.capability")


def test_what_a_contract_says_of_calls_and_outputs_holds_for_its_steps(tmp_path: Path) -> None:
    once = CAPABILITY + "properties: {at_most_once: true}\nbind: {python: 'a:b'}\n"
    secret = CAPABILITY.replace("my.", "my.secret.").replace("{type: string}}", "{type: string, sensitive: true}}")
    library = load(
        tmp_path,
        {
            "capabilities/once.yaml": once,
            "capabilities/secret.yaml": secret + "bind: {python: 'a:b'}\n",
            "skills/x.skill.yaml": skill(
                "  - {id: a, uses: my.capability, input: {text: inputs.text}, config: {retry: {}}}\n"
                "  - {id: b, uses: my.capability, input: {text: inputs.text}, config: {retry: {}, at_most_once: false}}\n"
                "  - {id: c, uses: my.secret.capability, input: {text: inputs.text}, config: {stream: true}}\n"
            ),
        },
    )

    assert [(problem.step_id, problem.code) for problem in library.problems()] == [
        ("a", "bad_control"),
        ("c", "bad_control"),
    ]


def test_what_streams_cannot_become_a_sensitive_output(tmp_path: Path) -> None:
    step = "  - {id: a, uses: model.generate, input: {prompt: x}, output: {text: outputs.r}, config: {stream: true}}\n"
    secret = HEAD.replace("outputs: {}", "outputs: {r: {type: string, sensitive: true}}")
    library = load(tmp_path, {"skills/x.skill.yaml": skill(step, secret)})

    assert [(problem.step_id, problem.code) for problem in library.problems()] == [("a", "bad_control")]


def test_further_keys_of_a_contract_are_ignored(tmp_path: Path) -> None:
    more = "safety: {trust_level: sandbox, allowed_targets: [x]}\nowner: me\nbind: {python: 'a:b'}\n"

    library = load(tmp_path, {"capabilities/x.yaml": CAPABILITY.replace("string}", "string, format: x}") + more})

    assert library.problems() == []
    assert library.capability("my.capability") is not None


def test_what_nobody_declared_is_not_found() -> None:
    library = Library([])
    library.refresh()

    for target in ("skill:nothing", "capability:nothing", "agent:my.skill", "my.skill", "agent:text.pii.check"):
        with pytest.raises(SkillNotFound):
            library.definition(target)


@pytest.mark.parametrize(
    "content", [b"id: \xff", b"\xff\xfe\x00", b"a" * (256 * 1024 + 1), b"", b"null", b"[" * 100_000]
)
def test_a_file_that_is_no_skill_at_all_is_told_and_the_others_are_served(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "skills").mkdir()
    (tmp_path / "skills/bad.skill.yaml").write_bytes(content)
    library = load(tmp_path, {"skills/good.skill.yaml": skill(A)})

    assert [problem.severity for problem in library.problems()] == ["error"]
    assert library.skill("x.y") is not None


def test_two_errors_of_one_file_are_told_together(tmp_path: Path) -> None:
    steps = summarize("a", ", config: {condition: a b, retry: {max_attempts: 0}}") + "  - {id: b, uses: nothing}\n"

    library = load(tmp_path, {"skills/x.skill.yaml": skill(steps)})

    assert [problem.code for problem in library.problems()] == ["bad_expression", "bad_control", "unknown_capability"]


def test_the_nearest_known_name_is_told(tmp_path: Path) -> None:
    text = skill(summarize("a", ", outpt: {}") + "  - {id: b, uses: text.content.sumarize}\n")

    messages = [problem.message for problem in load(tmp_path, {"skills/x.skill.yaml": text}).problems()]

    assert "nearest known key is 'output'" in messages[0]
    assert "nearest is 'text.content.summarize'" in messages[1]
