"""Submitting, step by step: one job or many, answered, unanswered, late, under a key."""

import base64
import json

import pytest
from redis.exceptions import OutOfMemoryError

from genqueue import scripts
from genqueue.arrivals import BATCH_BYTES, BATCH_COUNT
from genqueue.deployment import Deployment
from genqueue.errors import InvalidRequest, QueueFull, ServerUnavailable, SettingsError, StreamGone, SubmitUncertain
from genqueue.intake import Accepted, Candidate, Intake, mark_of
from genqueue.keys import SCHEMA, Keys
from genqueue.ledger import Publication
from genqueue.order import make_order
from genqueue.payload import seal
from genqueue.payload.codec import Codec
from genqueue.reservation import Reservation
from genqueue.settings import Settings
from genqueue.steps import Publish, Query, RunMany
from genqueue.submission import submit, submit_many

KEYS = Keys()
FLIGHT = "3-" + "f" * 20
SETTINGS = Settings(_env_file=None)
THE_SAME = [b"64", str(SCHEMA).encode()]
LATE = [[b"late", b"", b"", b""]]
NOW = 5000.0

IN_ORDER = (b"new", FLIGHT.encode(), b"generate.low", b"77")


def clock_shows(seconds=NOW):
    """Return the reply to joining, of a server whose clock shows these seconds."""
    return [(str(int(seconds)).encode(), b"0"), THE_SAME]


@pytest.fixture
def intake():
    """Return an intake nobody has used."""
    return Intake(Deployment(KEYS), SETTINGS, Codec())


@pytest.fixture
def offer(stage, intake):
    """Return a function that submits a question to a server with these replies behind the joining."""

    def submitting(*replies, **options):
        return stage.play(submit(make_order("Hello", "m", options), intake), clock_shows(), *replies)

    return submitting


def lost(*, sent):
    """Return what a step fails with when the connection ends."""
    error = ServerUnavailable("127.0.0.1:1/0", "cut", sent=sent)
    error.__cause__ = ConnectionResetError("cut")
    return error


def asked(stage, script=scripts.SUBMIT):
    """Return the calls of a script, one list for each round trip."""
    return [list(step.calls) for step in stage.of(RunMany) if {call.script for call in step.calls} == {script}]


def identity(intake, **options):
    """Return the identity of the question."""
    return Candidate(make_order("Hello", "m", options), intake).identity


def test_a_new_job_rings_the_broker_after_it_was_accepted(stage, offer):
    """First the ledger, then the message; the flight is the one the server named."""
    accepted = offer([list(IN_ORDER)], lane="low")
    _, run, ring = stage.steps
    assert ring == Publish((Publication(FLIGHT, "generate.low", 77),))
    assert accepted == Accepted(accepted.job, FLIGHT, mark_of(accepted.job))
    assert {accepted.job, accepted.mark} <= set(run.calls[0].args)


@pytest.mark.parametrize("word", [b"joined", b"cached", b"dup"])
def test_nothing_is_published_where_nothing_is_due(stage, offer, word):
    """A job that joined or was answered at once needs no message."""
    assert offer([[word, FLIGHT.encode(), b"", b""]]).flight == FLIGHT
    assert stage.of(Publish) == []


def test_a_lost_reply_is_asked_for_with_the_same_ids(stage, offer):
    """So the server can tell that it is the same submission."""
    accepted = offer(lost(sent=True), [[b"dup", FLIGHT.encode(), b"generate.normal", b"5"]])
    first, second = asked(stage)
    assert first == second
    assert accepted.job in first[0].args
    assert len(stage.of(Publish)) == 1


def test_a_server_that_never_got_it_is_certainly_unavailable(stage, clock, offer):
    """Soon: whoever submits is waiting."""
    started = clock.seconds
    with pytest.raises(ServerUnavailable) as raised:
        offer(*[lost(sent=False)] * 3)
    assert not raised.value.sent
    assert clock.seconds - started < 1.0


