"""Settings of gunicorn for gevent with --preload: patched before anything else is imported."""

from gevent import monkey

monkey.patch_all()
