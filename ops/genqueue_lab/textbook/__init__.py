"""The set-up one builds from the documentation of Celery, redis-py and google-genai: a peer for drills and benchmarks.

`app` is the worker, `producer` the caller's side, `peer` starts and audits it in a drill. It knows nothing of genqueue,
and does what those documents advise: late acknowledgement, rejection when a worker is lost, one message at a time,
queues by priority, retries with back-off and jitter, time-outs, streams that expire, and an end that readers can see.
"""
