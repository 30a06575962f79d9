"""The parts of one bot and how they hang together. Makes them; runs nothing and connects to nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bot.assistant.answer import Answerer
from botctl.bot.assistant.client import CompletionClient
from botctl.bot.builtin import add_builtin_commands
from botctl.bot.context import BotContext
from botctl.bot.database import Database
from botctl.bot.exchange.answering import Answering
from botctl.bot.exchange.asking import Asking
from botctl.bot.exchange.bus_link import BusLink
from botctl.bot.exchange.declared import DeclaredTypes
from botctl.bot.exchange.once import Once
from botctl.bot.exchange.publishing import Publisher
from botctl.bot.exchange.reactions import Reactions
from botctl.bot.handling.attempt import Handled, Handling
from botctl.bot.handling.commit import Committer
from botctl.bot.handling.conversing import OpenConversations
from botctl.bot.handling.dispatcher import Dispatcher
from botctl.bot.handling.starting import Starter
from botctl.bot.handling.suspects import Suspects
from botctl.bot.jobs.desk import JobDesk
from botctl.bot.keeping.memory import KeptMemory
from botctl.bot.live_limits import LiveLimits
from botctl.bot.receiving.arrivals import Arrivals
from botctl.bot.receiving.ignored import Ignored
from botctl.bot.receiving.intake import Intake
from botctl.bot.receiving.lanes import Lanes
from botctl.bot.receiving.token_refusal import TokenRefusal
from botctl.bot.secrets import Passwords
from botctl.bot.sending.bot_api import JournaledBot, ScopedApplication, build_application
from botctl.bot.sending.calling import Caller
from botctl.bot.sending.delivery import Delivery
from botctl.bot.sending.flood import Flood, rates_of
from botctl.bot.sending.flood_gate import FloodGate
from botctl.bot.sending.journal import SendJournal
from botctl.bot.sending.leak_guard import LeakGuard
from botctl.bot.sending.recovery import Recovery
from botctl.bot.sending.send_states import SendStates
from botctl.bot.sending.sender import Sender
from botctl.bot.sending.sent import SentRecorder
from botctl.bot.sending.transport import Transport
from botctl.bot.sending.whereabouts import Whereabouts
from botctl.bot.tls import tls_context
from botctl.bot.vitals.health import Health
from botctl.bot.vitals.shortage import Shortage
from botctl.fleet.model import BotSpec, OnUncertain
from botctl.handover import BotConfig, DatabaseTarget
from botctl.observability.redaction import Redactor
from botctl.security.vault import Cipher, DataKey
from botctl.storage.chats import Chats
from botctl.storage.completions import Completions
from botctl.storage.conversations import Conversations
from botctl.storage.engine import bot_engine
from botctl.storage.inbox import Inbox, InboxRow
from botctl.storage.interruptions import Interruptions
from botctl.storage.jobs import Jobs
from botctl.storage.once import OnceKeys
from botctl.storage.outbox import Outbox
from botctl.storage.persistence import KeptData
from botctl.storage.requests import Requests
from botctl.storage.sealing import Sealing
from botctl.storage.sends import Sends


@dataclass
class Parts:
    """What the machine runs."""

    transport: Transport
    token_refusal: TokenRefusal
    shortage: Shortage
    database: Database
    inbox: Inbox
    outbox: Outbox
    lanes: Lanes
    intake: Intake
    arrivals: Arrivals
    application: ScopedApplication
    memory: KeptMemory
    context: BotContext
    reactions: Reactions
    asking: Asking
    recovery: Recovery
    whereabouts: Whereabouts
    jobs: JobDesk
    suspects: Suspects
    limits: LiveLimits
    ignored: Ignored
    guard: LeakGuard
    dispatcher: Dispatcher
    bus: BusLink
    answerer: Answerer | None
    completion: CompletionClient | None

    def finish_handlers(self) -> None:
        """Put the built-in commands and the assistant behind the developer's handlers."""
        add_builtin_commands(self.application, has_assistant=self.answerer is not None)
        if self.answerer is not None:
            self.answerer.add_to(self.application)


class _Wakeups:
    """Calls that are wanted before what they call is made."""

    def __init__(self) -> None:
        self.dispatcher: Dispatcher | None = None
        self.bus: BusLink | None = None

    def lanes_changed(self) -> None:
        if self.dispatcher is not None:
            self.dispatcher.wake()

    def events_committed(self) -> None:
        if self.bus is not None:
            self.bus.wake()


