-- What the whole request path knows of a reply, beyond the first version's columns. `context` holds more keys now:
-- {"given", "turns", "summary", "profile": {"attributes", "weight"}}.
ALTER TABLE conversation_logs
    ADD COLUMN tool_runs    jsonb   NOT NULL DEFAULT '[]',  -- [{"tool", "outcome", "relevance", "seconds", "detail", "evidence"}]
    ADD COLUMN citations    jsonb   NOT NULL DEFAULT '[]',  -- [{"number", "evidence", "support"}]
    ADD COLUMN selection    jsonb   NOT NULL DEFAULT '{}',  -- the settings that decided: {"minimum_reward", "temperature", ...}
    ADD COLUMN refused      boolean NOT NULL DEFAULT false,
    ADD COLUMN regenerated  boolean NOT NULL DEFAULT false,
    ADD COLUMN explored     boolean NOT NULL DEFAULT false,
    ADD COLUMN profile_used boolean NOT NULL DEFAULT false,
    ADD COLUMN spooled      boolean NOT NULL DEFAULT false;

-- An object's keys would come back in an order of their own.
COMMENT ON COLUMN conversation_logs.latencies IS '[[stage, seconds], ...] in the order of the path, up to the log';
