-- The time of the last open or click, in Unix milliseconds; 0 if there is none.
SELECT toUnixTimestamp64Milli(max(ts)) AS at FROM events WHERE kind IN ('open', 'click')
