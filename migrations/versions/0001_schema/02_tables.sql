-- The tables, owned by botctl_owner. Every primary, unique and foreign key leads with bot_id: a key over all bots would
-- tell one bot of another's rows. bot_id is Telegram's id of the bot; 0 stands for the fleet.

SET LOCAL ROLE botctl_owner;

CREATE TABLE bots (
    bot_id            bigint      NOT NULL,
    name              text        NOT NULL,
    managed_by        text        NOT NULL DEFAULT 'file' CHECK (managed_by IN ('file', 'api')),
    enabled           boolean     NOT NULL DEFAULT true,
    token_fingerprint text        NOT NULL DEFAULT '',
    config            jsonb       NOT NULL DEFAULT '{}',
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    removed_at        timestamptz,
    PRIMARY KEY (bot_id)
) PARTITION BY HASH (bot_id);
COMMENT ON COLUMN bots.token_fingerprint IS 'First 16 hex digits of the SHA-256 of the token.';
COMMENT ON COLUMN bots.config IS 'The bot as configured, without any secret.';

CREATE TABLE bot_credentials (
    bot_id                bigint      NOT NULL,
    generation            integer     NOT NULL,
    redis_password_sha256 text        NOT NULL,
    rotated_at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bot_id)
) PARTITION BY HASH (bot_id);

CREATE TABLE users (
    bot_id        bigint      NOT NULL,
    user_id       bigint      NOT NULL,
    first_name    text        NOT NULL DEFAULT '',
    last_name     text,
    username      text,
    language_code text,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bot_id, user_id)
) PARTITION BY HASH (bot_id);

CREATE TABLE conversations (
    bot_id          bigint      NOT NULL,
    conversation_id bigint      GENERATED ALWAYS AS IDENTITY,
    chat_id         bigint      NOT NULL,
    thread_id       bigint      NOT NULL DEFAULT 0,
    started_at      timestamptz NOT NULL DEFAULT now(),
    closed_at       timestamptz,
    PRIMARY KEY (bot_id, conversation_id)
) PARTITION BY HASH (bot_id);
CREATE UNIQUE INDEX conversations_open ON conversations (bot_id, chat_id, thread_id) WHERE closed_at IS NULL;

CREATE TABLE messages (
    bot_id              bigint      NOT NULL,
    message_id          bigint      GENERATED ALWAYS AS IDENTITY,
    conversation_id     bigint      NOT NULL,
    chat_id             bigint      NOT NULL,
    thread_id           bigint      NOT NULL DEFAULT 0,
    direction           text        NOT NULL CHECK (direction IN ('in', 'out')),
    role                text        NOT NULL CHECK (role IN ('user', 'assistant', 'handler', 'system')),
    user_id             bigint,
    telegram_message_id bigint,
    text                text,
    entities            jsonb,
    cause               text        NOT NULL,
    part                integer     NOT NULL DEFAULT 0,
    trace_id            text        NOT NULL DEFAULT '',
    model               text,
    input_tokens        integer,
    output_tokens       integer,
    created_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bot_id, message_id),
    UNIQUE (bot_id, cause, direction, part),
    FOREIGN KEY (bot_id, conversation_id) REFERENCES conversations (bot_id, conversation_id)
) PARTITION BY HASH (bot_id);
CREATE INDEX messages_by_conversation ON messages (bot_id, conversation_id, message_id);
COMMENT ON COLUMN messages.cause IS 'What led to it: update:<update_id>, event:<event_id>, …; part numbers its pieces.';

CREATE TABLE inbox (
    bot_id          bigint      NOT NULL,
    inbox_id        bigint      GENERATED ALWAYS AS IDENTITY,
    cause           text        NOT NULL,
    update_id       bigint,
    kind            text        NOT NULL,
    lane            text        NOT NULL,
    payload         jsonb       NOT NULL,
    state           text        NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'done', 'dead')),
    attempts        integer     NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    received_at     timestamptz NOT NULL DEFAULT now(),
    done_at         timestamptz,
    last_error      text,
    trace_id        text        NOT NULL DEFAULT '',
    PRIMARY KEY (bot_id, inbox_id),
    UNIQUE (bot_id, cause)
) PARTITION BY HASH (bot_id);
CREATE INDEX inbox_new ON inbox (bot_id, inbox_id) WHERE state = 'new';
CREATE INDEX inbox_dead ON inbox (bot_id) WHERE state = 'dead';

