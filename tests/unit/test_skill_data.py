"""What steps of a skill read and write, and whether values are what contracts say."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.agents.skill.contract import input_problems, misfit, produced, with_defaults, withheld
from holdfast.agents.skill.data import Data, field_of
from holdfast.agents.skill.failures import InvalidConfigurationError, StepTimeoutError, error_from, failure_from
from holdfast.agents.skill.model import Field, Retry
from holdfast.agents.skill.references import Names, parse_reference
from holdfast.agents.skill.units import Unit


def data() -> Data:
    return Data(Names(inputs=["a.b", "a"]), {"user": {"id": 7}})


def read(held: Data, text: str) -> Any:
    reference = parse_reference(text)
    assert reference is not None
    return held.read(reference)


def test_a_declared_name_with_dots_is_taken_before_a_path() -> None:
    held = data()
    held.take_inputs({"a.b": 1, "a": {"b": 2, "c": [3, {"d": 4}]}})

    texts = ("inputs.a.b", "inputs.a.c.1.d", "inputs.a.c.9", "inputs.none.x", "frame.user.id")
    assert [read(held, text) for text in texts] == [1, 4, None, None, 7]


def test_mappings_of_a_target_are_made_and_what_is_no_mapping_refuses() -> None:
    held = data()
    held.write("working.a.b", 1, "overwrite", "one")
    held.write("working.a.c", 2, "overwrite", "two")

    with pytest.raises(InvalidConfigurationError, match="'b' in it is no mapping"):
        held.write("working.a.b.x", 3, "overwrite", "three")
    assert read(held, "working.a") == {"b": 1, "c": 2}


def test_writing_inside_of_an_output_does_not_change_the_output() -> None:
    held, output = data(), {"x": 1}
    held.write("working.a", output, "overwrite", "one")
    held.write("working.a.y", 2, "overwrite", "two")

    assert (output, read(held, "working.a")) == ({"x": 1}, {"x": 1, "y": 2})


def test_what_a_step_wrote_can_be_taken_back_beside_what_others_wrote() -> None:
    held = data()
    held.write("working.a.b", [1], "overwrite", "one")
    held.keep("one")
    held.write("working.a.b", 2, "append", "two")
    held.write("working.a.b", 3, "append", "two")
    held.write("vars.new", 4, "overwrite", "two")
    held.write("working.a.c", 5, "overwrite", "three")

    held.take_back("two")

    assert read(held, "working.a") == {"b": [1], "c": 5}
    assert read(held, "vars.new") is None
    held.write("vars.new", 6, "overwrite", "four")  # nobody has written it
    with pytest.raises(InvalidConfigurationError, match="by step 'one'"):
        held.write("working.a.b", 7, "overwrite", "four")


def test_what_cannot_be_merged_refuses_and_stays() -> None:
    held = data()
    held.write("vars.text", "x", "overwrite", "one")
    for strategy in ("append", "deep_merge"):
        with pytest.raises(InvalidConfigurationError):
            held.write("vars.text", {"a": 1}, strategy, "two")

    assert read(held, "vars.text") == "x"


def test_a_field_of_an_output_may_have_dots_and_indices() -> None:
    made = {"a.b": {"c": [1, 2]}, "a": {"b": 3}, "list": [[4]]}

    found = [field_of(made, path) for path in ("a.b", "a.b.c.1", "list.0.0", "a.x", "list.x")]
    assert found == [{"c": [1, 2]}, 2, 4, None, None]


FIELDS = {
    "text": Field(type="string", required=True),
    "count": Field(type="integer", default=3),
    "ratio": Field(type="number"),
    "flag": Field(type="boolean"),
    "odd": Field(type="something"),
}


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"text": "x"}, []),
        ({"text": "x", "count": 2.0, "ratio": 1, "odd": object}, []),
        ({}, ["text"]),
        ({"text": None}, ["text"]),
        ({"text": "x", "count": True}, ["count"]),
        ({"text": "x", "count": 2.5, "ratio": False, "flag": 1}, ["count", "ratio", "flag"]),
        ({"text": "x", "more": 1}, ["more"]),
    ],
)
def test_a_request_is_told_each_input_that_does_not_fit(given: dict[str, Any], names: list[str]) -> None:
    assert [name for name, _ in input_problems(FIELDS, given)] == names


def test_absent_inputs_get_their_default_and_undeclared_ones_go() -> None:
    assert with_defaults(FIELDS, {"text": "x", "more": 1}) == {
        "text": "x",
        "count": 3,
        "ratio": None,
        "flag": None,
        "odd": None,
    }


def test_null_passes_a_contract_and_a_missing_required_value_does_not() -> None:
    assert misfit(FIELDS, {"text": None}, what="output") is None
    assert misfit(FIELDS, {}, what="output") == "output 'text' is required and missing"


def test_a_result_that_is_no_mapping_is_the_one_output() -> None:
    one = {"out": Field(type="array")}

    assert produced(one, [1]) == {"out": [1]}
    assert produced(one, {}) == {"out": None}
    assert isinstance(produced(FIELDS, "text"), str)
    assert produced(one, {"out": [float("inf")]}) == "an output is not a finite number"


def test_people_see_declared_outputs_and_no_sensitive_ones() -> None:
    fields = {"a": Field(type="string", sensitive=True), "b": Field(type="any")}

    made = {"a": "x", "b": 1, "c": 2}

    assert withheld(fields, made).of(made) == {"a": "***", "b": 1}
    assert withheld(fields, {"a": None}).of({"a": None}) == {"a": None}
    assert not withheld(fields, {"b": 1}), "nothing is to be noted"


def test_an_error_is_read_back_from_its_record() -> None:
    error = error_from(failure_from(StepTimeoutError("over", item=3)))

    assert (type(error), error.message, error.details["item"], error.may_pass) == (StepTimeoutError, "over", 3, True)


def test_waits_between_attempts_grow_up_to_a_minute() -> None:
    unit, retry = Unit("a"), Retry(max_attempts=9, backoff_seconds=20, backoff_multiplier=2)
    waits = []
    for _ in range(3):
        unit.fail(StepTimeoutError("over"), retry, 0)
        waits.append(unit.retry_at)
        unit.try_again()

    assert waits == [20_000_000, 40_000_000, 60_000_000]
    assert (unit.attempt, unit.failures, unit.may_retry(StepTimeoutError("over"), retry)) == (4, 3, True)
