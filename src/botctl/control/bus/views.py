"""What `control` tells of grants to programs outside, and of replays. Bodies of answers."""

from __future__ import annotations

from pydantic import Field

from botctl.control.views import ReaderView, View


class GrantBody(View):
    """One grant, and how to use it. The password is nobody's but the grantee's.

    `url` has neither user nor password; `group` is the whole name of the consumer group, which is to be kept like a
    password from other grantees of the same log. `kept_off`: why it is kept off Redis now. `made` False: Redis is away,
    and it works when that is back.
    """

    name: str
    logs: list[str]
    url: str
    user: str
    group: str
    streams: list[str]
    since: float
    start: str
    kept_off: str = ""
    made: bool = True
    readers: list[ReaderView] = Field(default_factory=list)


class GrantsBody(View):
    """Answer of `GET /v1/events/grants`."""

    grants: list[GrantBody]


class ReplayLine(View):
    """A line of the answer of `POST /v1/events/replay`: how far it is; the last one has `done`, or an `error`.

    `given` events were put into the mailbox (with `dry_run`, would be), of `looked_at`; `by_type` counts them. For a
    grant, `moved` says how many events each log has for it now.
    """

    to: str
    mark: str = ""
    dry_run: bool = False
    looked_at: int = 0
    given: int = 0
    left_out: int = 0
    by_type: dict[str, int] = Field(default_factory=dict)
    last: str = ""
    moved: dict[str, int | None] = Field(default_factory=dict)
    done: bool = False
    error: str = ""
    hint: str = ""