@pytest.mark.parametrize("tries", [(True, True, True), (True, False, False), (False, False, True)])
def test_one_try_that_may_have_arrived_makes_it_uncertain(stage, offer, tries):
    """The error has the id to submit again with, and the reason."""
    with pytest.raises(SubmitUncertain, match=r"may have been accepted or not \(cut\)") as raised:
        offer(*[lost(sent=sent) for sent in tries])
    assert raised.value.job_id in asked(stage)[0][0].args
    assert isinstance(raised.value.__cause__, ConnectionResetError)


def test_a_refusal_behind_a_lost_reply_is_uncertain_too(offer):
    """The first try may have been accepted; what was refused was the second."""
    with pytest.raises(SubmitUncertain):
        offer(lost(sent=True), *[[OSError("out of memory")]] * 2)


def test_a_refusal_is_certain(offer):
    """The server has answered: it is not queued."""
    with pytest.raises(ServerUnavailable, match="out of memory") as raised:
        offer(*[[OSError("out of memory")]] * 3)
    assert not raised.value.sent


@pytest.mark.parametrize(
    ("reply", "reason"), [([b"full", b"", b"", b"93"], "93 %"), (OutOfMemoryError("used memory"), "no memory left")]
)
def test_a_full_lane_is_certain_at_once(stage, clock, offer, reply, reason):
    """Whether it is the ledger that refuses or the server: nothing was queued, and when to come again is told."""
    began = clock.seconds
    with pytest.raises(QueueFull, match=rf"the lane low is full: .*{reason}.*submit again in 15 s") as raised:
        offer([reply], lane="low")
    assert (raised.value.lane, raised.value.retry_after, clock.seconds) == ("low", 15.0, began)
    assert stage.of(Publish) == []


def test_an_idempotency_key_that_finds_no_memory_is_a_full_lane(stage, offer):
    """The reservation comes before the job, and is refused in the same way."""
    with pytest.raises(QueueFull):
        offer([OutOfMemoryError("used memory")], idempotency_key="k")


def test_no_memory_behind_a_lost_reply_is_uncertain(offer):
    """What was sent first may have been accepted."""
    with pytest.raises(SubmitUncertain):
        offer(lost(sent=True), [OutOfMemoryError("used memory")])


def test_a_full_lane_is_each_items_own(stage, intake):
    """What has room is queued, in the same round trip and in those behind it."""
    items = [{"contents": str(number), "lane": lane} for number, lane in enumerate(("low", "high", "low"))]
    replies = [[b"full", b"", b"", b"97"], list(IN_ORDER), [b"full", b"", b"", b"97"]]
    outcomes = stage.play(submit_many(items, {"model": "m"}, intake), clock_shows(), replies)
    assert [type(outcome) for outcome in outcomes] == [QueueFull, Accepted, QueueFull]
    assert len(stage.of(Publish)) == 1


def test_a_server_that_is_away_when_joining_is_certain(stage, intake):
    """Though the question for its clock may have reached it."""
    with pytest.raises(ServerUnavailable) as raised:
        stage.play(submit(make_order("Hello", "m", {}), intake), last=lost(sent=True))
    assert not raised.value.sent
    assert stage.of(RunMany) == []


def test_another_deployment_is_no_outcome_of_a_job(stage, intake):
    """It is the settings that are wrong."""
    with pytest.raises(SettingsError):
        stage.play(submit_many([{"contents": "x", "model": "m"}], {}, intake), [(b"5000", b"0"), [b"32", b"1"]])


def test_the_deadline_is_by_the_servers_clock(stage, offer):
    """A client whose clock is wrong by a day asks for the same moment."""
    offer([list(IN_ORDER)], deadline=30)
    assert 5_030_000 in asked(stage)[0][0].args


def test_a_deadline_that_passed_on_the_way_is_computed_anew(stage, offer):
    """By the server's clock, read once more."""
    offer(LATE, clock_shows(7000), [list(IN_ORDER)], deadline=30)
    first, second = (calls[0].args for calls in asked(stage))
    assert (5_030_000 in first, 7_030_000 in second) == (True, True)
    assert first[1] == second[1]
    assert len(stage.of(Publish)) == 1


