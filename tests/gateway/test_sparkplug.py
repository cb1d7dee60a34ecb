"""Payloads made by pysparkplug become readings; what is missing is asked for, what is wrong is told."""

from collections.abc import Iterable
from typing import Any

import orjson
import pysparkplug
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pysparkplug import DBirth, DData, DDeath, Metric, NBirth, NCmd, NData, NDeath
from pysparkplug._protobuf import Payload as Protobuf

from gateway import reasons, sparkplug
from gateway.decoding import Sent, decode
from gateway.ports import Message
from gateway.sparkplug import Decoded, SparkplugDecoder

Type = pysparkplug.DataType
NODE, DEVICE = "spBv1.0/plant/{}/edge", "spBv1.0/plant/{}/edge/P-1"
MS = 1_735_819_200_000
US = MS * 1000


def metric(name: str | None, value: Any, kind: Type = Type.DOUBLE, **more: Any) -> Metric:
    return Metric(more.pop("timestamp", MS), name, kind, value=value, **more)


BD_SEQ = metric("bdSeq", 3, Type.UINT64)
FLOW, COUNT = metric("flow", 40.0, alias=1), metric("count", -7, Type.INT32, alias=2)


class Host:
    """A decoder and a node that numbers what it sends."""

    def __init__(self, **settings: Any) -> None:
        self.decoder, self.seq, self.now = SparkplugDecoder(**settings), 0, US

    def sends(self, topic: str, payload: Any, include_dtypes: bool = False) -> Decoded:
        self.now += 1000
        raw = payload if isinstance(payload, bytes) else payload.encode(include_dtypes=include_dtypes)
        return self.decoder.decode(topic, raw, self.now)

    def node_is_born(self, *metrics: Metric, bd_seq: Metric = BD_SEQ) -> Decoded:
        self.seq = 0
        return self.sends(NODE.format("NBIRTH"), NBirth(MS, 0, (bd_seq, *metrics)))

    def device_is_born(self, *metrics: Metric) -> Decoded:
        return self.sends(DEVICE.format("DBIRTH"), DBirth(MS, self.next(), metrics or (FLOW, COUNT)))

    def data(self, *metrics: Metric, **more: Any) -> Decoded:
        return self.sends(DEVICE.format("DDATA"), DData(MS, self.next(), metrics), **more)

    def next(self) -> int:
        self.seq = (self.seq + 1) % 256
        return self.seq


@pytest.fixture
def host() -> Host:
    found = Host()
    found.node_is_born()
    found.device_is_born()
    return found


def forms(decoded: Decoded) -> list[dict[str, Any]]:
    assert decoded.undecodable is None
    return [orjson.loads(message.payload) for message in decoded.messages]


def values(decoded: Decoded) -> list[dict[str, Any]]:
    return [form["values"] for form in forms(decoded)]


def reason(decoded: Decoded) -> str | None:
    return decoded.undecodable.reason if decoded.undecodable else None


def test_a_birth_and_data_by_alias_are_readings_of_the_device() -> None:
    host = Host()
    assert host.node_is_born().messages == ()
    born = host.device_is_born()
    data = host.data(metric(None, 41.5, alias=1, timestamp=MS + 5), metric(None, -8, Type.INT32, alias=2))
    assert [(m.source, m.equipment) for m in (*born.messages, *data.messages)] == [("plant/edge", "P-1")] * 3
    assert values(born) == [{"flow": 40.0, "count": -7}]
    assert [(form["ts"], form["values"]) for form in forms(data)] == [(MS + 5, {"flow": 41.5}), (MS, {"count": -8})]
    told = [decode(message.payload) for message in (*born.messages, *data.messages)]
    assert all(isinstance(sent, Sent) for sent in told)
    assert [sent.seq for sent in told] == [0, 1, 2]
    assert {sent.session for sent in told} == {f"3-{US + 1000}"}
    assert told[0].ts_us == US
    assert born.commands == data.commands == ()


