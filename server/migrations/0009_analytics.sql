-- Whether a revision came with a comment: counters must not change when its text is erased later.
ALTER TABLE feedback_revisions ADD COLUMN commented boolean NOT NULL DEFAULT false;
UPDATE feedback_revisions SET commented = text_feedback <> '';

CREATE FUNCTION note_comment() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    NEW.commented := NEW.text_feedback <> '';
    RETURN NEW;
END $$;

CREATE TRIGGER feedback_revisions_note_comment BEFORE INSERT ON feedback_revisions
    FOR EACH ROW EXECUTE FUNCTION note_comment();
