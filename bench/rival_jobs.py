"""The job that rivals.py gives to other systems, and the Celery application for it. Imported by their workers."""

import os


def nothing() -> None:
    """The job."""


if "BENCH_CELERY" in os.environ:
    from celery import Celery

    app = Celery("rival_jobs", broker=os.environ["BENCH_CELERY"], backend=os.environ["BENCH_CELERY"])
    celery_nothing = app.task(nothing)