def test_a_nodes_own_metrics_are_a_reading_of_the_node_if_it_is_a_machine() -> None:
    temperature = metric("temperature", 20.5)
    assert values(Host().node_is_born(temperature, metric("Node Control/Rebirth", False, Type.BOOLEAN))) == [
        {"temperature": 20.5}
    ]
    assert Host(is_equipment=lambda name: name != "edge").node_is_born(temperature).messages == ()
    host = Host()
    host.node_is_born(temperature)
    data = host.sends(NODE.format("NDATA"), NData(MS, host.next(), (temperature,)))
    assert [message.equipment for message in data.messages] == ["edge"]


WHOLE = {
    Type.INT8: (-(2**7), 2**7 - 1),
    Type.INT16: (-(2**15), 2**15 - 1),
    Type.INT32: (-(2**31), 2**31 - 1),
    Type.INT64: (-(2**63), 2**63 - 1),
    Type.UINT8: (0, 2**8 - 1),
    Type.UINT16: (0, 2**16 - 1),
    Type.UINT32: (0, 2**32 - 1),
    Type.UINT64: (0, 2**64 - 1),
}


@st.composite
def metrics(draw: st.DrawFn) -> list[Metric]:
    found = []
    for alias in range(1, draw(st.integers(1, 6)) + 1):
        kind = draw(st.sampled_from([*WHOLE, Type.DOUBLE, Type.FLOAT, Type.BOOLEAN, Type.STRING]))
        match kind:
            case Type.DOUBLE:
                value: Any = draw(st.floats(allow_infinity=False))
            case Type.FLOAT:
                value = draw(st.floats(allow_infinity=False, width=32))
            case Type.BOOLEAN:
                value = draw(st.booleans())
            case Type.STRING:
                value = draw(st.text(max_size=5))
            case _:
                value = draw(st.integers(*WHOLE[kind]))
        value = draw(st.none() | st.just(value))
        ts = MS + draw(st.integers(0, 2))
        found.append(metric(f"m{alias}", value, kind, alias=alias, timestamp=ts, is_historical=draw(st.booleans())))
    return found


@given(metrics(), st.booleans(), st.booleans())
def test_values_times_and_nulls_come_through(sent: list[Metric], by_alias: bool, with_types: bool) -> None:
    host = Host()
    host.node_is_born()
    host.device_is_born(*sent)
    again = [Metric(**{f: getattr(m, f) for f in m.__dataclass_fields__} | {"name": None}) for m in sent]
    decoded = host.data(*(again if by_alias else sent), include_dtypes=with_types)
    expected: dict[tuple[int, bool], dict[str, Any]] = {}
    for m in sent:
        value = None if m.value is None or m.value != m.value else m.value
        expected.setdefault((m.timestamp or 0, m.is_historical), {})[m.name or ""] = value
    found = {(form["ts"], form.get("is_historical", False)): form["values"] for form in forms(decoded)}
    assert found == expected
    assert [form["seq"] for form in forms(decoded)] == sorted({form["seq"] for form in forms(decoded)})


def test_a_sign_may_fill_the_whole_field(host: Host) -> None:
    payload = Protobuf(timestamp=MS, seq=host.next())
    payload.metrics.add(name="a", datatype=Type.INT8, int_value=2**32 - 3)
    payload.metrics.add(name="b", datatype=Type.INT8, int_value=2**8 - 3)
    payload.metrics.add(name="c", datatype=Type.INT16, long_value=2**64 - 3)
    assert values(host.sends(DEVICE.format("DDATA"), payload.SerializeToString())) == [{"a": -3, "b": -3, "c": -3}]


def test_a_whole_number_that_its_type_cannot_hold_is_no_reading(host: Host) -> None:
    payload = Protobuf(timestamp=MS, seq=host.next())
    payload.metrics.add(name="a", datatype=Type.INT8, int_value=300)
    assert reason(host.sends(DEVICE.format("DDATA"), payload.SerializeToString())) == reasons.NOT_A_READING


