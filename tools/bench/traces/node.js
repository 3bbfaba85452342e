// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
// A service that never sees its clients: sessions come, change and go, requests
// are parsed and answered, and the collector has work.
'use strict';

const sessions = new Map();
let seed = 20261127;

function random(limit)
{
	seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
	return (seed >>> 8) % limit;
}

function request()
{
	// Some clients come more often.
	const user = Math.min(random(20000), random(20000), random(20000));

	return JSON.stringify({ user, item: 'item-' + random(5000),
				count: 1 + random(9), tags: [random(100), random(100)] });
}

function answer(text)
{
	const { user, item, count, tags } = JSON.parse(text);
	let session = sessions.get(user);

	if (!session) {
		session = { user, basket: new Map(), visits: 0, recent: [] };
		sessions.set(user, session);
	}
	session.visits++;
	session.basket.set(item, (session.basket.get(item) || 0) + count);
	session.recent.push({ item, tags });
	if (session.recent.length > 10)
		session.recent.shift();
	if (session.basket.size > 20)
		sessions.delete(user);
	return JSON.stringify([...session.basket]);
}

for (let bytes = 0; ; )
	bytes += answer(request()).length;
