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
    """

    name: str
    old: str
    new: str

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
    Mutation("stamps are not spent", "if stamp <= flight.spent then return 'spent' end", ""),
    Mutation("stamps do not rise", "math.max(now, flight.stamp + 1)", "now"),
    Mutation(
        "the stream is trimmed at a restart",
        "if flight.delta == 1 then announce(",
        "if flight.delta == 1 then redis.call('XTRIM', flight.events, 'MINID', flight.last) announce(",
    ),
    Mutation("a restart is not announced", "if flight.delta == 1 then announce(", "if false then announce("),
    Mutation(
        "lost messages are not published again",
        "find_lost(ARGV[index], (empty and now or math.min(popped, now)) - slack_ms)",
        "",
    ),
    Mutation(
        "the last to leave ends nothing",
        "if redis.call('ZCARD', members_key(flight.id)) == 1 then",
        "if false then",
    ),
    Mutation("a late job is accepted", "if deadline <= now then return {'late', '', '', ''} end", ""),
    Mutation("a known job is accepted again", "if known then return answer_again(known) end", ""),
    Mutation(
        "a settled token is forgotten",
        "if flight.settled_by == token then return reply('already', flight.state) end",
        "",
    ),
    Mutation("settle looks at no token", "if flight.token ~= token then return reply('refused') end", ""),
    Mutation("a token outlives its attempt", "redis.call('HDEL', flight_key(flight.id), 'token')", ""),
    Mutation("a holder is not called off", "redis.call('PUBLISH', flight.inbox, ", "tostring("),
    Mutation("a renewal does not renew", "redis.call('HSET', key, 'lease', lease)", ""),
    Mutation("leases never expire", "flight.lease <= now then return judge(", "false then return judge("),
    Mutation("no grace after an outage", "if now < grace and", "if false and"),
    Mutation("deadlines do not pass", "if expire_members(flight) then return end", ""),
    Mutation("tries are not counted", "save(flight, 'tries', flight.tries + 1)", ""),
    Mutation("losses are not counted", "save(flight, 'losses', flight.losses + 1)", ""),
    Mutation(
        "append rings with a stale id before",
        "'written', flight.written, 'last', flight.last)",
        "'written', flight.written)",
    ),
    Mutation(
        "events ring with a stale id before",
        "if add_entry(flight, fields) then save(flight, 'last', flight.last) end",
        "add_entry(flight, fields)",
    ),
    Mutation(
        "a waiting flight is forgotten",
        "flight['until'] <= now then return publish(flight) end",
        "false then return publish(flight) end",
    ),
    Mutation("a join keeps nothing alive", "    keep_at_least(key, lifetime(flight, now))\n", ""),
    Mutation("the ledger is kept for ever", "keep_at_least(ledger_key, lifetime(flight, now))", ""),
    Mutation("a lifted run goes on", "    call_off(flight)\n    end_attempt(flight, 'lifted')", ""),
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
    ),
    Mutation("a member that stores nothing changes nothing", "if store == 'none' then save(", "if false then save("),
    Mutation("every end keeps the request", "if state ~= 'failed' or flight.store == 'none' then", "if false then"),
    Mutation("no end keeps the request", "if state ~= 'failed' or flight.store == 'none' then", "if true then"),
    Mutation("a purge leaves the stream", "flight_key(id), events_key(id))", "flight_key(id))"),
    Mutation("a purge ends nothing", "    finish(flight, 'cancelled', {}, now)\n", ""),
    Mutation("a purge takes others along", "if heir then step_out(flight) else", "if false then else"),
    Mutation("a purged job stays aboard", "redis.call('ZREM', members_key(id), job)", ""),
    Mutation("a purge says nothing to readers", "if live and not left then announce(", "if false then announce("),
    Mutation("a purge leaves the note of the end", "redis.call('XDEL', finished_key, finished)", ""),
    Mutation("a purge leaves the completion", "redis.call('ZREM', outbox_key, job)\n  if finished", "if finished"),
    Mutation("a purge leaves the cached answer", "redis.call('DEL', cached)", ""),
)