def test_units_are_the_births(host: Host) -> None:
    host = Host(units={"°C": "degC"}, columns={"Pump/T": "bearing_temp_c"})
    host.node_is_born()
    birth = Protobuf(timestamp=MS, seq=host.next())
    for name, unit in (("Pump/T", "°C"), ("flow", "m3/h"), ("count", None)):
        added = birth.metrics.add(name=name, datatype=Type.DOUBLE, double_value=1.0)
        if unit:
            added.properties.keys.append("engUnit")
            added.properties.values.add(type=Type.STRING, string_value=unit)
    host.sends(DEVICE.format("DBIRTH"), birth.SerializeToString())
    (form,) = forms(host.data(metric("Pump/T", 60.0)))
    assert form["values"] == {"bearing_temp_c": 60.0}
    assert form["units"] == {"bearing_temp_c": "degC", "flow": "m3/h"}


def test_what_a_device_does_not_send_is_silent_or_held(host: Host) -> None:
    only_flow = metric(None, 41.0, alias=1)
    assert values(host.data(only_flow)) == [{"flow": 41.0}]
    holding = Host(hold=True)
    holding.node_is_born()
    holding.device_is_born()
    assert values(holding.data(only_flow)) == [{"flow": 41.0, "count": -7}]
    assert values(holding.data(metric(None, 9.0, alias=1, is_historical=True))) == [{"flow": 9.0}]
    assert values(holding.data(metric(None, None, alias=2))) == [{"flow": 41.0, "count": None}]


def rebirth(decoded: Decoded) -> NCmd | None:
    """The request, if there is one."""
    if not decoded.commands:
        return None
    (command,) = decoded.commands
    assert command.topic == "spBv1.0/plant/NCMD/edge"
    request = NCmd.decode(command.payload)
    assert [(m.name, m.datatype, m.value) for m in request.metrics] == [("Node Control/Rebirth", Type.BOOLEAN, True)]
    return request


def test_a_gap_asks_for_a_rebirth_and_leaves_out_the_numbers_of_what_was_lost(host: Host) -> None:
    (before,) = forms(host.data(FLOW))
    host.seq = (host.seq + 3) % 256
    gap = host.data(FLOW)
    assert rebirth(gap) is not None
    (after,) = forms(gap)
    assert after["seq"] == before["seq"] + 4
    assert host.data(FLOW).commands == ()


@given(st.lists(st.integers(0, 300), max_size=12))
def test_ids_rise_over_the_turn_of_the_counter_whatever_is_lost(losses: list[int]) -> None:
    host = Host()
    host.node_is_born()
    (first,) = forms(host.device_is_born())
    seen = [first["seq"]]
    for lost in losses:
        host.seq = (host.seq + lost) % 256
        decoded = host.data(metric("flow", float(len(seen))))
        seen += [form["seq"] for form in forms(decoded)]
        assert seen[-1] - seen[-2] == lost % 256 + 1
    assert len(seen) == len(losses) + 1


def test_data_that_come_twice_in_a_row_give_the_same_messages(host: Host) -> None:
    data = DData(MS, host.next(), (FLOW,)).encode()
    first, again = (host.sends(DEVICE.format("DDATA"), data) for _ in range(2))
    assert first.messages == again.messages
    assert again.commands == ()


def test_what_was_not_born_here_is_kept_apart_and_asked_for_once_in_a_while() -> None:
    host = Host(rebirth_every_s=1.0)
    unknown = host.data(FLOW)
    assert reason(unknown) == reasons.NO_BIRTH
    assert rebirth(unknown) is not None
    assert host.data(FLOW).commands == ()
    host.now += 1_000_000
    assert rebirth(host.data(FLOW)) is not None


def test_a_device_that_was_not_born_or_died_has_no_readings(host: Host) -> None:
    other = "spBv1.0/plant/DDATA/edge/P-2"
    assert reason(host.sends(other, DData(MS, host.next(), (FLOW,)))) == reasons.NO_BIRTH
    host.sends(DEVICE.format("DDEATH"), DDeath(MS, host.next()))
    dead = host.data(FLOW)
    assert reason(dead) == reasons.NO_BIRTH
    assert dead.undecodable is not None
    assert dead.undecodable.equipment == "P-1"


