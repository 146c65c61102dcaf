-- Opens by the program that fetched the pixel, as it names itself.
-- opens: all of them. recipients: distinct people.
SELECT campaign, user_agent, opens, recipients
FROM clients
WHERE {campaign:String} = '' OR campaign = {campaign:String}
ORDER BY opens DESC, campaign, user_agent
LIMIT {limit:UInt64}
