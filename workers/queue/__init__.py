"""Celery and kombu: the app, its tasks, the scheduler, wake-ups and what each broker needs."""