def assemble(config: BotConfig, spec: BotSpec, passwords: Passwords, health: Health, cipher: Cipher) -> Parts:
    """Make all parts of a bot. Raises UsageError for an unusable Redis URL or namespace."""
    sealing = Sealing(cipher, seals=spec.encrypt_messages)
    bot_id, wakeups, clock, now = config.bot_id, _Wakeups(), time.monotonic, time.time
    resend = spec.on_uncertain is OnUncertain.RESEND
    tls = tls_context()
    transport = Transport(tls, proxy=spec.proxy)

    def engine() -> AsyncEngine:
        return bot_engine(config.database, bot_id, passwords.database)

    database = Database(engine(), health, clock=clock, for_handlers=engine)
    inbox, outbox, sends = Inbox(bot_id, sealing), Outbox(bot_id, sealing), Sends(bot_id, sealing)
    conversations, completions = Conversations(bot_id, sealing), Completions(bot_id, sealing)
    open_conversations = OpenConversations(conversations)
    publisher = Publisher(bot_id, outbox, spec.share, now, discreet=sealing.seals)
    declared = DeclaredTypes()
    answering = Answering(publisher, health, declared.incoming, now=now, discreet=sealing.seals)
    lanes, reactions = Lanes(), Reactions(answering.answer, declared.incoming)
    intake = Intake(database, inbox, lanes, wakeups.lanes_changed, clock)
    recorder = SentRecorder(
        database, sends, conversations, open_conversations, publisher, health, wakeups.events_committed
    )
    token_refusal = TokenRefusal()
    states = SendStates(database, sends, health)
    whereabouts = Whereabouts(
        database, Chats(bot_id), sends, open_conversations, publisher, health, wakeups.events_committed
    )
    gate = FloodGate(Flood(rates_of(spec.limits)), clock)
    caller = Caller(gate, whereabouts, token_refusal, resend=resend, clock=clock)
    journal = SendJournal(states, recorder, caller, health)
    guard = LeakGuard(_own_secrets(config, spec), health, config.canary)
    bot = JournaledBot(spec.token.get_secret_value(), config.telegram_base_url, transport, journal, guard)
    application = build_application(bot)
    memory = KeptMemory(database, KeptData(bot_id, sealing))
    application.keep(memory)
    whereabouts.on_moved = application.take_along
    sender = Sender(bot, states, recorder, caller, whereabouts)
    delivery = Delivery(database, sends, states, sender, repeats=caller.repeats)
    requests, once_keys = Requests(bot_id, sealing), OnceKeys(bot_id)
    committer = Committer(
        database,
        inbox,
        sends,
        conversations,
        open_conversations,
        publisher,
        sender,
        health,
        memory,
        wakeups.events_committed,
        upon_failure=(requests.void, once_keys.release),
    )
    starter = Starter(database, inbox, sends, conversations, open_conversations, publisher, health, now=now)
    limits = LiveLimits(spec.limits.concurrent_chats, spec.limits.attempts)
    ignored = Ignored(config.ignored)
    suspects, shortage = Suspects(database, Interruptions(bot_id), limits=limits, clock=clock), Shortage()
    jobs = JobDesk(database, Jobs(bot_id, sealing), inbox, intake, now)
    handling = Handling(
        application,
        database,
        starter,
        committer,
        health,
        spec.access,
        reactions.react,
        whereabouts=whereabouts,
        do_job=jobs.call,
        has_lane=lanes.has,
        suspects=suspects,
        shortage=shortage,
        limits=limits,
        ignored=ignored,
        now=now,
        clock=clock,
    )

    arrivals = Arrivals(health, clock)

    async def handle(row: InboxRow) -> Handled:
        arrivals.begins(row)
        try:
            return await handling.handle(row)
        except MemoryError as error:
            shortage.met(error)
            raise

    dispatcher = Dispatcher(lanes, intake, handle, delivery.deliver, limits=limits)
    bus = BusLink(
        config.redis_url,
        config.namespace,
        bot_id,
        passwords.redis,
        database,
        outbox,
        health,
        hears=spec.hears,
        groups=spec.groups,
    )
    asking = Asking(
        database,
        requests,
        inbox,
        publisher,
        suspects,
        health,
        limits,
        wake=wakeups.events_committed,
        listen=bus.listen,
        changed=wakeups.lanes_changed,
        now=now,
    )
    wakeups.dispatcher, wakeups.bus = dispatcher, bus
    completion = answerer = None
    if spec.assistant is not None:
        completion = CompletionClient(
            spec.assistant, api_key=config.openai_api_key, base_url=config.openai_base_url, tls=tls
        )
        answerer = Answerer(
            spec.assistant, completion, database, inbox, conversations, completions, publisher, health, suspects
        )
    return Parts(
        transport=transport,
        token_refusal=token_refusal,
        shortage=shortage,
        database=database,
        inbox=inbox,
        outbox=outbox,
        lanes=lanes,
        intake=intake,
        arrivals=arrivals,
        application=application,
        memory=memory,
        context=BotContext(
            spec,
            database,
            publisher,
            reactions,
            wakeups.events_committed,
            asking=asking,
            answering=answering,
            declared=declared,
            once=Once(database, once_keys),
            jobs=jobs,
        ),
        reactions=reactions,
        asking=asking,
        recovery=Recovery(
            database,
            sends,
            conversations,
            sender,
            lanes,
            health,
            deliver=delivery.deliver,
            repeats=caller.repeats,
            now=clock,
        ),
        whereabouts=whereabouts,
        jobs=jobs,
        suspects=suspects,
        limits=limits,
        ignored=ignored,
        guard=guard,
        dispatcher=dispatcher,
        bus=bus,
        answerer=answerer,
        completion=completion,
    )


def _own_secrets(config: BotConfig, spec: BotSpec) -> dict[str, str]:
    """What it must never send, by what it is called. Passwords aren't among it: they change while it runs."""
    found = {"its own bot token": spec.token.get_secret_value(), "the fleet's completion key": config.openai_api_key}
    if spec.assistant is not None and spec.assistant.api_key is not None:
        found["its own completion key"] = spec.assistant.api_key.get_secret_value()
    return found


def warm() -> None:
    """Make the parts of a bot that doesn't exist, and forget them: what is loaded and cached on the way stays."""
    spec = BotSpec.model_validate({"name": "warm", "token": "1:warm-up"})
    config = BotConfig(
        spec=msgspec.Raw(b"{}"),
        bot_id=1,
        folder=None,
        database=DatabaseTarget(host="localhost"),
        redis_url="redis://localhost",
        namespace="warm",
        telegram_base_url="http://localhost",
    )
    cipher = Cipher(1, [DataKey.new(1, 1)])
    cipher.open("warm", "up", cipher.seal("warm", "up", b"the ciphers are loaded at their first use"))
    assemble(config, spec, Passwords(Redactor()), Health(), cipher).finish_handlers()
