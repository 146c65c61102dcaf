-- Hits by what fetched them: the mail client's or browser's family, its system, and the class of the
-- verdict (human and proxy are opens; the others show no reader for certain). Empty: it does not tell.
-- hits: all of them. recipients: distinct people.
SELECT campaign, client, system, class, hits, recipients
FROM clients
WHERE {campaign:String} = '' OR campaign = {campaign:String}
ORDER BY hits DESC, campaign, client, system, class
LIMIT {limit:UInt64}
