import pytest

from backbone.lineage.naming import dimensions, mqtt_name, source_name, store_name


@pytest.mark.parametrize(
    ("root", "name"),
    [
        ("/plant/stores/on_prem", ("file", "/plant/stores/on_prem/pump/telemetry")),
        ("file:///plant/stores", ("file", "/plant/stores/pump/telemetry")),
        ("s3://lake/plants/north", ("s3://lake", "plants/north/pump/telemetry")),
        ("s3://lake", ("s3://lake", "pump/telemetry")),
    ],
)
def test_a_store_is_named_by_where_its_bytes_lie(root: str, name: tuple[str, str]) -> None:
    assert store_name(root, "pump/telemetry") == name


@pytest.mark.parametrize(
    ("broker", "namespace"),
    [
        ("broker.example", "mqtt://broker.example:1883"),
        ("broker.example:2883", "mqtt://broker.example:2883"),
        ("mqtts://user:secret@broker.example", "mqtt://broker.example:8883"),
    ],
)
def test_a_topic_filter_is_named_by_its_broker(broker: str, namespace: str) -> None:
    assert mqtt_name(broker, "plants/+/telemetry") == (namespace, "plants/+/telemetry")


def test_a_source_is_named_by_what_it_reads() -> None:
    assert source_name("mqtt", {"broker": "b:1883", "topic": "t/#"}, "north/pump", "/drop") == ("mqtt://b:1883", "t/#")
    assert source_name("files", {}, "north/pump", "/drop/north/pump") == ("file", "/drop/north/pump")
    assert source_name("cmapss", {"directory": "/data"}, "north/turbofan", "/drop") == ("file", "/data")
    assert source_name("simulator", {"seed": 1}, "north/pump", "/drop") == ("simulator://", "north/pump")


def test_a_partition_is_a_window_or_a_site() -> None:
    assert dimensions("2025-02-01|north") == {"site": "north", "date": "2025-02-01"}
    assert dimensions("north") == {"site": "north"}
