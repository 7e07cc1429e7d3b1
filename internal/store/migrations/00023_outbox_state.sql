-- +goose Up

-- How full the outbox is, for every role: a process that may not read the rows has to
-- report that they wait. It looks at the first 10,000 rows by the primary key.
-- +goose statementbegin
create function krib_outbox_state(out waiting integer, out oldest_seconds double precision, out set_aside integer)
  language plpgsql stable security definer set search_path = pg_catalog, public, pg_temp as $$
begin
  select count(*), coalesce(greatest(0, extract(epoch from clock_timestamp() - min(created_at))), 0) into waiting, oldest_seconds
    from (select created_at from public.outbox order by id limit 10000) o;
  select count(*) into set_aside from (select 1 from public.outbox_stuck limit 10000) s;
end $$;
-- +goose statementend
revoke execute on function krib_outbox_state from public;
grant execute on function krib_outbox_state to krib_api, krib_relay, krib_sink, krib_jobs;

-- +goose Down
drop function krib_outbox_state;
