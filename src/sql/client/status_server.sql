-- Which database this is, and its schema.
select current_database()::text as database, current_setting('server_version') as server_version, now() as at,
    (select max(m.version) from watchbell.migrations m) as schema_version