def test_a_death_ends_the_session_it_belongs_to(host: Host) -> None:
    host.sends(NODE.format("NDEATH"), NDeath(MS, metric("bdSeq", 2, Type.UINT64)))
    assert reason(host.data(FLOW)) is None
    host.sends(NODE.format("NDEATH"), NDeath(MS, BD_SEQ))
    assert reason(host.data(FLOW)) == reasons.NO_BIRTH


def test_every_birth_begins_a_session_of_its_own(host: Host) -> None:
    (before,) = forms(host.data(FLOW))
    host.node_is_born()
    (after,) = forms(host.device_is_born())
    assert before["session"] != after["session"]
    assert after["seq"] == 0


def test_after_a_time_without_a_connection_nothing_is_taken_for_known(host: Host) -> None:
    host.decoder.forget()
    assert reason(host.data(FLOW)) == reasons.NO_BIRTH


def test_an_alias_that_nobody_announced_is_asked_for(host: Host) -> None:
    found = host.data(metric(None, 1.0, alias=99))
    assert reason(found) == reasons.UNKNOWN_ALIAS
    assert rebirth(found) is not None


def with_name(name: bytes) -> bytes:
    raw = bytearray(DData(MS, 2, (metric("xx", 1.0),)).encode())
    at = raw.index(b"xx")
    raw[at : at + 2] = name
    return bytes(raw)


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"\xff\xff", reasons.INVALID_PROTOBUF),
        (DData(MS, 2, (FLOW,)).encode()[:-3], reasons.INVALID_PROTOBUF),
        (b"\x00" * ((1 << 20) + 1), reasons.TOO_LARGE),
        (with_name(b"\xff\xfe"), reasons.INVALID_UTF8),
        (Protobuf(timestamp=MS).SerializeToString(), reasons.NOT_A_READING),
        (DData(MS, 256, (FLOW,)).encode(), reasons.NOT_A_READING),
        (DData(MS, 2, (metric(None, 1.0),)).encode(), reasons.NOT_A_READING),
        (DData(MS, 2, (metric("flow", float("inf")),)).encode(), reasons.NOT_FINITE),
        (DData(MS, 2, (FLOW, FLOW)).encode(), reasons.DUPLICATE_KEY),
    ],
)
def test_a_payload_that_is_none_has_its_reason(host: Host, payload: bytes, why: str) -> None:
    found = host.sends(DEVICE.format("DDATA"), payload)
    assert reason(found) == why
    assert found.undecodable is not None
    assert (found.undecodable.source, found.undecodable.raw) == ("plant/edge", payload)


@pytest.mark.parametrize(
    ("topic", "why"),
    [
        ("spBv1.0/STATE/scada", None),
        ("spBv1.0/plant/NCMD/edge", None),
        ("plant/P-1/telemetry", None),
        ("spBv1.0/plant/DDATA/edge", reasons.NOT_A_READING),
        ("spBv1.0/plant/NDATA/edge/P-1", reasons.NOT_A_READING),
        ("spBv1.0/plant/DDATA/edge/P-1/more", reasons.NOT_A_READING),
    ],
)
def test_topics_without_readings_are_left_alone_and_wrong_ones_told(host: Host, topic: str, why: str | None) -> None:
    found = host.sends(topic, DData(MS, 2, (FLOW,)))
    assert reason(found) == why
    assert found.messages == ()


def test_tables_and_bytes_are_left_out(host: Host) -> None:
    payload = Protobuf(timestamp=MS, seq=host.next())
    payload.metrics.add(name="table", datatype=Type.DATASET).dataset_value.num_of_columns = 1
    payload.metrics.add(name="raw", datatype=Type.BYTES, bytes_value=b"\x00")
    payload.metrics.add(name="flow", datatype=Type.DOUBLE, double_value=1.0)
    assert values(host.sends(DEVICE.format("DDATA"), payload.SerializeToString())) == [{"flow": 1.0}]


KINDS = st.sampled_from(["NBIRTH", "DBIRTH", "NDATA", "DDATA", "NDEATH", "DDEATH"])


