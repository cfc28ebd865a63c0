"""Lets the workers that load it (`-I short_visibility`) see messages for 2 s only.

kombu hands a message that was not acknowledged by then to another worker, and looks for
such when a worker starts.
"""

from __future__ import annotations

from workers.app import app

VISIBLE_SECONDS = 2

app.conf.broker_transport_options["visibility_timeout"] = VISIBLE_SECONDS
