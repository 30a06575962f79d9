-- A quarantine that somebody wished for outlives the daemon: until a release, or until its time is over.

SET LOCAL ROLE botctl_owner;

ALTER TABLE bots ADD COLUMN quarantine jsonb;
COMMENT ON COLUMN bots.quarantine IS 'Why it is shut away: at, by, reason, until (seconds since the epoch); NULL: it is not.';

GRANT UPDATE (quarantine) ON bots TO botctl_control;

RESET ROLE;
