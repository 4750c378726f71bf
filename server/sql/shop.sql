-- The sample shop's tables, in a database of their own. Whose rows are seen decides the setting ratchet.user_id, which the
-- server sets for each transaction.
DROP SCHEMA IF EXISTS shop CASCADE;
CREATE SCHEMA shop;

-- Runs as its owner: the reader itself may not call current_setting.
CREATE FUNCTION shop.asking_user() RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
    RETURN nullif(current_setting('ratchet.user_id', true), '');

CREATE TABLE shop.customers (
    user_id  text PRIMARY KEY CHECK (user_id <> ''),  -- the part of the address before its @, such as lan.nguyen
    customer text NOT NULL,
    email    text NOT NULL,
    city     text NOT NULL
);

CREATE TABLE shop.orders (
    order_id text   PRIMARY KEY,
    user_id  text   NOT NULL REFERENCES shop.customers,
    placed   int    NOT NULL UNIQUE,
    customer text   NOT NULL,
    status   text   NOT NULL,
    item     text   NOT NULL,
    quantity int    NOT NULL,
    total    bigint NOT NULL,
    day      text   NOT NULL,
    carrier  text   NOT NULL,
    method   text   NOT NULL,
    city     text   NOT NULL
);
CREATE INDEX ON shop.orders (user_id, placed);

ALTER TABLE shop.customers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
-- In a subquery the function is called once a statement, not once a row.
CREATE POLICY own_rows ON shop.customers FOR SELECT USING (user_id = (SELECT shop.asking_user()));
CREATE POLICY own_rows ON shop.orders FOR SELECT USING (user_id = (SELECT shop.asking_user()));
