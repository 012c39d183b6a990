"""The Django example, loaded by a gunicorn master that has used the client itself before it forks."""

import django_app

application = django_app.application

# Held open over the fork: a connection, a listener and a thread of the master's.
job = django_app.client.submit("Before the fork", model=django_app.MODEL, lane="low")
tail = job.tail()
next(tail)