@st.composite
def mangled(draw: st.DrawFn) -> tuple[str, bytes]:
    kind = draw(KINDS)
    raw = bytearray(NBirth(MS, draw(st.integers(0, 255)), (BD_SEQ, FLOW, COUNT)).encode())
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(raw)))
        raw[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return (NODE if kind.startswith("N") else DEVICE).format(kind), bytes(raw)


@given(st.lists(mangled() | st.tuples(KINDS.map(DEVICE.format), st.binary(max_size=30)), max_size=12))
def test_nothing_is_raised_and_every_message_is_of_the_form(sent: Iterable[tuple[str, bytes]]) -> None:
    host, ids = Host(), dict[tuple[str, int], tuple[str, bytes, Message]]()
    for topic, payload in sent:
        found = host.sends(topic, payload)
        for message in found.messages:
            form = orjson.loads(message.payload)
            known = ids.setdefault((form["session"], form["seq"]), (topic, payload, message))
            assert known == (topic, payload, message), "an id is of one reading; sent again, it is the same"
            assert set(form) <= {"ts", "seq", "session", "values", "units", "is_historical"}


def test_what_a_device_sends_is_not_what_its_node_sent_before_though_it_is_the_same() -> None:
    host = Host()
    payload = NBirth(MS, 0, (BD_SEQ, FLOW)).encode()
    host.sends(NODE.format("NBIRTH"), payload)
    (message,) = host.sends(DEVICE.format("DBIRTH"), payload).messages
    assert message.equipment == "P-1"


def test_a_payload_of_very_many_moments_is_refused_and_the_next_is_taken(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparkplug, "MOST_READINGS", 3)
    assert reason(host.data(*(metric("flow", 1.0, timestamp=MS + n) for n in range(4)))) == reasons.TOO_LARGE
    assert len(host.data(*(metric("flow", 1.0, timestamp=MS + n) for n in range(3))).messages) == 3


def test_held_values_do_not_make_gigabytes_of_a_megabyte() -> None:
    host = Host(hold=True)
    host.node_is_born()
    names = [f"{'n' * 1000}{number}" for number in range(900)]
    host.device_is_born(*(metric(name, 1.0, alias=number) for number, name in enumerate(names)))
    moments = [metric(None, float(n), alias=n % 900, timestamp=MS + n) for n in range(9000)]
    refused = host.data(*moments)
    assert refused.undecodable is not None
    assert (refused.undecodable.reason, refused.messages) == (reasons.TOO_LARGE, ())
    assert len(host.data(*moments[:5]).messages) == 5


def test_nodes_that_take_too_much_room_together_have_to_be_born_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparkplug, "MOST_ROOM", 100_000)
    host, devices = Host(), "spBv1.0/plant/{}/{}/P-1"

    def born(node: str, *metrics: Metric) -> Decoded:
        host.sends(f"spBv1.0/plant/NBIRTH/{node}", NBirth(MS, 0, (BD_SEQ,)))
        return host.sends(devices.format("DBIRTH", node), DBirth(MS, 1, metrics or (FLOW,)))

    def sends(node: str, seq: int) -> str | None:
        return reason(host.sends(devices.format("DDATA", node), DData(MS, seq, (FLOW,))))

    born("first")
    born("second")
    assert [sends("first", 2), sends("second", 2)] == [None, None]
    wide = tuple(metric(f"m{number}", 1.0) for number in range(200))
    born("third", *wide)
    assert [sends("first", 3), sends("third", 2)] == [None, None]
    born("fourth", *wide)
    assert [sends(node, 4) for node in ("first", "second", "third")] == [reasons.NO_BIRTH] * 3
    assert sends("fourth", 2) is None
    for number in range(3, 200):  # one node with ever more devices goes, too
        topic = f"spBv1.0/plant/DBIRTH/fourth/D-{number}"
        if reason(host.sends(topic, DBirth(MS, number, wide))) is not None:
            break
    assert number < 10
    assert born("first").undecodable is None
