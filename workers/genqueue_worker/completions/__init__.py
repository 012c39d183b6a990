"""Telling the ends of jobs: webhooks and Celery messages, at least once each, from the outbox of the ledger."""