def test_a_deadline_too_short_to_arrive_is_refused_by_name(stage, offer):
    """Nothing was queued, nothing is published, and the message says what to change."""
    with pytest.raises(InvalidRequest, match=r"deadline: got 0\.001, expected more seconds") as raised:
        offer(LATE, clock_shows(), LATE, deadline=0.001)
    assert raised.value.field == "deadline"
    assert stage.of(Publish) == []


def test_the_options_reach_the_ledger(stage, offer):
    """Each in its place; what is not given is the setting's."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    given = {"store": "none", "max_tries": 7, "stream_ttl": 2, "result_ttl": 3, "cache_ttl": 4.5, "traceparent": trace}
    offer([list(IN_ORDER)], on_done="https://example.com/done", **given)
    args = asked(stage)[0][0].args
    assert args[10:16] == (7, SETTINGS.max_losses, 2000, 3000, 4500, int(SETTINGS.dead_ttl * 1000))
    assert args[16:] == ("none", '{"url":"https://example.com/done"}', "", trace, "restart", "", 85)


def test_an_id_of_ones_own_is_used(stage, intake, offer):
    """`new_job_id` gives it before anything is sent."""
    job = Candidate(make_order("Hello", "m", {}), intake).job
    assert offer([list(IN_ORDER)], job_id=job).job == job


@pytest.mark.parametrize("job_id", ["17", "99-0123456789abcdef0123", "0-" + "a" * 20, "1-" + "a" * 20])
def test_an_id_of_another_partition_is_refused_before_anything_is_asked(stage, intake, job_id):
    """There the same question would not meet its equals."""
    with pytest.raises(InvalidRequest, match="job_id") as raised:
        stage.play(submit(make_order("Hello", "m", {"job_id": job_id}), intake))
    assert raised.value.field == "job_id"
    assert stage.steps == []


def test_a_job_that_shares_nothing_may_be_anywhere(offer):
    """Its id need not follow from the question."""
    assert offer([list(IN_ORDER)], share="none", job_id="0-" + "a" * 20).job == "0-" + "a" * 20


@pytest.mark.parametrize("other", [False, True])
def test_a_known_id_is_the_same_job_or_an_error(stage, intake, offer, other):
    """By the question the job was first submitted with."""
    job = Candidate(make_order("Hello", "m", {}), intake).job
    known = b"0" * 64 if other else identity(intake).encode()
    replies = [[b"dup", FLIGHT.encode(), b"generate.normal", b"5"]], [known]
    if other:
        with pytest.raises(InvalidRequest, match="this very request") as raised:
            offer(*replies, job_id=job)
        assert raised.value.field == "job_id"
    else:
        assert offer(*replies, job_id=job) == Accepted(job, FLIGHT, mark_of(job))
    assert len(stage.of(Publish)) == (0 if other else 1)


def test_a_known_id_that_cannot_be_compared_is_uncertain(offer, intake):
    """The job is there; whether it is this one, the server did not say."""
    job = Candidate(make_order("Hello", "m", {}), intake).job
    with pytest.raises(SubmitUncertain, match=job):
        offer([[b"dup", FLIGHT.encode(), b"generate.normal", b"5"]], *[lost(sent=False)] * 3, job_id=job)


def rotated(*names):
    """Return the intake of a deployment with these payload keys, the first of which is in use."""
    keys = seal.parse_keys(",".join(f"{name}:{base64.b64encode(name[:1].encode() * 32).decode()}" for name in names))
    return Intake(Deployment(KEYS), SETTINGS, Codec(seal.KeyRing(keys)))


@pytest.mark.parametrize("before", [("o",), ("o", "new"), ()])
@pytest.mark.parametrize("named", [True, False])
def test_ids_and_keys_outlive_the_rotation_of_payload_keys(stage, before, named):
    """A job that was asked for under the key of before, or under none, is the same when it is asked for again."""
    earlier = rotated(*before) if before else Intake(Deployment(KEYS), SETTINGS, Codec())
    first = Candidate(make_order("Hello", "m", {}), earlier)
    known = [[b"dup", FLIGHT.encode(), b"", b""]]
    if named:
        options, replies = {"job_id": first.job}, (known, [first.identity.encode()])
    else:
        options, replies = {"idempotency_key": "k"}, ([under(earlier, job=first.job).stored], known)
    again = submit(make_order("Hello", "m", options), rotated("new", "o"))
    assert stage.play(again, clock_shows(), *replies).job == first.job
    assert asked(stage)[-1][0].args[3] == first.identity


def under(intake, job="9-" + "a" * 20, deadline=NOW + 600, keep=100, **options):
    """Return an entry that somebody has made for the question."""
    wanted = Reservation(job, int(deadline * 1000), keep * 1000, identity(intake, **options))
    return Reservation.parse(wanted.stored)


def echo(stage):
    """Return the last entry that was asked for, as the server stores it."""
    return stage.of(RunMany)[-1].calls[0].args[0]


def test_a_key_is_reserved_before_its_job_is_submitted(stage, intake, offer):
    """With the job's id, its deadline and the question."""
    theirs = under(intake, deadline=NOW + 40)
    accepted = offer([theirs.stored], [list(IN_ORDER)], idempotency_key="order 7", deadline=60, tenant="default")
    reserve, submitted = (step.calls[0] for step in stage.of(RunMany))
    assert reserve.keys == (KEYS.idempotency("default", "order 7"),)
    wanted = json.loads(reserve.args[0])
    assert (wanted["deadline_ms"], wanted["request"]) == (5_060_000, identity(intake))
    assert reserve.args[1:] == (86_400_000, b"")
    # what is submitted is what the key stands for
    assert accepted.job == theirs.job
    assert {theirs.job, theirs.deadline_ms, KEYS.idempotency("default", "order 7")} <= set(submitted.args)


