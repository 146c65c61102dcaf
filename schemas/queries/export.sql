-- All that is stored of a recipient, with the receipts of their mails; see `heliograph export --help`.
SELECT *
FROM events
WHERE recipient = {recipient:String} OR kind = 'receipt' AND trim(BOTH '<>' FROM message_id) IN
    (SELECT trim(BOTH '<>' FROM message_id) FROM events
        WHERE kind = 'sent' AND message_id != '' AND recipient = {recipient:String})
ORDER BY ts, journal, seq
