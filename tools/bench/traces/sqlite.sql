-- SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
-- A database in memory, for transfers between accounts.
CREATE TABLE account (id INTEGER PRIMARY KEY, owner TEXT, balance INTEGER);
CREATE INDEX by_owner ON account (owner);
CREATE TABLE transfer (id INTEGER PRIMARY KEY, payer INTEGER, payee INTEGER,
	amount INTEGER);
INSERT INTO account
	WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL
		SELECT i + 1 FROM n WHERE i < 50000)
	SELECT i, hex(randomblob(12)), 1000 FROM n;
-- Some accounts are used more often; some owners change.
CREATE TRIGGER pay AFTER INSERT ON transfer BEGIN
	UPDATE account SET balance = balance - new.amount WHERE id = new.payer;
	UPDATE account SET balance = balance + new.amount WHERE id = new.payee;
	UPDATE account SET owner = hex(randomblob(12))
		WHERE id = new.payee AND new.id % 16 = 0;
	DELETE FROM transfer WHERE id = new.id - 20000;
END;
