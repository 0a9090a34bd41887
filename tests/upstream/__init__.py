"""A provider for tests, on real sockets, that answers honestly, replays recordings or misbehaves on order.

A *script* says how a request is answered. It is a path: the beginning of the URL's own path, or, where the
URL cannot be chosen, the value of the header `idempotency-key` after `script:`, or what `play` set for all
requests without one. Its parts:

* `/replay/<provider>/<id>`: the recording of that name, bytes and headers as recorded;
* `/model` (and whatever else is no script): an honest answer whose usage follows from the request (`model.py`);
* `/fault/<name>`: one of `faults.FAULTS`;
* before any of these, options: `/slices/<name>` (how a body is cut, `replay.SLICES`), `/delay/<ms>` (before the
  first byte), `/pace/<ms>` (between chunks), `/hold/<n>/wait/<ms>` (before chunk n).

Everything that happens is a JSON line in the log, so that several processes can share it and it survives them:
`request` (method, path, native path, headers, body, port), `answer` (status, usage; written before the first
byte is sent, because a provider bills what it serves), `finished` (chunks sent), `closed_by_peer` (chunks sent
until the peer left), `misbehaved` (name of the fault that ended the connection).
"""

from tests.upstream.recordings import Recording, recordings, wire_folder
from tests.upstream.running import Upstream, closed_port

__all__ = ["Recording", "Upstream", "closed_port", "recordings", "wire_folder"]
