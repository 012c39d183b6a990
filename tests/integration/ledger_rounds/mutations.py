"""The ledger with one mechanism switched off, to show that the rounds notice."""

from __future__ import annotations

from dataclasses import dataclass

from genqueue.scripts import SCRIPTS, Script


@dataclass(frozen=True)
class Mutation:
    """An edit of the scripts' text.

    Attributes:
        name: what is missing then.
        old: the text of the mechanism, as it stands in one or more scripts.
        new: what stands there instead.
        seed: of the first round that notices. A change of the rounds may make it another: then it takes longer.
    """

    name: str
    old: str
    new: str
    seed: int = 0

    def scripts(self) -> dict[str, Script]:
        """Return the edited scripts by name; none when the text is in no script."""
        return {
            script.name: Script.of(script.name, script.source.replace(self.old, self.new))
            for script in SCRIPTS
            if self.old in script.source
        }


MUTATIONS = (
    Mutation(
        "append looks at no token",
        "if found[1] ~= ARGV[3] then return {'refused', 0} end",
        "if not found[2] then return {'refused', 0} end",
    ),
    Mutation("a gap is not refused", "if first > flight.written + 1 then return 'gap' end", ""),
    Mutation("written numbers are not skipped", "if number > flight.written then", "if true then"),
    Mutation("stamps are not spent", "if stamp <= flight.spent then return 'spent' end", "", seed=26),
    Mutation("stamps do not rise", "math.max(now, flight.stamp + 1)", "now"),
    Mutation(
        "the stream is trimmed at a restart",
        "elseif flight.delta == 1 then\n",
        "elseif flight.delta == 1 then redis.call('XTRIM', flight.events, 'MINID', flight.last)\n",
    ),
    Mutation("a restart is not announced", "elseif flight.delta == 1 then\n", "elseif false then\n", seed=2),
    Mutation(
        "lost messages are not published again",
        "publish(flight, 'unheard')",
        "",
    ),
    Mutation(
        "the last to leave ends nothing",
        "if redis.call('ZCARD', members_key(flight.id)) == 1 then",
        "if false then",
        seed=4,
    ),
    Mutation("a late job is accepted", "if deadline <= now then return {'late', '', '', ''} end", "", seed=17),
    Mutation("a known job is accepted again", "if known then return answer_again(known) end", ""),
    Mutation(
        "a settled token is forgotten",
        "if flight.settled_by == token then return reply('already', flight.state) end",
        "",
    ),
    Mutation("settle looks at no token", "if flight.token ~= token then return reply('refused') end", "", seed=21),
    Mutation(
        "a token outlives its attempt", "redis.call('HDEL', flight_key(flight.id), 'token', 'alone', 'resumed')", ""
    ),
    Mutation("a holder is not called off", "redis.call('PUBLISH', flight.inbox, ", "tostring("),
    Mutation("a renewal does not renew", "redis.call('HSET', key, 'lease', lease)", "", seed=29),
    Mutation("leases never expire", "flight.lease <= now then return judge(", "false then return judge(", seed=3),
    Mutation("no grace after an outage", "if now < grace and", "if false and"),
    Mutation("deadlines do not pass", "if expire_members(flight) then return end", ""),
    Mutation("tries are not counted", "save(flight, 'tries', flight.tries + 1)", "", seed=4),
    Mutation("losses are not counted", "save(flight, 'losses', flight.losses + 1)", "", seed=21),
    Mutation(
        "append rings with a stale id before",
        "'written', flight.written, 'last', flight.last)",
        "'written', flight.written)",
        seed=16,
    ),
    Mutation(
        "events ring with a stale id before",
        "if add_entry(flight, fields) then save(flight, 'last', flight.last) end",
        "add_entry(flight, fields)",
        seed=4,
    ),
    Mutation(
        "a waiting flight is forgotten",
        "flight['until'] <= now then return publish(flight, 'due') end",
        "false then return publish(flight, 'due') end",
        seed=7,
    ),
    Mutation("a join keeps nothing alive", "    keep_at_least(key, lifetime(flight, now))\n", "", seed=39),
    Mutation("the ledger is kept for ever", "keep_at_least(ledger_key, lifetime(flight, now))", ""),
    Mutation("a lifted run goes on", "    call_off(flight)\n    end_attempt(flight, 'lifted')", "", seed=16),
    Mutation("the end of a flight is not noted", "    conclude(flight, job, state, ending, now)\n", ""),
    Mutation("who leaves is not noted", "  conclude(flight, job, reason, '{}', now)\n", ""),
    Mutation("a completion is taken by two", "redis.call('ZADD', outbox_key, taken_until, job)", ""),
    Mutation(
        "a failed delivery is forgotten",
        "redis.call('ZADD', outbox_key, 'XX', now + ARGV[5], job)",
        "redis.call('ZREM', outbox_key, job)",
    ),
    Mutation(
        "what was told is told again",
        "redis.call('ZREM', outbox_key, job) == 1",
        "redis.call('ZSCORE', outbox_key, job)",
    ),
    Mutation(
        "whoever took a completion before has it tried again",
        "if outcome ~= 'delivered' and redis.call('HGET', key, 'done_token') ~= ARGV[3] then return 'refused' end",
        "",
        seed=8,
    ),
    Mutation(
        "a member that stores nothing changes nothing", "if store == 'none' then save(", "if false then save(", seed=4
    ),
    Mutation("every end keeps the request", "if state ~= 'failed' or flight.store == 'none' then", "if false then"),
    Mutation("no end keeps the request", "if state ~= 'failed' or flight.store == 'none' then", "if true then", seed=4),
    Mutation("a purge leaves the stream", "flight_key(id), events_key(id))", "flight_key(id))"),
    Mutation("a purge ends nothing", "    finish(flight, 'cancelled', {}, now)\n", "", seed=17),
    Mutation("a purge takes others along", "if heir then step_out(flight) else", "if false then else", seed=2),
    Mutation("a purged job stays aboard", "redis.call('ZREM', members_key(id), job)", "", seed=2),
    Mutation(
        "a purge says nothing to readers", "if live and not left then announce(", "if false then announce(", seed=2
    ),
    Mutation("a purge leaves the note of the end", "redis.call('XDEL', finished_key, finished)", ""),
    Mutation(
        "a purge leaves the completion", "redis.call('ZREM', outbox_key, job)\n  if finished", "if finished", seed=4
    ),
    Mutation("a purge leaves the cached answer", "redis.call('DEL', cached)\n", "\n", seed=11),
    Mutation(
        "a purge leaves the answer on its list", "redis.call('ZREM', cached_key, fingerprint)\n  end", "end", seed=11
    ),
    Mutation("a purge leaves the dead letter", "  redis.call('ZREM', dead_key, id)\nend", "end", seed=13),
    Mutation("suspects run beside others", "flight.losses - flight.lone_losses >= SHARED_LOSSES", "false", seed=21),
    Mutation("whatever was lost once is a suspect", "local SHARED_LOSSES = 2", "local SHARED_LOSSES = 1", seed=2),
    Mutation("losses alone are not counted", "if flight.alone == 1 then save(", "if false then save(", seed=11),
    Mutation("every loss counts as one alone", "if flight.alone == 1 then save(", "if true then save(", seed=6),
    Mutation("nothing goes on", "flight.delta == 1 and flight.on_interrupt == 'continue'", "false", seed=3),
    Mutation("what goes on shows nothing", "'delta', resumed and 1 or 0,", "'delta', 0,", seed=7),
    Mutation("a claim made again does not go on", "if resumed then save(flight, 'resumed', 1) end", "", seed=3),
    Mutation(
        "who joins wants what the others want",
        "if flight.on_interrupt and flight.on_interrupt ~=",
        "if false and ",
        seed=11,
    ),
    Mutation("what is cut off never fails", "if flight.on_interrupt ~= 'fail' or", "if true or", seed=4),
    Mutation(
        "what has shown nothing fails as well",
        "or tonumber(flight.delta) ~= 1 then return false end",
        "then return false end",
        seed=9,
    ),
    Mutation("a retry outlives its flight", " or moment >= last_deadline(flight) then", " then", seed=47),
    Mutation("a deadline passes early", "if left_ms > 0 then return {'early', left_ms} end", ""),
    Mutation("no deadline passes for its reader", "if left_ms > 0 then return", "if left_ms > -1 then return"),
    Mutation("a revoke leaves jobs aboard", "redis.call('HSET', job_key(job), 'left', 'cancelled') end", "end", seed=9),
    Mutation("what is revoked is not called off", "call_off(flight)\nfinish(flight", "finish(flight"),
    Mutation("dead letters are not listed", "if dead then bury(flight, kept_ms, now) end", "", seed=2),
    Mutation(
        "every failure is a dead letter", "state == 'failed' and fields.retryable == '1'", "state == 'failed'", seed=5
    ),
    Mutation("lost attempts have no history", "note(flight, 'lost', {}, now)", "", seed=5),
    Mutation("tries have no history", "note(flight, 'retry', said, now)", "", seed=4),
    Mutation("a drop keeps the request", "redis.call('HDEL', key, 'request', 'history')", "", seed=2),
    Mutation(
        "what was dropped is dead still",
        "redis.call('ZREM', dead_key, ARGV[2]) == 1",
        "redis.call('ZSCORE', dead_key, ARGV[2])",
        seed=2,
    ),
    Mutation("nobody knows what was replayed", "replayed_from = ARGV[22]", "replayed_from = ''", seed=10),
    Mutation("short memory takes any work", "local used = percent_full()", "local used = false"),
    Mutation("short memory keeps answers", "and last_pressure() == 0 then", "then", seed=10),
    Mutation(
        "answers are not listed", "redis.call('ZADD', cached_key, now + flight.cache_ttl_ms, flight.fingerprint)", ""
    ),
    Mutation(
        "every lane has the grace of high",
        "local grace = outage + grace_ms[flight.lane]",
        "local grace = outage + grace_ms.high",
        seed=2,
    ),
)
