-- An erasure waits until the engine has removed the parts of before. Where little happens it looks for
-- such only every five minutes; so it does every five seconds.
ALTER TABLE {database}.events{local}{on_cluster}
    MODIFY SETTING cleanup_delay_period = 5, max_cleanup_delay_period = 5, cleanup_delay_period_random_add = 0;
ALTER TABLE {database}.dead_letter{local}{on_cluster}
    MODIFY SETTING cleanup_delay_period = 5, max_cleanup_delay_period = 5, cleanup_delay_period_random_add = 0;
ALTER TABLE {database}.last_opens{local}{on_cluster}
    MODIFY SETTING cleanup_delay_period = 5, max_cleanup_delay_period = 5, cleanup_delay_period_random_add = 0;
