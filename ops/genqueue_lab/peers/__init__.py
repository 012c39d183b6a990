"""Other task queues doing the same job: each in an environment of its own, tuned as its documentation advises."""