def test_a_key_of_another_request_is_refused(stage, intake, offer):
    """Nothing is submitted."""
    theirs = under(intake, share="global")
    with pytest.raises(InvalidRequest, match="used for another request") as raised:
        offer([theirs.stored], idempotency_key="k")
    assert raised.value.field == "idempotency_key"
    assert asked(stage) == []


def test_a_key_and_an_id_must_agree(stage, intake, offer):
    """Both name the job."""
    theirs, job = under(intake), Candidate(make_order("Hello", "m", {}), intake).job
    with pytest.raises(InvalidRequest, match=theirs.job) as raised:
        offer([theirs.stored], idempotency_key="k", job_id=job)
    assert raised.value.field == "job_id"


def test_a_reservation_without_an_answer_is_certain(offer):
    """No job was sent."""
    with pytest.raises(ServerUnavailable) as raised:
        offer(*[lost(sent=True)] * 3, idempotency_key="k")
    assert not raised.value.sent


def test_a_reserved_job_that_never_was_is_replaced(stage, intake, offer):
    """Its caller was cut off between the two; nobody can submit it any more, and it would be known."""
    theirs, ours = under(intake, deadline=NOW - 50, keep=100), under(intake, job="9-" + "b" * 20)
    accepted = offer([theirs.stored], LATE, clock_shows(), [ours.stored], [list(IN_ORDER)], idempotency_key="k")
    assert accepted.job == ours.job
    replacing = asked(stage, scripts.RESERVE)[1][0]
    assert replacing.args[2] == theirs.stored
    assert json.loads(replacing.args[0])["job"] != theirs.job


def test_a_reserved_job_that_may_have_been_is_gone(stage, intake, offer):
    """Its retention is over: never a second run."""
    theirs = under(intake, deadline=NOW - 101, keep=100)
    with pytest.raises(StreamGone, match=theirs.job):
        offer([theirs.stored], LATE, clock_shows(), idempotency_key="k")
    assert len(asked(stage)) == len(asked(stage, scripts.RESERVE)) == 1


def test_a_replaced_reservation_may_be_another_requests_by_then(intake, offer):
    """Whoever replaced it first has the key."""
    theirs = under(intake, deadline=NOW - 50, keep=100)
    with pytest.raises(InvalidRequest, match="used for another request"):
        offer([theirs.stored], LATE, clock_shows(), [under(intake, tenant="x").stored], idempotency_key="k")


