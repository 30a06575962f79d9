-- What `control` may put into a bot's inbox and set right there, and an index by lane.
SET LOCAL ROLE botctl_owner;

-- `control` stores updates that came by webhook and an operator's sends, and revives or drops dead letters.
GRANT INSERT ON inbox TO botctl_control;
GRANT UPDATE (state, attempts, next_attempt_at, done_at, last_error) ON inbox TO botctl_control;

-- What waits of one chat, however much waits of others; and whether anything does.
CREATE INDEX inbox_lanes ON inbox (bot_id, lane, inbox_id) WHERE state = 'new';
RESET ROLE;
