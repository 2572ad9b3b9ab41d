-- Metrics of the rest: workers by state; the size of tables with their indexes and how many dead rows they have;
-- the schema's version. Of history the newest 100 days are measured, of older ones the server's own figures taken.
with parts as (
    select p.name, coalesce(i.inhrelid, p.oid) as oid,
           row_number() over (partition by p.name order by i.inhrelid desc) as age
    from (select u.name, ('watchbell.' || u.name)::regclass::oid as oid
          from unnest(watchbell.day_parents() || '{runs_live,schedules,watch_claims,workers}'::text[]) u (name)) p
    left join pg_catalog.pg_inherits i on i.inhparent = p.oid
)
select (select jsonb_object_agg(x.state, (select count(*) from watchbell.workers w where w.state = x.state))
        from unnest('{starting,running,draining,stopped,dead}'::text[]) x (state)),
       (select jsonb_object_agg(x.name, jsonb_build_array(x.size, x.dead))
        from (select p.name,
                     sum(case when p.age <= 100 then coalesce(pg_catalog.pg_total_relation_size(p.oid), 0)
                              else c.relpages * current_setting('block_size')::bigint end)::bigint as size,
                     sum(coalesce(pg_catalog.pg_stat_get_dead_tuples(p.oid), 0))::bigint as dead
              from parts p join pg_catalog.pg_class c on c.oid = p.oid
              group by p.name) x),
       (select max(m.version) from watchbell.migrations m)
