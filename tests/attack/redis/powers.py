"""Attacks on the server and on logins: commands that no bot may use, and becoming somebody else."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

from attack.redis.ground import B, Ground, declare, several, told
from attack.redis.wire import Raw, Refusal

_ACL = "ACL SETUSER {a_user} "
ALLOWED = {"ping", "hello", "auth", "reset", "quit", "xreadgroup", "xack", "xadd", "xlen", "client|setinfo"}
"""All that a bot may call on keys of its own; hello, auth, reset and quit the server takes from anybody."""

several(
    "find out which keys there are",
    """KEYS *|SCAN 0|RANDOMKEY|DBSIZE|EXISTS {b_in}|TYPE {b_out}|OBJECT ENCODING {a_out}|OBJECT FREQ {b_in}|TTL {b_in}
    MEMORY USAGE {b_in}|DUMP {a_out}|OBJECT IDLETIME {a_in}""",
    weak=_ACL + "+scan",
)
several("go to another database, or swap two", "SELECT 0|SELECT 1|SWAPDB 0 1|MOVE {a_out} 1", weak=_ACL + "+select")
several(
    "run a script or a function",
    """EVAL return(1) 0|EVAL_RO return(1) 0|EVALSHA {b_out} 0|SCRIPT LOAD return(1)|SCRIPT FLUSH|SCRIPT KILL
    FUNCTION LIST|FUNCTION LOAD x|FUNCTION FLUSH|FUNCTION DUMP|FUNCTION RESTORE x|FCALL x 0|FCALL_RO x 0""",
    weak=_ACL + "+eval",
)
several(
    "read or change the server's configuration",
    "CONFIG GET *|CONFIG SET maxmemory 0|CONFIG SET dir /tmp|CONFIG REWRITE|CONFIG RESETSTAT|CONFIG GET requirepass",
    weak=_ACL + "+config|get",
)
several(
    "empty, save, stop or hand over the server",
    """FLUSHALL|FLUSHDB|SHUTDOWN NOSAVE|SAVE|BGSAVE|BGREWRITEAOF|REPLICAOF NO ONE|REPLICAOF 127.0.0.1 1|SLAVEOF NO ONE
    PSYNC ? -1|SYNC|REPLCONF listening-port 1|FAILOVER|CLUSTER INFO|CLUSTER RESET|READONLY|ASKING|MODULE LIST
    MODULE LOAD /x.so|MODULE LOADEX /x.so|DEBUG SLEEP 0|DEBUG SEGFAULT|LASTSAVE|ROLE|WAIT 1 1|WAITAOF 1 0 1""",
    weak=_ACL + "+lastsave",
)
several(
    "watch the server: MONITOR, INFO, slow commands, latency, memory, times",
    """MONITOR|INFO|INFO commandstats|SLOWLOG GET|SLOWLOG RESET|LATENCY LATEST|LATENCY RESET|LATENCY DOCTOR
    MEMORY STATS|MEMORY PURGE|TIME|COMMAND|COMMAND COUNT|COMMAND DOCS|LOLWUT|ECHO x""",
    weak=_ACL + "+info",
)
several(
    "see, rename, stop, spare or follow connections (CLIENT)",
    """CLIENT LIST|CLIENT INFO|CLIENT ID|CLIENT KILL TYPE normal|CLIENT KILL USER {b_user}|CLIENT NO-EVICT ON
    CLIENT NO-TOUCH ON|CLIENT PAUSE 1000|CLIENT UNPAUSE|CLIENT TRACKING ON|CLIENT TRACKING ON BCAST|CLIENT CACHING YES
    CLIENT REPLY ON|CLIENT SETNAME x|CLIENT GETNAME|CLIENT UNBLOCK 1|CLIENT GETREDIR|CLIENT TRACKINGINFO|CLIENT HELP""",
    weak=_ACL + "+client|list",
)
several(
    "see or change users and rights (ACL)",
    """ACL LIST|ACL USERS|ACL GETUSER {b_user}|ACL SETUSER {a_user} +@all ~*|ACL SETUSER {b_user} >x
    ACL DELUSER {b_user}|ACL WHOAMI|ACL CAT|ACL LOG|ACL LOG RESET|ACL LOAD|ACL SAVE|ACL GENPASS
    ACL DRYRUN {b_user} ping|ACL HELP""",
    weak=_ACL + "+acl|whoami",
)
several(
    "hear keys' notifications or other channels, forge the doorbell",
    """SUBSCRIBE x|SUBSCRIBE __keyspace@0__:{b_in}|PSUBSCRIBE *|PSUBSCRIBE __key*__:*|SSUBSCRIBE x|PUBSUB CHANNELS
    PUBLISH __keyspace@0__:{b_out} xadd|PUBLISH __keyevent@0__:xgroup-createconsumer {b_in}|SPUBLISH x y""",
    weak=_ACL + "+publish &*",
)
several(
    "bundle commands, or watch keys (MULTI, EXEC, WATCH)",
    "MULTI|EXEC|DISCARD|WATCH {b_in}|WATCH {a_out}|UNWATCH",
    weak=_ACL + "+multi",
)
several(
    "move keys in or out: RESTORE, DUMP, MIGRATE, SORT, COPY",
    """RESTORE {a_out} 0 x|RESTORE {b_out} 0 x REPLACE|RESTORE-ASKING x 0 x|DUMP {b_in}|MIGRATE 127.0.0.1 1 {b_in} 0 100
    SORT {b_in}|SORT_RO {b_in} BY *|SORT {a_in} STORE x|COPY {b_in} x|COPY {b_in} {a_out} REPLACE|OBJECT HELP""",
    weak=_ACL + "(+dump ~{b_in})",
)


@declare("call every command and subcommand that the server knows, on keys of its own", weak=_ACL + "(+xdel ~*)")
async def every_command(ground: Ground) -> str:
    """With as many arguments as each wants: the number is looked at before the rights."""
    allowed = []
    for name, arity in _commands(ground):
        own = ground.names["a_out"]
        words = [*name.split("|"), *[own] * (abs(arity) - 1 - name.count("|"))]
        if name.lower() in ALLOWED:
            continue
        ended = ground.outcome(words)
        if ended != "refused (NOPERM)":
            allowed.append(f"{name}: {ended}")
    return "refused (NOPERM)" if not allowed else f"may call {allowed}"


def _commands(ground: Ground) -> list[tuple[str, int]]:
    """Name and number of arguments of each command; of one with subcommands, those."""
    admin = Raw(ground.port, "default", unquote(urlsplit(ground.url).password or ""))
    names = [name.decode() for name in admin.call("COMMAND", "LIST")]
    assert len(names) > 200, "the server tells its commands"
    found: list[tuple[str, int]] = []
    for name in names:
        (info,) = admin.call("COMMAND", "INFO", name)
        children = info[9] if len(info) > 9 else []
        found += [(child[0].decode(), child[1]) for child in children] or [(name, info[1])]
    admin.close()
    return found


@declare("log in as B, as the administrator, or as nobody, with A's password, none, or guesses", "refused (WRONGPASS)",
         weak="ACL SETUSER {b_user} nopass")  # fmt: skip
async def log_in(ground: Ground) -> str:
    guesses = [ground.passwords[1], "", "password", "default", ground.names["b_user"], "x" * 1000, b"\0"]
    commands: list[list[Any]] = []
    for user in (ground.names["b_user"], "default", "nobody", "", "t-bot-0", "t-bot-*"):
        commands += [["AUTH", user, guess] for guess in guesses]
        commands += [["HELLO", 3, "AUTH", user, guess] for guess in guesses]
        commands += [["HELLO", 2, "AUTH", user, guess, "SETNAME", "router"] for guess in guesses]
    commands += [["AUTH", guess] for guess in guesses]
    return ground.each(commands)


@declare("shed one's login (RESET, or a connection without one) and command", "refused (NOAUTH)",
         weak="ACL SETUSER default nopass")  # fmt: skip
async def without_login(ground: Ground) -> str:
    raw = ground.open()
    raw.call("RESET")
    fresh = ground.stranger()
    lines = ["PING", "XADD {a_out} * e x", "XREADGROUP GROUP bot bot STREAMS {b_in} >", "ACL WHOAMI", "INFO", "KEYS *"]
    kinds = {ground.outcome(ground.words(line), one) for line in lines for one in (raw, fresh)}
    return kinds.pop() if len(kinds) == 1 else f"several: {kinds}"


@declare("go on with a connection after one's user was deleted, as a quarantine does", "thrown out")
async def after_deluser(ground: Ground) -> str:
    raw = ground.open()
    await ground.admin.drop_user(1)
    try:
        return told(raw.call("XADD", ground.names["a_out"], "*", "e", "x"))
    except (OSError, EOFError):
        try:
            ground.open()
        except AssertionError:
            return "thrown out"
        return "in again"


@declare("name a connection like one of the fleet's (HELLO SETNAME)", "succeeds; nobody trusts names of connections")
async def name(ground: Ground) -> str:
    raw = ground.open()
    reply = raw.call("HELLO", 2, "SETNAME", "router")
    return "refused" if isinstance(reply, Refusal) else "succeeds"


@declare("use B's password for oneself after B's was rotated", "refused (WRONGPASS)")
async def old_password(ground: Ground) -> str:
    old, ground.passwords[B] = ground.passwords[B], "another"
    await ground.apply()
    return ground.outcome(["AUTH", ground.names["b_user"], old])
