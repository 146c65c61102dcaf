-- In hygiene mode, the date (UTC) of a recipient's last open; see `heliograph export --help`.
SELECT
    if(max(day) = toDate(0), 'none by a person', toString(max(day)))
        || if(max(seen) = toDate(0), '', '; something else in '
            || formatDateTime(max(seen), '%Y-%m') || ' or before') AS last_open
FROM last_opens
WHERE recipient = {recipient:String}
GROUP BY recipient