def many(stage, intake, items, *replies, **defaults):
    """Submit items to a server that gives these replies behind the joining."""
    return stage.play(submit_many(items, {"model": "m", **defaults}, intake), clock_shows(), *replies)


def test_many_go_in_one_round_trip_and_one_publication(stage, intake):
    """And come back in order."""
    items = [{"contents": str(n), "lane": lane} for n, lane in enumerate(("high", "low", 2))]
    replies = [[b"new", b"1-" + b"%d" % n * 20, b"q", b"%d" % n] for n in range(3)]
    outcomes = many(stage, intake, items, replies)
    assert [outcome.flight for outcome in outcomes] == ["1-" + str(n) * 20 for n in range(3)]
    assert [type(step) for step in stage.steps] == [Query, RunMany, Publish]
    assert [ring.stamp for ring in stage.of(Publish)[0].publications] == [0, 1, 2]


def test_each_item_has_its_own_outcome(stage, intake):
    """What is wrong with one is no matter of the others."""
    items = [{"contents": "a"}, {"contents": "b", "deadline": "soon"}, "c", {"contents": "d", "cache": "use"}, {}]
    refused = [OSError("out of memory")]
    outcomes = many(stage, intake, items, [list(IN_ORDER), *refused], refused, refused)
    kinds = [type(outcome) for outcome in outcomes]
    assert kinds == [Accepted, InvalidRequest, InvalidRequest, ServerUnavailable, InvalidRequest]
    assert [outcomes[index].field for index in (1, 2, 4)] == ["deadline", "items", "contents"]
    assert [len(calls) for calls in asked(stage)] == [2, 1, 1]


def test_a_batch_without_an_answer_is_uncertain_item_by_item(stage, intake):
    """Those behind were never sent, and are not waited for."""
    items = [{"contents": str(n)} for n in range(BATCH_COUNT + 2)]
    outcomes = many(stage, intake, items, *[lost(sent=True)] * 3)
    assert [type(outcome) for outcome in outcomes[:BATCH_COUNT]] == [SubmitUncertain] * BATCH_COUNT
    assert len({outcome.job_id for outcome in outcomes[:BATCH_COUNT]}) == BATCH_COUNT
    assert [(type(outcome), outcome.sent) for outcome in outcomes[BATCH_COUNT:]] == [(ServerUnavailable, False)] * 2


@pytest.mark.parametrize(
    ("count", "size", "batches"),
    [(BATCH_COUNT, 1, 1), (BATCH_COUNT + 1, 1, 2), (3, BATCH_BYTES // 2, 3), (3, BATCH_BYTES * 2, 3), (0, 1, 0)],
)
def test_batches_are_bounded_in_number_and_bytes(intake, count, size, batches):
    """However many items there are; one that is larger goes alone."""
    items = ({"contents": "x" * size} for _ in range(count))
    trips = []

    def answering(step):
        if not isinstance(step, RunMany):
            return clock_shows()
        trips.append(len(step.calls))
        return [list(IN_ORDER)] * len(step.calls)

    def carried_out():
        operation = submit_many(items, {"model": "m"}, intake)
        step = next(operation)
        while True:
            step = operation.send(answering(step))

    with pytest.raises(StopIteration) as stop:
        carried_out()
    assert len(trips) == batches
    assert sum(trips) == len(stop.value.value) == count


def test_an_item_overrides_the_defaults(stage, intake):
    """Any argument may be one."""
    many(stage, intake, [{"contents": "a"}, {"contents": "a", "lane": "low"}], [list(IN_ORDER)] * 2, lane="high")
    assert [call.args[4] for call in asked(stage)[0]] == ["high", "low"]


def test_late_ones_of_a_batch_are_tried_again_together(stage, intake):
    """The clock is read once for all of them."""
    items = [{"contents": str(n), "deadline": 5} for n in range(3)]
    first = [*LATE, list(IN_ORDER), *LATE]
    outcomes = many(stage, intake, items, first, clock_shows(9000), [list(IN_ORDER), *LATE])
    assert [type(outcome) for outcome in outcomes] == [Accepted, Accepted, InvalidRequest]
    assert [len(calls) for calls in asked(stage)] == [3, 2]
