-- Recipients of many mails without any evidence of reading; see `heliograph inactive --help`.
SELECT
    recipient, sends, formatDateTime(last_send, '%FT%TZ') AS last_send,
    if(undecidable, 'only hits that show no reader, or from before the window: it cannot be told',
        'images may be blocked') AS note
FROM ({inactive})
WHERE NOT active AND (NOT undecidable OR {undecidable:UInt8})
ORDER BY undecidable, recipient
