INSERT INTO transfer (payer, payee, amount) VALUES (min(1 + abs(random() % 50000), 1 + abs(random() % 50000), 1 + abs(random() % 50000)), 1 + abs(random() % 50000), 1);
