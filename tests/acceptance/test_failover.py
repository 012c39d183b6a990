"""The server's name leads to another server: a primary was made a replica, and a replica the primary."""

import redis
from acceptance_workers import WorkerProcess, wait_until

from genqueue import Client
from genqueue.keys import Keys
from genqueue_lab.fault_proxy import FaultProxy
from genqueue_lab.servers import RedisServer

MODEL = "gemini-2.5-flash"

#: Saves a second of the worker's start.
ALONE = ("--without-mingle", "--without-gossip")


def promote(replica, primary):
    """Make a replica the primary, as a failover does, once it has everything."""
    with redis.Redis(port=replica.port) as new, redis.Redis(port=primary.port, single_connection_client=True) as old:
        old.set("fence", 1, ex=60)  # WAIT is for what its own connection wrote
        old.execute_command("WAIT", 1, 5000)
        new.execute_command("REPLICAOF", "NO", "ONE")
        old.execute_command("REPLICAOF", "127.0.0.1", replica.port)


def inboxes(server):
    """Return the channels on which workers listen at a server."""
    with redis.Redis(port=server.port) as raw:
        return raw.pubsub_channels(Keys().inbox("*"))


def test_workers_and_clients_follow_a_failover(own_emulator, tmp_path):
    """The same worker process and the same client go on with the new primary; what was accepted ends once."""
    at_once = {"repl-diskless-sync-delay": "0"}
    with RedisServer(config=at_once) as first, RedisServer() as second, FaultProxy(first.port) as name:
        worker = WorkerProcess(tmp_path, name.url(), own_emulator, arguments=ALONE, GENQUEUE_SWEEP_SLACK=1)
        worker.start(ready=False)
        with redis.Redis(port=second.port) as replica:
            replica.execute_command("REPLICAOF", "127.0.0.1", first.port)
            wait_until(lambda: replica.info("replication")["master_link_status"] == "up", what="the replica")
        try:
            worker.wait_ready()
            with Client(data_url=name.url()) as client:
                own_emulator.set(ttft=0.1, tpot=0.05, tokens=20)
                running = [client.submit(f"before {number}", model=MODEL) for number in range(10)]
                wait_until(lambda: all(job.status().state == "running" for job in running), what="the start")

                name.lead_to(second.port)  # connections there are stay with the old one
                promote(second, first)

                after = [client.submit(f"after {number}", model=MODEL) for number in range(5)]
                results = [job.result(timeout=60) for job in (*running, *after)]
                heard = wait_until(lambda: inboxes(second), what="an ear for call-offs at the new primary")
            assert all(result.source == "live" for result in results)
            assert len(heard) == 1
            assert worker.process.poll() is None
            with redis.Redis(port=second.port) as new:
                for job in (*running, *after):
                    types = [fields[b"type"] for _, fields in new.xrange(job.stream_key)]
                    assert types.count(b"completed") == 1
                    assert types[-1] == b"completed"
        finally:
            worker.kill()