CREATE TABLE sends (
    bot_id     bigint      NOT NULL,
    cause      text        NOT NULL,
    n          integer     NOT NULL,
    mode       text        NOT NULL CHECK (mode IN ('inline', 'deferred')),
    method     text        NOT NULL,
    chat_id    bigint,
    payload    jsonb       NOT NULL,
    state      text        NOT NULL CHECK (state IN ('planned', 'sending', 'sent', 'failed', 'skipped')),
    result     jsonb,
    error      text,
    attempts   integer     NOT NULL DEFAULT 0,
    uncertain  integer     NOT NULL DEFAULT 0,
    planned_at timestamptz NOT NULL DEFAULT now(),
    sent_at    timestamptz,
    trace_id   text        NOT NULL DEFAULT '',
    PRIMARY KEY (bot_id, cause, n)
) PARTITION BY HASH (bot_id);
CREATE INDEX sends_open ON sends (bot_id) WHERE state IN ('planned', 'sending');
CREATE INDEX sends_uncertain ON sends (bot_id) WHERE uncertain > 0;
COMMENT ON COLUMN sends.state IS 'planned: surely not sent; sending: a crash leaves it unknown whether Telegram has it.';

CREATE TABLE completions (
    bot_id        bigint      NOT NULL,
    cause         text        NOT NULL,
    step          integer     NOT NULL,
    model         text        NOT NULL DEFAULT '',
    response      jsonb       NOT NULL,
    input_tokens  integer,
    output_tokens integer,
    duration_ms   integer,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bot_id, cause, step)
) PARTITION BY HASH (bot_id);

CREATE TABLE outbox (
    bot_id         bigint      NOT NULL,
    seq            bigint      GENERATED ALWAYS AS IDENTITY,
    event_id       text        NOT NULL,
    type           text        NOT NULL,
    version        integer     NOT NULL DEFAULT 1,
    occurred_at    timestamptz NOT NULL DEFAULT now(),
    correlation_id text        NOT NULL DEFAULT '',
    causation_id   text        NOT NULL DEFAULT '',
    data           jsonb       NOT NULL DEFAULT '{}',
    relayed_at     timestamptz,
    PRIMARY KEY (bot_id, seq),
    UNIQUE (bot_id, event_id)
) PARTITION BY HASH (bot_id);
CREATE INDEX outbox_pending ON outbox (bot_id, seq) WHERE relayed_at IS NULL;

CREATE TABLE bot_runs (
    bot_id        bigint      NOT NULL,
    run_id        bigint      GENERATED ALWAYS AS IDENTITY,
    incarnation   integer     NOT NULL,
    pid           integer,
    started_at    timestamptz NOT NULL DEFAULT now(),
    ready_at      timestamptz,
    ended_at      timestamptz,
    failure       text,
    exit          text,
    detail        text,
    lifecycle_seq bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (bot_id, run_id)
) PARTITION BY HASH (bot_id);

CREATE TABLE audit_log (
    bot_id   bigint      NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    audit_id bigint      GENERATED ALWAYS AS IDENTITY,
    actor    text        NOT NULL DEFAULT session_user,
    action   text        NOT NULL,
    entity   text        NOT NULL,
    before   jsonb,
    after    jsonb,
    PRIMARY KEY (bot_id, at, audit_id)
) PARTITION BY RANGE (at);

DO $$
DECLARE
    tenant text;
BEGIN
    FOREACH tenant IN ARRAY ARRAY['bots', 'bot_credentials', 'users', 'conversations', 'messages', 'inbox', 'sends',
                                  'completions', 'outbox', 'bot_runs'] LOOP
        FOR remainder IN 0..15 LOOP
            EXECUTE format(
                'CREATE TABLE botctl_internal.%I PARTITION OF public.%I FOR VALUES WITH (MODULUS 16, REMAINDER %s)',
                tenant || '_' || to_char(remainder, 'FM00'), tenant, remainder
            );
        END LOOP;
    END LOOP;
END
$$;
CREATE TABLE botctl_internal.audit_log_default PARTITION OF audit_log DEFAULT;

RESET ROLE;
