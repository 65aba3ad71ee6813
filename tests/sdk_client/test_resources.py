"""The client's shapes and the hub's are the same, field by field."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from pydantic import BaseModel

from edgewise import resources
from edgewise.errors import EdgewiseError
from edgewise.resources import Budget, Stage

schemas = pytest.importorskip("edgewise_hub.api.schemas")

PAIRS = {
    "Page": "Page",
    "System": "System",
    "SignInCode": "SignInCodeOut",
    "JoinToken": "JoinTokenOut",
    "DeviceModel": "DeviceModel",
    "Device": "DeviceOut",
    "Group": "GroupOut",
    "DeviceProfile": "ProfileOut",
    "Bundle": "BundleOut",
    "Version": "VersionOut",
    "Quality": "QualityRules",
    "Model": "ModelOut",
    "Budget": "BudgetIn",
    "VersionName": "StudentIn",
    "Techniques": "TechniquesIn",
    "Job": "JobOut",
    "Stage": "StageIn",
    "Gates": "GatesIn",
    "RolloutPlan": "RolloutPlanIn",
    "GateReading": "GateReading",
    "RolloutDevice": "RolloutDeviceOut",
    "RolloutEvent": "RolloutEventOut",
    "RolloutStage": "RolloutStageOut",
    "Rollout": "RolloutOut",
    "RolloutDetail": "RolloutDetail",
    "Guardrails": "GuardrailsIn",
    "ExperimentArm": "ExperimentArm",
    "ExperimentDevice": "ExperimentDeviceOut",
    "ExperimentPoint": "ExperimentPoint",
    "ExperimentEscalated": "ExperimentEscalated",
    "Experiment": "ExperimentOut",
    "ExperimentDetail": "ExperimentDetail",
    "PanelReading": "PanelReading",
    "Watch": "WatchOut",
    "DeviceWatch": "DeviceWatchOut",
    "BrokenInputs": "BrokenOut",
    "ChangedClass": "ChangedOut",
    "Cluster": "ClusterOut",
    "Column": "ColumnOut",
    "Prior": "PriorOut",
    "Since": "SinceOut",
    "DeviceHistory": "DeviceHistoryOut",
    "Judgement": "JudgementOut",
    "DriftGroup": "DriftGroup",
    "HealthGauge": "GaugeOut",
    "HealthSpan": "HealthSpan",
    "ModelLatency": "ModelLatency",
    "DeviceHealth": "DeviceHealth",
    "Rate": "RateOut",
    "Power": "PowerOut",
    "SmallestShift": "SmallestShiftOut",
    "BundleCalibration": "BundleCalibrationOut",
    "Calibration": "CalibrationOut",
    "CalibrationQuote": "CalibrationQuote",
    "Alert": "AlertOut",
    "GroupAccuracy": "GroupAccuracy",
    "SampleRequest": "SampleRequestOut",
    "SliceComparison": "SliceComparison",
    "TrainingRun": "TrainingRunOut",
    "Trigger": "TriggerOut",
}


def of_client(name: str) -> dict[str, tuple[bool, frozenset[str]]]:
    """Field -> (is it required, the words that it may be)."""
    struct = getattr(resources, name)
    schema = msgspec.json.schema_components([struct])[1][struct.__name__]
    return _fields(schema)


def of_hub(name: str) -> dict[str, tuple[bool, frozenset[str]]]:
    model: type[BaseModel] = getattr(schemas, name)
    return _fields(model.model_json_schema(mode="validation"))


def _fields(schema: dict[str, Any]) -> dict[str, tuple[bool, frozenset[str]]]:
    required = schema.get("required", [])
    return {
        field: (field in required, frozenset(shape.get("enum", []))) for field, shape in schema["properties"].items()
    }


@pytest.mark.parametrize(("client", "hub"), PAIRS.items(), ids=PAIRS)
def test_a_shape_has_the_hubs_fields_and_words(client: str, hub: str) -> None:
    assert of_client(client) == of_hub(hub)


def test_every_shape_is_compared() -> None:
    ours = {
        name
        for name, value in vars(resources).items()
        if isinstance(value, type) and issubclass(value, resources.Resource) and value is not resources.Resource
    }
    of_the_wire = {"Quality"}
    assert ours - {"Event"} | of_the_wire == set(PAIRS)


def test_every_answer_of_the_hub_has_a_shape_here() -> None:
    answers = {
        name
        for name, value in vars(schemas).items()
        if isinstance(value, type)
        and issubclass(value, BaseModel)
        and not issubclass(value, schemas.In)
        and value.__module__ == schemas.__name__
    }
    # A console's session and the error document are read elsewhere: by the console, and by the transport.
    assert answers - {"Page", "Problem", "SessionOut", "In"} <= set(PAIRS.values())


def test_gates_default_to_what_the_hub_defaults_to() -> None:
    assert msgspec.to_builtins(resources.Gates()) == schemas.GatesIn().model_dump()
    sent = msgspec.json.encode(resources.RolloutPlan())
    assert schemas.RolloutPlanIn.model_validate_json(sent) == schemas.RolloutPlanIn()


def test_what_the_client_asks_for_the_hub_takes() -> None:
    plan = resources.RolloutPlan(group="a", stages=[Stage.parse("2"), Stage.parse("50%")])
    assert schemas.RolloutPlanIn.model_validate_json(msgspec.json.encode(plan)).stages[1].percent == 50


def test_an_unknown_field_is_ignored() -> None:
    group = msgspec.json.decode(b'{"name":"a","devices":2,"online":1,"colour":"red"}', type=resources.Group)
    assert (group.name, group.devices, group.online) == ("a", 2, 1)


def test_a_join_token_does_not_print_its_secret() -> None:
    token = resources.JoinToken(id="t1", token="ew_secret", groups=[], uses=1, expires_at=0)
    assert "ew_secret" not in repr(token) and "ew_secret" not in f"{[token]}"


@pytest.mark.parametrize(
    ("text", "stage"),
    [("1", Stage(count=1)), (" 12 ", Stage(count=12)), ("25%", Stage(percent=25)), ("0.5 %", Stage(percent=0.5))],
)
def test_a_stage_is_a_number_or_a_share(text: str, stage: Stage) -> None:
    assert Stage.parse(text) == stage


@pytest.mark.parametrize("text", ["", "0", "0%", "101%", "-1", "1.5", "ten", "1e3", "25%%", "١"])
def test_a_stage_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(EdgewiseError, match="expected a number of devices"):
        Stage.parse(text)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", {}),
        (
            "latency=0.5x,size=0.25x,drop=0.005",
            {"max_latency_ratio": 0.5, "max_size_ratio": 0.25, "max_metric_drop": 0.005},
        ),
        (" Latency = 5 ms , size=200KB", {"max_latency_p95": 5.0, "max_size": 200_000.0}),
        (
            "latency=500us,ram=64MiB,metric=0.9",
            {"max_latency_p95": 0.5, "max_peak_ram": 64 * 2.0**20, "min_metric": 0.9},
        ),
        ("drop=0,metric=1e-3", {"max_metric_drop": 0.0, "min_metric": 0.001}),
    ],
)
def test_a_budget_is_read_from_text_and_taken_by_the_hub(text: str, fields: dict[str, float]) -> None:
    budget = Budget.parse(text)
    assert budget.fields() == pytest.approx(fields)
    sent = schemas.BudgetIn.model_validate_json(msgspec.json.encode(budget))
    assert sent.model_dump(exclude_none=True) == pytest.approx(fields)


@pytest.mark.parametrize(
    "text",
    [
        "latency",
        "latency=5",
        "latency=0x",
        "size=-1KB",
        "size=1KB,size=2KB",
        "drop=1%",
        "speed=2x",
        "size=inf",
        "latency=nanms",
    ],
)
def test_a_budget_that_cannot_be_read_names_the_part(text: str) -> None:
    with pytest.raises(EdgewiseError, match=r"budget: expected some of latency=5ms.*each once; got") as caught:
        Budget.parse(text)
    assert caught.value.code == "bad-budget"
