-- In hygiene mode, the date (UTC) of a recipient's last open; see `heliograph export --help`.
SELECT if(max(day) = toDate(0), 'none by a person, but something was seen', toString(max(day))) AS last_open
FROM last_opens
WHERE recipient = {recipient:String}
GROUP BY recipient
